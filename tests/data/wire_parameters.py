"""Parameters of psycopg over the wire, in text and in binary form. Prints JSON. Argument: the port."""
import datetime, decimal, json, sys
import psycopg

connection = psycopg.connect(f"host=127.0.0.1 port={sys.argv[1]} user=ana dbname=x", autocommit=True)


def asked(binary):
    def ask(statement, *values):
        # %t and %b say in which form psycopg sends a value.
        text = statement.replace("%s", "%b" if binary else "%t")
        return connection.cursor(binary=binary).execute(text, values).fetchall()

    def first(*arguments):
        return [row[0] for row in ask(*arguments)]

    time = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, datetime.timezone.utc)
    span = datetime.timedelta(days=1, seconds=1)
    times = ask("SELECT %s::timestamptz, %s::date, %s::interval", time, time.date(), span)[0]
    decimals = first("SELECT %s::numeric(10,2)", decimal.Decimal("12.50"))
    return {
        "list": first("SELECT a FROM x WHERE a = ANY(%s)", ["2", "9"]),
        "numbers": first("SELECT a FROM x WHERE value = ANY(%s)", [5, 7]),
        "none of": first("SELECT a FROM x WHERE a <> ALL(%s)", ["2"]),
        "limit": first("SELECT a FROM x ORDER BY a LIMIT %s OFFSET %s", 1, 1),
        "typed": list(ask("SELECT %s::int8, %s::float8, %s::text, %s::bool, %s::text", 7, 2.5, "x'y", True, None)[0]),
        "time": [times[0].isoformat(), times[1].isoformat(), str(times[2])],
        "decimal": str(decimals[0]),
        "catalog": first("SELECT relname FROM pg_class WHERE relname = ANY(%s)", ["pg_am"]),
    }


def state(statement):
    try:
        connection.execute(statement)
    except psycopg.Error as e:
        return e.sqlstate
    return None


errors = [
    state(statement)
    for statement in (
        "SELECT 'x'::int8",
        "SELECT a FROM x WHERE a = ANY('x')",
        "SELECT 300000::int2",
        "SELECT a + 1 FROM x",
        "SELECT * FROM x WHERE ts",
        "SELECT y.a FROM x",
    )
]
print(json.dumps({"text": asked(False), "binary": asked(True), "errors": errors}))
