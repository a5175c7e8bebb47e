"""What pyarrow makes of the stream of a statement: a line of JSON. The port is the first argument, the time of now() the
second, the statement the third."""

import json
import sys
import urllib.request

import pyarrow.ipc

port, now, statement = sys.argv[1:]
request = urllib.request.Request(
    f"http://127.0.0.1:{port}/api/v1/sql",
    json.dumps({"sql": statement, "time": int(now)}).encode(),
    {"Content-Type": "application/json", "Accept": "application/vnd.apache.arrow.stream"},
)
with urllib.request.urlopen(request) as response:
    table = pyarrow.ipc.open_stream(response).read_all()
kinds = [str(field.type) for field in table.schema]
frame = table.to_pandas()
rows = [[str(cell) for cell in row] for row in frame.itertuples(index=False)]
print(json.dumps({"names": table.column_names, "kinds": kinds, "rows": rows}))
