"""Prints every sample of a data directory's blocks as `name{labels} ts bits`, read by DuckDB, pyarrow or pandas.

Usage: open_blocks.py duckdb|pyarrow|pandas DATA_DIRECTORY. `bits` is the value's 64 bits in hex, `stale` for the
end of a series. pyarrow and pandas follow docs/format/block.md by hand; DuckDB runs the directory's open.sql.
"""

import glob
import os
import struct
import sys


def line(metric, labels, ts, value):
    pairs = ",".join(f"{k}={v}" for k, v in sorted(labels))
    bits = "stale" if value is None else struct.pack(">d", value).hex()
    return f"{metric}{{{pairs}}} {ts} {bits}"


def by_duckdb(directory):
    import duckdb

    os.chdir(directory)
    db = duckdb.connect()
    with open("open.sql") as f:
        db.execute(f.read())
    rows = db.execute("select metric, labels, ts, value from samples join series using (block, series_id)")
    return [line(metric, labels.items(), ts, value) for metric, labels, ts, value in rows.fetchall()]


def decoded(rows, clocks, series):
    """The samples of `rows` (dicts of samples.parquet), with clocks and series by their ids."""
    for row in rows:
        gaps = set(row["gaps"])
        times = [t for at, t in enumerate(clocks[row["clock_id"]]) if at not in gaps]
        values = row["raw"] if row["exp"] < 0 else [None if m is None else m / 10.0 ** row["exp"] for m in row["m"]]
        assert len(times) == len(values) == row["n"]
        metric, labels = series[row["series_id"]]
        for t, v in zip(times, values):
            yield line(metric, labels, t, v)


def by_pyarrow(directory):
    import pyarrow.parquet as pq

    for block in glob.glob(directory + "/blocks/*_*_*"):
        table = lambda name: pq.read_table(f"{block}/{name}.parquet").to_pylist()
        clocks = {row["clock_id"]: row["ts"] for row in table("clocks")}
        series = {row["series_id"]: (row["__name__"], row["labels"]) for row in table("series")}
        yield from decoded(table("samples"), clocks, series)


def by_pandas(directory):
    import pandas as pd

    # Arrow's types: pandas' own turn a missing element of a list of doubles into a NaN.
    read = lambda block, name: pd.read_parquet(f"{block}/{name}.parquet", dtype_backend="pyarrow")
    for block in glob.glob(directory + "/blocks/*_*_*"):
        clocks = dict(read(block, "clocks")[["clock_id", "ts"]].itertuples(index=False))
        series = {i: (name, labels) for i, name, labels in read(block, "series")[["series_id", "__name__", "labels"]].itertuples(index=False)}
        rows = read(block, "samples").to_dict("records")
        yield from decoded(rows, clocks, series)


if __name__ == "__main__":
    reader, data = sys.argv[1:]
    print("\n".join({"duckdb": by_duckdb, "pyarrow": by_pyarrow, "pandas": by_pandas}[reader](data)))
    # Arrow's threads now and then abort an interpreter that ends (apache/arrow#34314).
    sys.stdout.flush()
    os._exit(0)
