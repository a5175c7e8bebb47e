"""The experiments. Each takes a started-from-nothing server and returns a dict of named figures.

A figure's name carries its unit. Every experiment also checks that the work was done (rows, samples, rules,
notifications), because a server that skips work is always the fastest.
"""

import contextlib
import os
import random
import statistics
import sys
import time

from . import captures, load, notify, process, remote_write, rules, servers

HERE = os.path.dirname(os.path.abspath(__file__))


def exporter(options, epoch):
    """The exporter of the synthetic load as a process of its own; yields its port."""
    return exporter_of(options, "exporter.py", options.series, epoch)


@contextlib.contextmanager
def exporter_of(options, script, *arguments):
    """An exporter of this folder as a process of its own; yields its port."""
    port = process.free_port()
    p = process.Process([sys.executable, os.path.join(HERE, script), str(port), *map(str, arguments)],
                        os.path.join(options.directory, "exporter.log"))
    try:
        p.wait_ready(f"http://127.0.0.1:{port}/t/0", 60)
        yield port
    finally:
        p.stop()


@contextlib.contextmanager
def sink():
    """An Alertmanager that only counts; yields the object."""
    receiver = notify.Alertmanager(process.free_port())
    try:
        yield receiver
    finally:
        receiver.stop()


def epoch_of_run():
    """Time zero of the counters: a day ago, so that they have ordinary sizes and history fits before now."""
    return float(int(time.time()) - 86400)


def cores(server, seconds):
    """CPU seconds per second over the next `seconds`."""
    before, start = server.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (server.cpu_seconds() - before) / (time.monotonic() - start)


def check(condition, text):
    if not condition:
        raise RuntimeError("the server did not do the work: " + text)


def scrape(kind, options):
    """CPU per scraped sample when every series is known already."""
    epoch, members = epoch_of_run(), load.targets(options.series)
    series = sum(len(t.series) for t in members)
    with exporter(options, epoch) as port, kind(options.directory, options) as server:
        server.interval = options.scrape_interval or 1
        server.start(servers.scrape_jobs(members, port))
        time.sleep(2 * server.interval + 3)
        used = cores(server, options.seconds)
        up, seen = server.count("sum(up)"), server.count('count({job=~"job.+",instance=~"host.+"})')
        check(up == len(members), f"{up} of {len(members)} targets up")
        check(seen >= series, f"{seen} of {series} series")
        return {"cores": used, "CPU per sample (µs)": used * server.interval / series * 1e6}


def rules_cpu(kind, options):
    """CPU of the rules: cores with rules minus cores of scraping alone, in one process."""
    epoch, members = epoch_of_run(), load.targets(options.series)
    jobs = len({t.job for t in members})
    with exporter(options, epoch) as port, sink() as receiver, kind(options.directory, options) as server:
        server.interval, server.alertmanager_port = options.scrape_interval or options.rule_interval, receiver.port
        config = servers.scrape_jobs(members, port)
        prefill = options.prefill * 60
        if prefill:
            server.start("scrape_configs: []\n" if kind is not servers.Victoria else "scrape_configs:\n")
            now = time.time()
            remote_write.fill(server.port, members, epoch, now - prefill, now, server.interval)
            server.__exit__()
            server.processes.clear()
        server.start(config)
        time.sleep(13)
        baseline = cores(server, max(10, options.seconds / 3))
        server.add_rules(rules.rule_file(options.rules, jobs, f"{options.rule_interval}s"))
        time.sleep(12)
        loaded = server.rules_loaded()
        check(loaded == options.rules, f"{loaded} of {options.rules} rules loaded")
        total = cores(server, options.seconds)
        rows = server.count('count({__name__=~"bench:.+"})')
        names = server.count('count(count by (__name__) ({__name__=~"bench:.+"}))')
        recorded = sum(1 for i in range(options.rules) if rules.rule(i, jobs)[2] is None)
        check(names == recorded, f"{names} of {recorded} recording rules have results")
        return {"scraping (cores)": baseline, "rules (cores)": total - baseline, "recorded series": rows}


def remote_write_cpu(kind, options):
    """CPU per sample received by remote write: one sample of 500 series per request."""
    epoch, members = epoch_of_run(), load.targets(options.series)
    with kind(options.directory, options) as server:
        server.start("scrape_configs: []\n" if kind is not servers.Victoria else "scrape_configs:\n")
        end = float(int(time.time()))
        remote_write.fill(server.port, members, epoch, end - 1800, end - 1770, 15)
        before, start = server.cpu_seconds(), time.monotonic()
        rounds = min(110, max(4, int(options.seconds * 2)))
        sent = remote_write.fill(server.port, members, epoch, end - 15 * rounds, end, 15)
        wall = time.monotonic() - start
        time.sleep(2)
        used = server.cpu_seconds() - before
        for name in ("http_requests_total", "queue_depth"):
            kept = server.count(f"sum(count_over_time({name}[{15 * rounds + 5}s]))", time=end)
            written = rounds * sum(n == name for t in members for n, _ in t.series)
            check(kept == written, f"{kept} of {written} samples of {name} kept")
        return {"CPU per sample (µs)": used / sent * 1e6, "samples per second": sent / wall}


def series_of(options):
    """The targets whose samples are written: of `--captures`, or the synthetic load."""
    return captures.targets(options.captures, options.series) if options.captures else load.targets(options.series)


def memory(kind, options):
    """Resident memory per active series after `--hours` of samples, 15 s apart, written as fast as possible."""
    epoch, members = epoch_of_run(), series_of(options)
    series = sum(len(t.series) for t in members)
    with kind(options.directory, options) as server:
        server.start("scrape_configs: []\n" if kind is not servers.Victoria else "scrape_configs:\n")
        time.sleep(3)
        empty = server.memory_bytes()
        end = float(int(time.time()))
        sent = remote_write.fill(server.port, members, epoch, end - options.hours * 3600, end, 15)
        time.sleep(options.settle)
        full = server.memory_bytes()
        alive = server.count('count({job=~".+"})', time=end)
        check(alive == series, f"{alive} of {series} series alive")
        return {"resident per series (kB)": (full[0] - empty[0]) / series / 1000,
                "anonymous per series (kB)": (full[1] - empty[1]) / series / 1000,
                "resident when empty (MB)": empty[0] / 1e6, "samples per series": sent / series}


def restart(kind, options):
    """From kill -9 to ready, and what was lost, after `--hours` of samples 15 s apart."""
    epoch, members = epoch_of_run(), series_of(options)
    with kind(options.directory, options) as server:
        nothing = "scrape_configs: []\n" if kind is not servers.Victoria else "scrape_configs:\n"
        server.start(nothing)
        end = float(int(time.time()))
        remote_write.fill(server.port, members, epoch, end - options.hours * 3600, end, 15)
        time.sleep(options.settle)
        name = members[0].series[0][0] if options.captures else "queue_depth"
        ask = "sum(count_over_time(%s[%dh]))" % (name, options.hours + 1)
        before = server.count(ask, time=end)
        check(before > 0, "nothing was written")
        steady = server.memory_bytes()[0]
        for p in server.processes:
            p.child.kill()
            p.child.wait()
        server.processes.clear()
        start = time.monotonic()
        server.start(nothing)
        ready = time.monotonic() - start
        used = server.cpu_seconds()
        peak = sum(p.peak_bytes() for p in server.processes)
        lost = 100 * (1 - server.count(ask, time=end) / before)
        return {"ready after kill -9 (s)": ready, "CPU of the start (s)": used, "samples lost (%)": lost,
                "resident before (MB)": steady / 1e6, "at most while starting (MB)": peak / 1e6}


RANGE_QUERIES = {
    "raw, 50 series": 'queue_depth{job="job1",queue=~"q1."}',
    "sum by rate": 'sum by (code) (rate(http_requests_total[5m]))',
    "ratio of sums": 'sum by (job) (rate(http_requests_total{code="500"}[5m])) '
                     '/ sum by (job) (rate(http_requests_total[5m]))',
    "histogram_quantile": 'histogram_quantile(0.99, sum by (le, job) '
                          '(rate(http_request_duration_seconds_bucket[5m])))',
    "max_over_time 1h": 'max by (job) (max_over_time(queue_depth[1h]))',
    "avg_over_time": 'avg_over_time(temperature_celsius{job="job1"}[10m])',
    "topk": 'topk(5, sum by (instance) (rate(http_requests_total[5m])))',
    "all CPUs": '100 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m])) * 100',
}


def queries(kind, options):
    """Median latency of a list of range (240 steps) and instant queries over `--hours` of history."""
    epoch, members = epoch_of_run(), load.targets(options.series)
    with kind(options.directory, options) as server:
        server.start("scrape_configs: []\n" if kind is not servers.Victoria else "scrape_configs:\n")
        end = float(int(time.time()) // 15 * 15)
        start = end - options.hours * 3600
        remote_write.fill(server.port, members, epoch, start, end, 15)
        time.sleep(options.settle)
        figures = {}
        for name, query in RANGE_QUERIES.items():
            step = (end - start) / 240
            figures[f"range: {name} (ms)"] = timed(
                lambda q=query: server.get("/api/v1/query_range", query=q, start=start, end=end - 8, step=step,
                                             nocache=1))
            figures[f"instant: {name} (ms)"] = timed(
                lambda q=query: server.get("/api/v1/query", query=q, time=end - 8, nocache=1))
        return figures


def timed(ask, seconds=3.0, most=15):
    """Median milliseconds of up to `most` asks within about `seconds`, after one that warms up."""
    check(ask()["data"]["result"], "a query of the list has no rows")
    taken, begin = [], time.monotonic()
    while len(taken) < most and (time.monotonic() - begin < seconds or len(taken) < 3):
        start = time.monotonic()
        ask()
        taken.append((time.monotonic() - start) * 1000)
    return statistics.median(taken)


def notification(kind, options):
    """From the end of the scrape that shows a condition to the notification's arrival, 1 s scrapes."""
    count = options.switches
    switches = notify.Switches(process.free_port(), count)
    with sink() as receiver, kind(options.directory, options) as server:
        server.interval, server.alertmanager_port = 1, receiver.port
        server.rules = (f"groups:\n- name: switches\n  interval: {options.group_interval}s\n  rules:\n"
                        "  - alert: Switched\n    expr: bench_switch == 1\n")
        server.start("scrape_configs:\n- job_name: switches\n  static_configs:\n"
                     f"  - targets: ['127.0.0.1:{switches.port}']\n")
        time.sleep(options.group_interval + 5)
        for n in random.Random(1).sample(range(count), count):
            switches.turn_on(n)
            time.sleep(random.Random(n).uniform(0.6, 1.4))
        deadline = time.monotonic() + 3 * options.group_interval + 15
        while len(receiver.arrived) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        switches.stop()
        missing = count - len(receiver.arrived)
        check(missing == 0, f"{missing} of {count} notifications never came")
        late = sorted((receiver.arrived[i] - switches.scraped[i]) * 1000 for i in receiver.arrived)
        return {"p50 (ms)": statistics.median(late), "p90 (ms)": late[int(len(late) * 0.9)], "worst (ms)": late[-1]}


ALL = {"scrape": scrape, "rules": rules_cpu, "remote-write": remote_write_cpu, "memory": memory,
       "restart": restart, "queries": queries, "notify": notification}
