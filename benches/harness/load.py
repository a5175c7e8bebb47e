"""The load: which series exist and what they are worth at a time.

Everything is a pure function of (series number, time), so that the exporter, the remote-write generator and
every server see the same values, and two runs are comparable. A target looks like an ordinary web service:
request counters, latency histograms with `le` buckets, CPU counters with fractions, integer and fractional
gauges. 40 % of the request counters stand still, as idle routes do.
"""

import math
import random

WAVES = 16
BUCKETS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "+Inf")
SHARE_BELOW = (0.05, 0.14, 0.33, 0.55, 0.74, 0.89, 0.95, 0.98, 0.995, 1.0)
TARGETS_PER_JOB = 4
SERIES_PER_TARGET = 500
IDLE_SHARE = 0.4

COUNT, SECONDS, GAUGE_INT, GAUGE_FLOAT = range(4)


class Target:
    """One scrape target: `specs[i]` = (kind, scale, wave) belongs to `series[i]` = (name, labels)."""

    def __init__(self, number, size):
        self.number = number
        self.job = f"job{number // TARGETS_PER_JOB}"
        self.instance = f"host{number}:9100"
        self.path = f"/t/{number}"
        self._random = random.Random(number)
        self.series, self.specs, self.families = [], [], {}
        self._fill(size)
        self._template = None

    def _fill(self, size):
        routes = max(1, size * 28 // 100 // (len(BUCKETS) + 2))
        for route in range(routes):
            self._histogram(f"/api/v1/route{route}")
        for cpu in range(2):
            for mode in ("idle", "user", "system", "iowait"):
                self._add("node_cpu_seconds_total", "counter", {"cpu": str(cpu), "mode": mode}, SECONDS, 0.05, 0.9)
        gauges = size * 24 // 100
        for n in range(gauges // 2):
            self._add("queue_depth", "gauge", {"queue": f"q{n}"}, GAUGE_INT, 10, 5000)
        for n in range(gauges // 2):
            self._add("temperature_celsius", "gauge", {"sensor": f"s{n}"}, GAUGE_FLOAT, 20, 80)
        n = 0
        while len(self.series) < size:
            labels = {"method": ("GET", "POST", "PUT", "DELETE")[n % 4], "code": ("200", "404", "500")[n // 4 % 3],
                      "route": f"/api/v1/route{n // 12}"}
            idle = self._random.random() < IDLE_SHARE
            self._add("http_requests_total", "counter", labels, COUNT, 0, 0 if idle else 50)
            n += 1

    def _histogram(self, route):
        rate, wave = self._random.uniform(1, 80), self._random.randrange(WAVES)
        name = "http_request_duration_seconds"
        for le, share in zip(BUCKETS, SHARE_BELOW):
            self._put(name + "_bucket", name, "histogram", {"route": route, "le": le}, (COUNT, rate * share, wave))
        self._put(name + "_sum", name, "histogram", {"route": route}, (SECONDS, rate * 0.09, wave))
        self._put(name + "_count", name, "histogram", {"route": route}, (COUNT, rate, wave))

    def _add(self, name, kind_word, labels, kind, low, high):
        scale = self._random.uniform(low, high)
        self._put(name, name, kind_word, labels, (kind, scale, self._random.randrange(WAVES)))

    def _put(self, name, family, kind_word, labels, spec):
        if family not in self.families:
            self.families[family] = (kind_word, len(self.series))
        self.series.append((name, labels))
        self.specs.append(spec)

    def values(self, t):
        """The value of each series at `t` (seconds since the load's epoch); counters never fall."""
        run = [t + 30 * math.sin(t / 60 + w) for w in range(WAVES)]
        sway = [1 + 0.3 * math.sin(t / 97 + w) for w in range(WAVES)]
        tick, out = int(t), []
        for i, (kind, scale, wave) in enumerate(self.specs):
            if kind == COUNT:
                out.append(int(scale * run[wave]))
            elif kind == SECONDS:
                out.append(round(scale * run[wave], 2))
            elif kind == GAUGE_INT:
                out.append(int(scale * sway[wave]) + (i * 40503 + tick * 9973) % 11)
            else:
                out.append(round(scale * sway[wave] + (i * 40503 + tick * 9973) % 1024 / 1024, 3))
        return out

    def body(self, t):
        """The exposition text (0.0.4) at `t`."""
        if self._template is None:
            self._template = self._make_template()
        return (self._template % tuple(self.values(t))).encode()

    def _make_template(self):
        heads = {at: f"# HELP {name} Synthetic load.\n# TYPE {name} {word}\n"
                 for name, (word, at) in self.families.items()}
        lines = []
        for i, (name, labels) in enumerate(self.series):
            pairs = ",".join(f'{k}="{v}"' for k, v in labels.items())
            lines.append(heads.get(i, "") + name + "{" + pairs + "} %s\n")
        return "".join(lines)

    def full_labels(self, i):
        """All labels of series `i` as a server stores them after a scrape, sorted by name."""
        name, labels = self.series[i]
        return sorted({"__name__": name, "instance": self.instance, "job": self.job, **labels}.items())


def targets(series):
    """Targets that together have about `series` series (a multiple of 500)."""
    return [Target(n, SERIES_PER_TARGET) for n in range(max(1, round(series / SERIES_PER_TARGET)))]
