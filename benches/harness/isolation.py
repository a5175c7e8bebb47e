"""What disturbs the ticks of the live engine: a monster query, subscribers that never read, an Alertmanager that hangs, a busy disk.

The server's own histogram of tick durations is read before and after each stretch (Perennial only). Read next: `live.py`.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from . import load, process, remote_write, rules, servers
from .experiments import check, epoch_of_run, exporter, sink

# An alert per target that fires all the time: there is always something to send.
ALWAYS = """
- name: always
  rules:
  - alert: Always
    expr: up == 1
"""

BUSY_DISK = """
import os, sys
block = os.urandom(1 << 20)
while True:
    with open(sys.argv[1], "wb") as f:
        for _ in range(64):
            f.write(block)
            f.flush()
            os.fdatasync(f.fileno())
"""


def isolation(kind, options):
    """p50 and p99 of a tick, undisturbed and beside each disturbance; all on one running server."""
    check(kind is servers.Perennial, "only Perennial has ticks")
    epoch, members = epoch_of_run(), load.targets(options.series)
    jobs = len({t.job for t in members})
    with exporter(options, epoch) as port, sink() as receiver, kind(options.directory, options) as server:
        server.interval, server.alertmanager_port = options.scrape_interval or 1, receiver.port
        server.start("scrape_configs: []\n")
        now = time.time()
        remote_write.fill(server.port, members, epoch, now - 3600 * options.hours, now, 15)
        server.__exit__()
        server.processes.clear()
        server.rules = rules.rule_file(options.rules, jobs, f"{options.rule_interval}s") + ALWAYS
        server.start(servers.scrape_jobs(members, port))
        time.sleep(20)
        check(server.rules_loaded() == options.rules + 1, "rules are missing")
        figures, quiet = {}, None
        for name, disturbance in DISTURBANCES.items():
            with disturbance(server, options) as worked:
                time.sleep(3)
                p50, p99, ticks = stretch(server, options.seconds)
                check(ticks > options.seconds / 2, f"{name}: {ticks} ticks")
                check(worked(), f"{name}: there was no disturbance")
            quiet = quiet or p99
            figures.update({f"{name}: p50 (ms)": p50, f"{name}: p99 (ms)": p99, f"{name}: p99 moved by (ms)": p99 - quiet,
                            f"{name}: ticks per second": ticks / options.seconds})
            time.sleep(5)
        return figures


def stretch(server, seconds):
    """(p50, p99, count) of the ticks in the next `seconds`, milliseconds."""
    before = buckets(server)
    time.sleep(seconds)
    counts = [(bound, now - was) for (bound, now), (_, was) in zip(buckets(server), before)]
    return quantile(counts, 0.5), quantile(counts, 0.99), counts[-1][1]


def buckets(server):
    """(upper bound in ms, cumulative count) of the tick durations."""
    with urllib.request.urlopen(server.url("/metrics"), timeout=120) as answer:
        page = answer.read().decode()
    found = re.findall(r'^perennial_tick_duration_seconds_bucket\{le="([^"]+)"\} (\S+)', page, re.M)
    return [(float(bound.replace("+Inf", "inf")) * 1000, float(count)) for bound, count in found]


def quantile(counts, q):
    """As `histogram_quantile`: linear inside a bucket."""
    rank, low, below = q * counts[-1][1], 0.0, 0.0
    for bound, count in counts:
        if count >= rank:
            if bound == float("inf") or count == below:
                return low
            return low + (bound - low) * (rank - below) / (count - below)
        low, below = bound, count
    return low


@contextlib.contextmanager
def nothing(server, options):
    yield lambda: True


@contextlib.contextmanager
def monster_query(server, options):
    """Two questions about every series over all of the history, again and again."""
    stop, done = threading.Event(), []

    def ask():
        while not stop.is_set():
            end = time.time()
            url = server.url("/api/v1/query_range", query='stddev by (job) (last_over_time({job=~"job.+"}[1h]))',
                             start=end - 3600 * options.hours, end=end, step=30)
            try:
                with urllib.request.urlopen(url, timeout=600) as answer:
                    done.append(len(answer.read()))
            except urllib.error.HTTPError as error:
                done.append(-error.code)
    threads = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
    for t in threads:
        t.start()

    def worked():
        stop.set()
        for t in threads:
            t.join()
        return any(size > 0 for size in done)
    yield worked
    worked()


@contextlib.contextmanager
def stalled_subscribers(server, options):
    """Four subscriptions to every series, of which nobody reads a byte."""
    connections = []
    query = urllib.parse.urlencode({"query": '{job=~"job.+"}', "format": "ndjson"})
    for _ in range(4):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", server.port))
        s.sendall(f"GET /api/v1/subscribe?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        connections.append(s)
    yield lambda: all(s.recv(12) == b"HTTP/1.1 200" for s in connections)
    for s in connections:
        s.close()


@contextlib.contextmanager
def hanging_alertmanager(server, options):
    """Alerts go to one that takes connections and never answers."""
    port, was = process.free_port(), server.alertmanager_port
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    taken = []

    def accept():
        with contextlib.suppress(OSError):
            while True:
                taken.append(listener.accept()[0])
    threading.Thread(target=accept, daemon=True).start()
    server.alertmanager_port = port
    server.add_rules(server.rules)
    time.sleep(65)
    yield lambda: len(taken) > 0
    server.alertmanager_port = was
    server.add_rules(server.rules)
    listener.close()
    for s in taken:
        s.close()


@contextlib.contextmanager
def busy_disk(server, options):
    """Another process that writes and syncs on the same file system without a pause."""
    path = os.path.join(options.directory, "ballast")
    writers = [subprocess.Popen([sys.executable, "-c", BUSY_DISK, f"{path}{n}"]) for n in range(2)]
    yield lambda: all(w.poll() is None for w in writers)
    for w in writers:
        w.kill()
        w.wait()


DISTURBANCES = {"quiet": nothing, "monster query": monster_query, "stalled subscribers": stalled_subscribers,
                "hanging Alertmanager": hanging_alertmanager, "busy disk": busy_disk}
