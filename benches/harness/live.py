"""Experiments of the live engine: very many rules, long windows, bytes of state, new views, installing rules.

Read next: `experiments.py`, whose helpers and conventions these use.
"""

import json
import re
import threading
import time
import urllib.request

from . import load, remote_write, rules, servers
from .experiments import check, cores, epoch_of_run, exporter, sink

NOTHING = {servers.Perennial: "scrape_configs: []\n", servers.Prometheus: "scrape_configs: []\n",
           servers.Victoria: "scrape_configs:\n"}


def many_rules(kind, options):
    """CPU of `--rules` rules in fifty shapes with varied thresholds, every `--rule-interval` seconds."""
    def file(jobs):
        return rules.threshold_file(options.rules, jobs, f"{options.rule_interval}s")
    return cpu_of_rules(kind, options, file, "many:.+")


def subquery_rules(kind, options):
    """The same of rules over an hour of a subquery in forty shapes."""
    def file(jobs):
        return rules.subquery_file(options.rules, jobs, f"{options.rule_interval}s"), options.rules
    return cpu_of_rules(kind, options, file, "subquery:.+")


def cpu_of_rules(kind, options, rule_file, recorded):
    """CPU of the rules of a file, and how many slots were missed. `recorded`: what the names of its recording rules match."""
    epoch, members = epoch_of_run(), load.targets(options.series)
    jobs = len({t.job for t in members})
    with exporter(options, epoch) as port, sink() as receiver, kind(options.directory, options) as server:
        server.interval, server.alertmanager_port = options.scrape_interval or 15, receiver.port
        server.start(servers.scrape_jobs(members, port))
        time.sleep(2 * server.interval + 3)
        baseline = cores(server, max(2 * server.interval, options.seconds / 3))
        file, kept = rule_file(jobs)
        server.add_rules(file)
        time.sleep(max(2 * server.interval, options.rule_interval) + 10)
        loaded = server.rules_loaded()
        check(loaded == options.rules, f"{loaded} of {options.rules} rules loaded")
        total = cores(server, options.seconds)
        names = server.count(f'count(count by (__name__) ({{__name__=~"{recorded}"}}))')
        check(names >= kept, f"{names} of {kept} recording rules have results")
        return {"scraping (cores)": baseline, "rules (cores)": total - baseline, **lateness(server)}


def lateness(server):
    """How many evaluations were left out for want of time, as far as the server counts them."""
    missed = server.count("sum(prometheus_rule_group_iterations_missed_total)")
    return {"iterations missed": missed}


WINDOWS = ("5m", "1h", "1d")


def windows(kind, options):
    """CPU and memory of the same fifty rules over `[5m]`, `[1h]` and `[1d]`, a day of history written before."""
    figures = {}
    epoch, members = epoch_of_run(), load.targets(options.series)
    jobs = len({t.job for t in members})
    with exporter(options, epoch) as port, sink() as receiver, kind(options.directory, options) as server:
        server.interval, server.alertmanager_port = 15, receiver.port
        server.start(NOTHING[kind])
        now = time.time()
        remote_write.fill(server.port, members, epoch - 86400, now - options.prefill * 60, now, 15)
        server.__exit__()
        server.processes.clear()
        server.start(servers.scrape_jobs(members, port))
        time.sleep(35)
        baseline = cores(server, max(30, options.seconds / 3))
        for function in ("rate", "max_over_time", "avg_over_time"):
            for window in WINDOWS:
                server.add_rules(rules.window_file(function, window, jobs, 50))
                time.sleep(35)
                figures[f"{function}[{window}] (cores)"] = cores(server, options.seconds) - baseline
                figures |= window_memory(server, f"{function}[{window}]", function)
        names = server.count('count(count by (__name__) ({__name__=~"window:.+"}))')
        check(names >= 50, f"{names} of 50 rules have results")
    return {"scraping (cores)": baseline, **figures}


def window_memory(server, name, function):
    """What the process holds with these rules, and per series what the server says that their views keep."""
    figures = {f"{name}, resident (MB)": server.memory_bytes()[0] / 1e6}
    if server.name == "perennial":
        series = server.count(f"count({rules.windowed_metric(function)})")
        figures[f"{name}, state per series (bytes)"] = state_bytes(server.get("/api/v1/views")["data"]["views"]) / series
    return figures


def state(kind, options):
    """Bytes of live state per series: a first window, and each further one over the same series (Perennial only)."""
    epoch, members = epoch_of_run(), load.targets(options.series)
    with exporter(options, epoch) as port, sink() as receiver, kind(options.directory, options) as server:
        server.interval, server.alertmanager_port = 15, receiver.port
        server.start(NOTHING[kind])
        now = time.time()
        remote_write.fill(server.port, members, epoch, now - 900, now, 15)
        server.__exit__()
        server.processes.clear()
        server.start(servers.scrape_jobs(members, port))
        time.sleep(35)
        figures, before, windows = {}, 0, ("5m", "1m", "2m", "3m", "4m")
        for at, window in enumerate(windows):
            server.add_rules(rules.state_file(at + 1, windows))
            time.sleep(35)
            bytes_now = state_bytes(server.get("/api/v1/views")["data"]["views"])
            series = server.count('count(http_requests_total)')
            figures[f"[{window}] more, per series (bytes)"] = (bytes_now - before) / series
            before = bytes_now
        return {**figures, "all, per series (bytes)": before / series}


def state_bytes(views):
    """What the server says that views keep: what several of them read once, and what each has of its own."""
    rings = {ring["selector"]: ring["bytes"] for view in views for ring in view["rings"] if ring["readers"] > 1}
    return sum(rings.values()) + sum(v["stateBytes"]["total"] - v["stateBytes"]["shared"] for v in views)


def new_view(kind, options):
    """Seconds until a new subscription over all series with a one-hour window has its first answer (Perennial only)."""
    epoch, members = epoch_of_run(), load.targets(options.series)
    with kind(options.directory, options) as server:
        server.start(NOTHING[kind])
        now = time.time()
        remote_write.fill(server.port, members, epoch, now - options.prefill * 60, now, 15)
        figures = {}
        # Only what keeps names may look at all metrics at once.
        for name, query in (("all series, last_over_time", 'sum by (job) (last_over_time({job=~"job.+"}[1h]))'),
                            ("counters, rate", 'sum by (job) (rate(http_requests_total[1h]))'),
                            ("gauges, max_over_time", 'sum by (job) (max_over_time(queue_depth[1h]))')):
            start = time.monotonic()
            url = server.url("/api/v1/subscribe", query=query, format="ndjson")
            with urllib.request.urlopen(url, timeout=120) as answer:
                rows = first_rows(answer)
            figures[f"{name} (s)"] = time.monotonic() - start
            jobs = len({t.job for t in members})
            check(rows == jobs, f"{rows} of {jobs} rows in the first answer")
        return figures


def first_rows(lines):
    """Rows of the first snapshot in an NDJSON stream."""
    for line in lines:
        message = json.loads(line)
        if "snapshot" in message:
            return len(message["snapshot"]["rows"])
    return 0


TICK = re.compile(r'^perennial_tick_duration_seconds_(sum|count) (\S+)$', re.M)


def tick_sums(server):
    """(seconds spent in ticks, number of ticks) since the start."""
    with urllib.request.urlopen(server.url("/metrics"), timeout=20) as answer:
        found = dict(TICK.findall(answer.read().decode()))
    return float(found["sum"]), float(found["count"])


def install(kind, options):
    """What 1,000 rules more or less cost in ticks while `--rules` rules run every second (Perennial only)."""
    epoch, members = epoch_of_run(), load.targets(options.series)
    jobs = len({t.job for t in members})
    with exporter(options, epoch) as port, sink() as receiver, kind(options.directory, options) as server:
        server.interval, server.alertmanager_port = 15, receiver.port
        server.start(servers.scrape_jobs(members, port))
        time.sleep(35)
        few, _ = rules.threshold_file(options.rules, jobs, "1s")
        more, _ = rules.threshold_file(options.rules + 1000, jobs, "1s")
        server.add_rules(few)
        time.sleep(20)
        quiet = ticks_of(server, lambda: None)
        added = ticks_of(server, lambda: server.add_rules(more))
        fuller = ticks_of(server, lambda: None)
        removed = ticks_of(server, lambda: server.add_rules(few))
        # They come and go after three of the ten seconds, and what they cost while they stand is not meant.
        standing = (quiet * BEFORE + fuller * (STRETCH - BEFORE)) / STRETCH
        leaving = (fuller * BEFORE + quiet * (STRETCH - BEFORE)) / STRETCH
        check(server.rules_loaded() == options.rules, "the rules did not come and go")
        return {"quiet: tick time in 10 s (ms)": quiet, "1,000 installed: more tick time (ms)": added - standing,
                "1,000 removed: more tick time (ms)": removed - leaving, **lateness(server)}


STRETCH, BEFORE = 10, 3


def ticks_of(server, act):
    """Milliseconds of ticks in `STRETCH` seconds, after `BEFORE` of which `act` happens."""
    before = tick_sums(server)[0]
    thread = threading.Timer(BEFORE, act)
    thread.start()
    time.sleep(STRETCH)
    thread.join()
    return (tick_sums(server)[0] - before) * 1000


ALL = {"many-rules": many_rules, "subquery-rules": subquery_rules, "windows": windows, "state": state,
       "new-view": new_view, "install": install}
# What the other servers do not have: state of rules, subscriptions, ticks.
PERENNIAL_ONLY = {"state", "new-view", "install"}
