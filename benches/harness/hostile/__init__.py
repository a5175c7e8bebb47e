"""Bad targets, bad clients and bad rules, and what measures the server beside them. Read next: `soak.py`, `inputs.py`."""
