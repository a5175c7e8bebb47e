"""Runs statements over the PostgreSQL wire, in the simple and in the extended protocol.

The port is the first argument, the time of now() the second; standard input has the statements, a list in
JSON. For each statement and protocol the answer is {"rows": [[[oid, text or null], ...], ...]} or
{"error": "..."}.
"""

import json
import sys

import psycopg

connection = psycopg.connect(f"host=127.0.0.1 port={sys.argv[1]} user=ana dbname=x", autocommit=True)
connection.execute(f"SET perennial.time = '{sys.argv[2]}'")


def answer(statement, is_prepared):
    cursor = connection.cursor()
    try:
        cursor.execute(statement, prepare=is_prepared)
    except psycopg.Error as error:
        return {"error": f"{place(statement, error)}{error.diag.message_primary}\nhint: {error.diag.message_hint}"}
    result = cursor.pgresult
    columns = range(result.nfields)
    cell = lambda row, column: [result.ftype(column), decoded(result.get_value(row, column))]
    return {"rows": [[cell(row, column) for column in columns] for row in range(result.ntuples)]}


def place(statement, error):
    """The position of an error as the texts over HTTP have it: line and column."""
    if error.diag.statement_position is None:
        return ""
    before = statement[: int(error.diag.statement_position) - 1]
    return f"line {before.count(chr(10)) + 1}, column {len(before.rsplit(chr(10), 1)[-1]) + 1}: "


def decoded(value):
    return None if value is None else value.decode()


print(json.dumps([[answer(statement, False), answer(statement, True)] for statement in json.load(sys.stdin)]))
