#!/usr/bin/env python3
"""Asks the same questions of Perennial's SQL, of DuckDB over the same samples as Parquet, and, where it can answer them, of
VictoriaMetrics and of Perennial's PromQL. Prints a table of wall and CPU milliseconds.

    pip install duckdb
    benches/sql.py                                  # 28.8 million samples: 20,000 series, six hours at 15 s
    benches/sql.py --series 5000 --hours 2          # quick: 2.4 million
    benches/sql.py --servers perennial,duckdb       # without VictoriaMetrics

Perennial is asked while it runs, with the newest two hours in its head and the rest in blocks. DuckDB reads one file that
`perennial export --format=parquet` made of the same data directory: a column per label, sorted by series and time. It is
asked in this process, with a connection of its own for each question, so that nothing is cached but what the operating
system caches. CPU is that of the process that answers, all threads; each figure is the median of `--rounds`.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from harness import load, process, remote_write, report, servers

from run import find_perennial

STEP = 15
# Each question: its name, then by who answers: how. {from} and {to} are RFC 3339, {seconds} is a number.
QUESTIONS = [
    ("SELECT 1", {
        "sql": "SELECT 1",
        "duckdb": "SELECT 1",
    }),
    ("samples there are", {
        "sql": "SELECT count(*) AS n FROM samples.samples WHERE ts >= '{from}' AND ts < '{to}'",
        "duckdb": "SELECT count(*) AS n FROM samples",
    }),
    ("mean by job of all raw samples", {
        "sql": "SELECT job, avg(value) AS mean FROM samples.samples WHERE ts >= '{from}' AND ts < '{to}' GROUP BY job",
        "duckdb": "SELECT job, avg(value) AS mean FROM samples GROUP BY job",
    }),
    ("mean by job of the raw samples of one metric", {
        "sql": "SELECT job, avg(value) AS mean FROM samples.queue_depth WHERE ts >= '{from}' AND ts < '{to}' GROUP BY job",
        "duckdb": "SELECT job, avg(value) AS mean FROM samples WHERE __name__ = 'queue_depth' GROUP BY job",
        "promql": "sum by (job) (sum_over_time(queue_depth[{seconds}s])) / sum by (job) (count_over_time(queue_depth[{seconds}s]))",
    }),
    ("largest by instance and five minutes, one metric", {
        "sql": "SELECT date_bin('5 minutes', ts) AS t, instance, max(value) AS most FROM samples.queue_depth "
               "WHERE ts >= '{from}' AND ts < '{to}' GROUP BY 1, 2",
        "duckdb": "SELECT time_bucket(INTERVAL '5 minutes', timestamp) AS t, instance, max(value) AS most FROM samples "
                  "WHERE __name__ = 'queue_depth' GROUP BY 1, 2",
    }),
    ("longest gap of each series of one metric", {
        "sql": "SELECT instance, queue, max(gap) AS longest FROM (SELECT instance, queue, ts - lag(ts) OVER "
               "(PARTITION BY instance, queue ORDER BY ts) AS gap FROM samples.queue_depth "
               "WHERE ts >= '{from}' AND ts < '{to}') x GROUP BY instance, queue",
        "duckdb": "SELECT instance, queue, max(gap) AS longest FROM (SELECT instance, queue, timestamp - lag(timestamp) OVER "
                  "(PARTITION BY instance, queue ORDER BY timestamp) AS gap FROM samples "
                  "WHERE __name__ = 'queue_depth') x GROUP BY instance, queue",
    }),
    ("sum by rate, a point a minute", {
        "sql": "SELECT date_bin('1 minute', ts) AS t, job, sum(rate(value, '5m')) AS rps FROM http_requests_total "
               "WHERE ts BETWEEN '{from}' AND '{to}' GROUP BY 1, 2",
        "range": "sum by (job) (rate(http_requests_total[5m]))",
    }),
]


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--servers", default="perennial,duckdb,victoria", help="comma-separated")
    p.add_argument("--perennial", default=find_perennial(), metavar="PATH", help="the binary under test")
    process.peer_arguments(p, "prometheus", "victoria-metrics", "vmalert")
    p.add_argument("--series", type=int, default=20000, help="a multiple of 500 (%(default)s)")
    p.add_argument("--hours", type=float, default=6, help="history at 15 s (%(default)s)")
    p.add_argument("--rounds", type=int, default=7, help="asks of each question (%(default)s)")
    p.add_argument("--settle", type=float, default=15, help="rest after writing (%(default)s s)")
    p.add_argument("--json", metavar="FILE", help="also write all figures as JSON")
    return p.parse_args()


class Asked:
    """A process that answers, and how: `ask(text)` returns how many rows there are."""

    def __init__(self, cpu_seconds, ask):
        self.cpu_seconds, self.ask = cpu_seconds, ask

    def figures(self, text, rounds):
        """Median wall and CPU milliseconds; an answer without rows is an error."""
        rows = self.ask(text)
        if not rows:
            raise RuntimeError(f"no rows for {text}")
        walls, cpus = [], []
        for _ in range(rounds):
            # A process' CPU is counted in hundredths of a second: short questions are asked until some have passed.
            before, begin, asks = self.cpu_seconds(), time.perf_counter(), 0
            while asks == 0 or (self.cpu_seconds() - before < 0.2 and time.perf_counter() - begin < 1):
                self.ask(text)
                asks += 1
            walls.append((time.perf_counter() - begin) / asks * 1000)
            cpus.append((self.cpu_seconds() - before) / asks * 1000)
        return statistics.median(walls), statistics.median(cpus)


def post(server, text):
    """Rows of a statement, as the server's JSON has them."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/api/v1/sql", text.encode(),
                                     {"Content-Type": "application/sql"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return len(json.load(answer)["data"]["rows"])


def instant(server, query, t):
    return len(server.get("/api/v1/query", query=query, time=t, nocache=1)["data"]["result"])


def ranged(server, query, start, end):
    found = server.get("/api/v1/query_range", query=query, start=start, end=end, step=60, nocache=1)
    return len(found["data"]["result"])


def fill(kind, directory, options, end):
    """A server with the samples in it."""
    server = kind(directory, options)
    server.disable_cache = True
    server.start("scrape_configs: []\n" if kind is not servers.Victoria else "scrape_configs:\n")
    members = load.targets(options.series)
    options.samples = remote_write.fill(server.port, members, end - 86400, end - options.hours * 3600, end, STEP)
    time.sleep(options.settle)
    return server


def of_server(server, options, end, languages):
    """The figures of a server: question → language → (wall, CPU)."""
    start = end - options.hours * 3600
    # A window of PromQL leaves its begin out, and has its end: one ms earlier it has the samples that the others have.
    ways = {
        "sql": Asked(server.cpu_seconds, lambda text: post(server, text)),
        "promql": Asked(server.cpu_seconds, lambda text: instant(server, text, end - 0.001)),
        "range": Asked(server.cpu_seconds, lambda text: ranged(server, text, start, end)),
    }
    return ask_all({name: ways[name] for name in languages}, options, end)


def ask_all(ways, options, end):
    words = {"from": iso(end - options.hours * 3600), "to": iso(end), "seconds": round(options.hours * 3600)}
    found = {}
    for name, texts in QUESTIONS:
        for language in ways.keys() & texts.keys():
            text = texts[language].format(**words)
            found.setdefault(name, {})[language] = ways[language].figures(text, options.rounds)
    return found


def iso(t):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(t))


def of_duckdb(server, directory, options, end):
    """The figures of DuckDB over an export of the data of a server that has ended."""
    import duckdb
    path = os.path.join(directory, "samples.parquet")
    subprocess.run([options.perennial, "export", f"--storage.tsdb.path={server.path('data')}", "--match={__name__=~\".+\"}",
                    "--format=parquet", f"--output={path}"], check=True, stdout=subprocess.DEVNULL)

    def ask(text):
        with duckdb.connect() as connection:
            connection.execute(f"SET threads = {os.cpu_count()}")
            connection.execute(f"CREATE VIEW samples AS SELECT * FROM read_parquet('{path}')")
            return len(connection.execute(text).fetchall())
    print(f"- duckdb: {duckdb.__version__}, over {os.path.getsize(path) / 1e6:.0f} MB of Parquet", flush=True)
    return ask_all({"duckdb": Asked(time.process_time, ask)}, options, end)


def main():
    options = arguments()
    wanted = options.servers.split(",")
    directory = tempfile.mkdtemp(prefix="bench-sql-")
    end = float(int(time.time()) // 60 * 60)
    results = {}
    print(f"{report.machine()}", flush=True)
    try:
        with fill(servers.Perennial, os.path.join(directory, "perennial"), options, end) as server:
            print(f"- perennial: {options.samples / 1e6:.1f} million samples of {options.series} series", flush=True)
            for name, by_language in of_server(server, options, end, ["sql", "promql", "range"]).items():
                for language, figures in by_language.items():
                    column = "Perennial, SQL" if language == "sql" else "Perennial, PromQL"
                    results.setdefault(name, {})[column] = figures
        if "duckdb" in wanted:
            for name, by_language in of_duckdb(server, directory, options, end).items():
                results[name]["DuckDB"] = by_language["duckdb"]
        if "victoria" in wanted:
            with fill(servers.Victoria, os.path.join(directory, "victoria"), options, end) as victoria:
                for name, by_language in of_server(victoria, options, end, ["promql", "range"]).items():
                    results[name]["VictoriaMetrics"] = next(iter(by_language.values()))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(table(results))
    if options.json:
        with open(options.json, "w") as f:
            json.dump({"machine": report.machine(), "samples": options.samples, "figures": results}, f, indent=1)


def table(results):
    """Wall and CPU ms of each question, by who answers."""
    columns = list(dict.fromkeys(column for figures in results.values() for column in figures))
    lines = ["| wall / CPU, ms | " + " | ".join(columns) + " |", "|---" + "|--:" * len(columns) + "|"]
    cell = lambda pair: f"{report.number(pair[0])} / {report.number(pair[1])}" if pair else "–"
    for name, figures in results.items():
        lines.append(f"| {name} | " + " | ".join(cell(figures.get(column)) for column in columns) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
