"""What psycopg gets over the PostgreSQL wire: a line of JSON. The port is the first argument."""

import json
import sys
import threading

import psycopg
from psycopg.types import TypeInfo

connection = psycopg.connect(f"host=127.0.0.1 port={sys.argv[1]} user=ana dbname=x")
found = {}
found["version"] = connection.info.server_version
found["param"] = connection.execute("SELECT job, value FROM x WHERE a = %s ORDER BY job", ("1",)).fetchall()
binary = connection.cursor(binary=True)
binary.execute("SELECT 1::int8 AS i, 1.5::float8 AS f, 'a' AS t, true AS b, ts > '2020-01-01T00:00:00Z' AS late, ts FROM x LIMIT 1")
row = binary.fetchone()
found["binary"] = [row[:5], row[5].tzinfo is not None, [column.type_code for column in binary.description]]
found["number"] = connection.execute("SELECT %s::float8 + 1", (2.5,)).fetchone()
found["type"] = str(TypeInfo.fetch(connection, "text"))
connection.commit()
try:
    connection.execute("SELECT job,\n rat(value) FROM x")
except psycopg.Error as error:
    found["error"] = [error.sqlstate, error.diag.message_hint, error.diag.statement_position]
try:
    connection.execute("SELECT 1")
except psycopg.Error as error:
    found["failed"] = error.sqlstate
connection.rollback()
slow = "SELECT count(*) FROM flags a, flags b, flags c, flags d, flags e, flags f WHERE a.value < b.value"
threading.Timer(0.3, connection.cancel).start()
try:
    connection.execute(slow)
except psycopg.Error as error:
    found["canceled"] = error.sqlstate
connection.rollback()
connection.execute("SET statement_timeout = '200ms'")
try:
    connection.execute(slow)
except psycopg.Error as error:
    found["timeout"] = error.sqlstate
connection.rollback()
connection.execute("SET statement_timeout = 0")
found["streamed"] = [row[0] for row in connection.cursor().stream("SELECT a FROM x ORDER BY a")]
connection.close()
print(json.dumps(found))
