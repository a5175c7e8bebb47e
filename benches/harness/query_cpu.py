"""CPU of queries: each server holds the same hours of samples and answers a list of questions, range and instant.

The other query experiment ([`experiments.queries`]) takes latency on an idle machine; this one takes CPU time,
which a machine that others use falsifies less. What each server has in memory and what in blocks when it is
asked is its own business after `--settle` seconds of rest; `docs/benchmarks.md` says what it was.
"""

import http.client
import json
import os
import statistics
import time
import urllib.parse
import urllib.request

from . import load, remote_write, servers

COUNTERS = "http_requests_total"
BUCKETS = "http_request_duration_seconds_bucket"

# Names drop out of rates, and `_sum` and `_count` would then be one series twice.
QUERIES = {
    "sum by rate, all but _sum": 'sum by (job) (rate({job=~".+",__name__!="http_request_duration_seconds_sum"}[5m]))',
    "sum by rate, request counters": f"sum by (job, code) (rate({COUNTERS}[5m]))",
    "histogram_quantile, by job": f"histogram_quantile(0.99, sum by (le, job) (rate({BUCKETS}[5m])))",
    "histogram_quantile, by instance, route":
        f"histogram_quantile(0.99, sum by (le, instance, route) (rate({BUCKETS}[5m])))",
    "ratio of sums, by job": f'sum by (job) (rate({COUNTERS}{{code="500"}}[5m])) / sum by (job) (rate({COUNTERS}[5m]))',
    "ratio of sums, by instance, route":
        f'sum by (instance, route) (rate({COUNTERS}{{code="500"}}[5m])) '
        f'/ sum by (instance, route) (rate({COUNTERS}[5m]))',
    "max_over_time[1h], max by job": "max by (job) (max_over_time(queue_depth[1h]))",
    "max_over_time[1h], every series": "max_over_time(queue_depth[1h])",
    "regex, sum by rate":
        f'sum by (job) (rate({COUNTERS}{{route=~"/api/v1/route1.*",code=~"2..|5..",instance=~"host.+:9100"}}[5m]))',
    "regex, every series": 'queue_depth{queue=~"q[12].?",instance=~"host(1|2).*"}',
    "subquery over a sum": f"max_over_time(sum by (job) (rate({COUNTERS}[5m]))[30m:1m])",
    "subquery over every series": f"sum by (job) (max_over_time(rate({COUNTERS}[5m])[30m:1m]))",
}

# By 40 targets: 20,000 series in all.
INSTANT = {
    "count of all series": 'count({__name__=~".+"})',
    "sum by job of 40 series": 'sum by (job) (node_cpu_seconds_total{cpu="0",mode="idle"})',
    "sum by job of 2,400": "sum by (job) (queue_depth)",
    "topk of 2,400": "topk(5, queue_depth)",
    "comparison of 2,400": "queue_depth > 5000",
    "40 series": 'node_cpu_seconds_total{cpu="0",mode="idle"}',
    "1,000 series": 'queue_depth{queue=~"q([0-9]|1[0-9]|2[0-4])"}',
    "9,600 series": "http_requests_total",
}


def instant_cpu(kind, options):
    """CPU milliseconds per instant query at the newest sample, as [`query_cpu`], over one connection."""
    options.hours = 0.5
    with kind(_directory(kind, options), options) as server:
        server.disable_cache = True
        end = _fill(server, kind, options)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        ask = lambda url: _over(connection, url)
        return {f"{name} (ms)": _cpu(server, server.url("/api/v1/query", query=query, time=end), options, ask)
                for name, query in INSTANT.items() if any(part in name for part in options.only.split(","))}


def _over(connection, url):
    connection.request("GET", url.split(str(connection.port), 1)[1])
    return connection.getresponse().read()


def query_cpu(kind, options):
    """CPU milliseconds per ask: the median of `--rounds` rounds, each of which spends at least 0.3 s of CPU."""
    with kind(_directory(kind, options), options) as server:
        server.disable_cache = True
        end = _fill(server, kind, options)
        start, figures = end - options.hours * 3600, {}
        for name, query in QUERIES.items():
            if not any(part in name for part in options.only.split(",")):
                continue
            range_ask = server.url("/api/v1/query_range", query=query, start=start, end=end, step=options.step)
            figures[f"range: {name} (ms)"] = _cpu(server, range_ask, options)
            figures[f"instant: {name} (ms)"] = _cpu(server, server.url("/api/v1/query", query=query, time=end), options)
        return figures


def _directory(kind, options):
    return os.path.join(options.reuse, kind.name) if options.reuse else options.directory


def _end(options):
    """Time of the last samples, the same for all servers of a run; kept beside the samples that are kept."""
    note = options.reuse and os.path.join(options.reuse, "end")
    if note and os.path.exists(note):
        with open(note) as f:
            return float(f.read())
    if not hasattr(options, "end"):
        options.end = float(int(time.time()) // 60 * 60)
    if note:
        os.makedirs(options.reuse, exist_ok=True)
        with open(note, "w") as f:
            f.write(str(options.end))
    return options.end


def _fill(server, kind, options):
    """Starts the server with the samples in it; the time of the last ones. With `--reuse` they are written once."""
    end, filled = _end(options), server.path("filled")
    server.start("scrape_configs: []\n" if kind is not servers.Victoria else "scrape_configs:\n")
    if not os.path.exists(filled):
        members = load.targets(options.series)
        remote_write.fill(server.port, members, end - 86400, end - options.hours * 3600, end + 15, 15)
        server.write("filled", "")
    time.sleep(options.settle)
    return end


def _cpu(server, url, options, ask=None):
    ask = ask or _ask
    rows = json.loads(ask(url))["data"]["result"]
    if not rows:
        raise RuntimeError("the server did not do the work: no rows for " + url)
    taken = []
    for _ in range(options.rounds):
        before, asks = server.cpu_seconds(), 0
        while asks < 1000 and (asks == 0 or server.cpu_seconds() - before < 0.3):
            ask(url)
            asks += 1
        taken.append((server.cpu_seconds() - before) / asks * 1000)
    return statistics.median(taken)


def _ask(url):
    with urllib.request.urlopen(url, timeout=300) as answer:
        return answer.read()
