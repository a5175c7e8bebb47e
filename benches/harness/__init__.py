"""Parts of the benchmark harness. Start reading at `benches/run.py`."""
