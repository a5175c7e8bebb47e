"""Prints every row of an exported Parquet file as `labels ts bits`, read by DuckDB, pyarrow or pandas.

Usage: read_export.py duckdb|pyarrow|pandas FILE. `bits` is the value's 64 bits in hex, `stale` for the end of a
series; a histogram is its text.
"""

import os
import struct
import sys

OWN = ("timestamp", "value", "histogram")


def line(row):
    labels = ",".join(f"{k}={v}" for k, v in sorted(row.items()) if k not in OWN and isinstance(v, str))
    value, histogram = row["value"], row.get("histogram")
    if isinstance(histogram, str):
        return f"{labels} {row['timestamp']} {histogram}"
    bits = "stale" if value is None else struct.pack(">d", value).hex()
    return f"{labels} {row['timestamp']} {bits}"


def by_duckdb(path):
    import duckdb

    rows = duckdb.connect().execute(f"select * replace (epoch_ms(timestamp) as timestamp) from '{path}'")
    names = [column[0] for column in rows.description]
    return [dict(zip(names, row)) for row in rows.fetchall()]


def by_pyarrow(path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    at = table.schema.get_field_index("timestamp")
    return table.set_column(at, "timestamp", table.column(at).cast(pa.int64())).to_pylist()


def by_pandas(path):
    import pandas as pd

    frame = pd.read_parquet(path, dtype_backend="pyarrow")
    frame["timestamp"] = frame["timestamp"].astype("int64[pyarrow]")
    return [{k: None if v is pd.NA else v for k, v in row.items()} for row in frame.to_dict("records")]


readers = {"duckdb": by_duckdb, "pyarrow": by_pyarrow, "pandas": by_pandas}
for row in readers[sys.argv[1]](sys.argv[2]):
    print(line(row))
# Arrow's threads now and then abort an interpreter that ends (apache/arrow#34314).
sys.stdout.flush()
os._exit(0)
