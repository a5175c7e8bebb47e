"""COPY, cursors and SUBSCRIBE with psycopg: a line of JSON. The port is the first argument."""

import json
import socket
import struct
import sys
import threading
import time

import psycopg

address = f"host=127.0.0.1 port={sys.argv[1]} user=ana dbname=x"
connection = psycopg.connect(address, autocommit=True)
found = {}
connection.execute("CREATE TABLE t (k int8 PRIMARY KEY, v text)")
cursor = connection.cursor()
cursor.executemany("INSERT INTO t (k, v) VALUES (%s, %s)", [(-1, "a"), (-2, None)])
found["inserted"] = cursor.rowcount
with cursor.copy("COPY t (k, v) FROM STDIN") as copy:
    for n in range(1000):
        copy.write_row((n, f"{n}\ttab"))
found["copied"] = cursor.rowcount


def count():
    return connection.execute("SELECT count(*) FROM t WHERE v = 'half'").fetchone()[0]


try:
    with cursor.copy("COPY t FROM STDIN") as copy:
        copy.write_row((5000, "half"))
        raise ValueError("given up")
except ValueError:
    pass
found["given up"] = count()

# A client that goes away in the middle.
other = psycopg.connect(address, autocommit=True)
copying = other.cursor().copy("COPY t FROM STDIN")
copying.__enter__().write_row((5001, "half"))
raw = socket.socket(fileno=other.pgconn.socket)
raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
raw.close()
time.sleep(0.3)
found["gone"] = count()
try:
    with cursor.copy("COPY t FROM STDIN (FORMAT csv)") as copy:
        copy.write(b"6000,half\n5,again\n")
except psycopg.Error as error:
    found["broken"] = [error.sqlstate, error.diag.message_primary[:27]]
with cursor.copy("COPY t (k, v) FROM STDIN (FORMAT BINARY)") as copy:
    copy.set_types(["int8", "text"])
    for row in [(8000, "two"), (8001, None)]:
        copy.write_row(row)
found["binary copied"] = cursor.rowcount
with cursor.copy("COPY (SELECT k, v FROM t WHERE k >= 8000 ORDER BY k) TO STDOUT (FORMAT BINARY)") as copy:
    copy.set_types(["int8", "text"])
    found["binary out"] = [list(row) for row in copy.rows()]
broken = []
for data in (
    b"8002\ttext\n",
    b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\0\1",
    b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\0\2\0\0\0\3abc",
):
    try:
        with cursor.copy("COPY t FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(data)
    except psycopg.Error as error:
        broken.append(error.sqlstate)
found["binary broken"] = broken
cursor.execute("DELETE FROM t WHERE k = 8000")
cursor.execute("DELETE FROM t WHERE k = 8001")
cursor.execute("INSERT INTO t VALUES (7000, %s)", ("after",))
found["after"] = connection.execute("SELECT count(*) FROM t").fetchone()[0]
with cursor.copy("COPY (SELECT a, value FROM x ORDER BY a) TO STDOUT") as copy:
    found["out"] = [list(row) for row in copy.rows()]

with connection.transaction():
    with connection.cursor(name="c") as rows:
        rows.itersize = 100
        rows.execute("SELECT k, v FROM t WHERE k > %s ORDER BY k", (-3,))
        found["described"] = [column.name for column in rows.description]
        first = len(rows.fetchmany(100))
        more = len(rows.fetchmany(3))
        rest = len(rows.fetchall())
        found["fetched"] = [first, more, rest, len(rows.fetchall())]
    with connection.cursor(name="b", binary=True) as rows:
        rows.execute("SELECT 1::int8 AS one, a FROM x WHERE a = '1'")
        found["binary"] = [list(row) for row in rows.fetchall()]
    connection.execute("DECLARE m CURSOR FOR SELECT k FROM t WHERE k > 0 ORDER BY k")
    connection.execute("MOVE 10 FROM m")
    found["moved"] = [str(row[0]) for row in connection.execute("FETCH 1 FROM m").fetchall()]


def state(statement, begins=True):
    try:
        if begins:
            with connection.transaction():
                connection.execute(statement)
        else:
            connection.execute(statement)
    except psycopg.Error as error:
        return error.sqlstate


found["missing"] = state("FETCH 1 FROM nothing")
found["outside"] = state("DECLARE c CURSOR FOR SELECT 1", begins=False)
try:
    with connection.transaction():
        for n in range(20):
            connection.execute(f"DECLARE c{n} CURSOR FOR SELECT k FROM t")
except psycopg.Error as error:
    found["cursors"] = error.sqlstate

changes = "SUBSCRIBE SELECT a, value FROM x"
with connection.transaction():
    connection.execute(f"DECLARE s CURSOR FOR {changes}")
    rows = connection.execute("FETCH 2 FROM s").fetchall()
    found["subscribed"] = sorted(list(row[1:]) for row in rows)
with cursor.copy(f"COPY ({changes} WHERE a = '1') TO STDOUT") as copy:
    row = bytes(copy.read()).decode().rstrip("\n")
    found["copied changes"] = row.split("\t", 1)[1]
    connection.cancel()
    try:
        while copy.read():
            pass
    except psycopg.Error as error:
        found["ended"] = error.sqlstate
connection.close()
print(json.dumps(found))
