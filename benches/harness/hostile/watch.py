"""Measurements of the soak test (`soak.py`): state of the server process each second, latency of the light queries, and the samples
that the server has recorded at the end."""

import collections
import math
import threading
import time

from . import server

STATE = ("resident", "anonymous", "descriptors", "threads", "cpu")


class Watch:
    """Reads the state of the process each second into a list of (Unix seconds, state), and into a file."""

    def __init__(self, subject, path):
        self.subject, self.path, self.states = subject, path, []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        with open(self.path, "w") as out:
            out.write("time," + ",".join(STATE) + "\n")
            while not self.stop.wait(1):
                try:
                    state = dict(zip(STATE, self.subject.state()))
                except (OSError, StopIteration, KeyError):
                    return
                self.states.append((time.time(), state))
                out.write(f"{time.time():.1f}," + ",".join(str(state[k]) for k in STATE) + "\n")
                out.flush()

    def between(self, start, end, figure):
        return [s[figure] for t, s in self.states if start <= t <= end]


def median(values):
    return quantile(values, 0.5)


def quantile(values, q):
    """The value at rank q, NaN of nothing."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(q * len(ranked)))] if ranked else math.nan


class Answers:
    """The lines of the light load between two times."""

    def __init__(self, path, start, end):
        self.milliseconds, self.health, self.failed = [], [], collections.Counter()
        with open(path) as f:
            for line in f:
                parts = line.split()
                if len(parts) != 4 or not start <= float(parts[0]) < end:
                    continue
                (self.milliseconds if parts[3] == "query" else self.health).append(float(parts[1]))
                if parts[2] != "200":
                    self.failed[f"{parts[3]} {parts[2]}"] += 1

    def figures(self):
        return {"light p50 (ms)": quantile(self.milliseconds, 0.5), "light p99 (ms)": quantile(self.milliseconds, 0.99),
                "light max (ms)": max(self.milliseconds, default=math.nan), "light queries": len(self.milliseconds),
                "/-/healthy max (ms)": max(self.health, default=math.nan), "not answered with 200": sum(self.failed.values())}


def gaps(subject, query, start, end, step):
    """How many samples of the series of `query` there are in a range, and how many are missing.

    A window at a time, so that no answer is large. A series that begins late or ends early misses the rest.
    """
    times = collections.defaultdict(list)
    window = 300
    for begin in range(int(start), math.ceil(end), window):
        length = min(window, math.ceil(end) - begin)
        for row in subject.rows(f"{query}[{length}s]", time=begin + length, patience=60):
            key = tuple(sorted(row["metric"].items()))
            times[key] += [(float(t), v) for t, v in row["values"]]
    lost, bad, there = 0, 0, 0
    for samples in times.values():
        first, last = min(samples)[0], max(samples)[0]
        # One that comes late is not lost: what counts is how many there are. The edges may cut one step.
        lost += max(0, round((last - first) / step) + 1 - len(samples))
        lost += max(0, round((first - start) / step) - 1) + max(0, round((end - last) / step) - 1)
        bad += sum(1 for _, v in samples if v == "0")
        there += len(samples)
    return {"series": len(times), "lost": lost, "zero": bad, "there": there}


def target_errors(subject):
    """The bad targets as the server sees them: health and error by job."""
    active = subject.get("/api/v1/targets", state="active", patience=60)["activeTargets"]
    return {t["labels"]["job"].removeprefix("hostile-"): (t["health"], t["lastError"]) for t in active
            if t["labels"]["job"].startswith("hostile-")}


def requests_of(port):
    return server.counts_of(port)[0]
