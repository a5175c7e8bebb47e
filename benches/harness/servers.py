"""The servers under test: how each is configured, started, reloaded and asked.

All keep their data in a fresh directory, listen on a free loopback port, read the same scrape jobs and the
same rule file. Perennial and Prometheus share every line of their configuration.
"""

import json
import os
import signal
import urllib.parse
import urllib.request

from . import process


def scrape_jobs(targets, exporter_port):
    """`scrape_configs:` for the load: one job per four targets, told apart by path."""
    jobs = {}
    for t in targets:
        jobs.setdefault(t.job, []).append(t)
    out = ["scrape_configs:"]
    for job, members in jobs.items():
        out += [f"- job_name: {job}", "  static_configs:"]
        for t in members:
            out += [f"  - targets: ['127.0.0.1:{exporter_port}']",
                    f"    labels: {{instance: '{t.instance}', __metrics_path__: '{t.path}'}}"]
    return "\n".join(out) + "\n"


class Server:
    """What the experiments need of a server. `processes` are the ones whose CPU and memory count."""

    name = label = ""

    @classmethod
    def programs(cls, options):
        """The paths of its programs, by what their options are called; an error for one that is not there."""
        raise NotImplementedError

    @classmethod
    def versions(cls, options):
        """What each of its programs says that it is."""
        return {name: process.version(path) for name, path in cls.programs(options).items()}

    def __init__(self, directory, options):
        self.directory, self.options = directory, options
        os.makedirs(directory, exist_ok=True)
        self.port, self.processes = process.free_port(), []
        self.rules, self.alertmanager_port, self.interval = None, None, 5
        self.rule_files = []
        self.disable_cache = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for p in reversed(self.processes):
            p.stop()

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text)
        return self.path(name)

    def spawn(self, command, ready):
        p = process.Process(command, self.path(os.path.basename(command[0]) + ".log"))
        self.processes.append(p)
        p.wait_ready(ready)

    def cpu_seconds(self):
        return sum(p.cpu_seconds() for p in self.processes)

    def memory_bytes(self):
        pairs = [p.memory_bytes() for p in self.processes]
        return sum(a for a, _ in pairs), sum(b for _, b in pairs)

    def url(self, path, **parameters):
        return f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(parameters)}"

    def get(self, path, **parameters):
        """The decoded JSON of a GET, raising on HTTP errors."""
        with urllib.request.urlopen(self.url(path, **parameters), timeout=120) as answer:
            return json.load(answer)

    def count(self, query, **parameters):
        """The value of a one-row instant query, 0 when it has no row."""
        rows = self.get("/api/v1/query", query=query, nocache=1, **parameters)["data"]["result"]
        return float(rows[0]["value"][1]) if rows else 0.0


class Prometheus(Server):
    """The prometheus of `--prometheus`, or the installed one."""

    name, label = "prometheus", "Prometheus"

    @classmethod
    def programs(cls, options):
        return {"prometheus": options.prometheus or process.find_program("prometheus", "prometheus")}

    def program(self):
        return self.programs(self.options)[self.name]

    def config(self, jobs):
        lines = [f"global: {{scrape_interval: {self.interval}s, scrape_timeout: {self.interval}s, "
                 f"evaluation_interval: {self.interval}s}}"]
        files = self.rule_files + ([self.path("rules.yml")] if self.rules else [])
        if files:
            lines.append(f"rule_files: {json.dumps(files)}")
        if self.alertmanager_port:
            lines.append("alerting: {alertmanagers: [{static_configs: [{targets: "
                         f"['127.0.0.1:{self.alertmanager_port}']}}]}}]}}")
        return "\n".join(lines) + "\n" + jobs

    def configure(self, jobs):
        if self.rules:
            self.write("rules.yml", self.rules)
        self.jobs = jobs
        return self.write("server.yml", self.config(jobs))

    def start(self, jobs):
        config = self.configure(jobs)
        self.spawn([self.program(), f"--config.file={config}", f"--storage.tsdb.path={self.path('data')}",
                    f"--web.listen-address=127.0.0.1:{self.port}", "--web.enable-remote-write-receiver",
                    "--storage.tsdb.retention.time=30d", "--log.level=warn"],
                   f"http://127.0.0.1:{self.port}/-/ready")

    def add_rules(self, rules):
        self.rules = rules
        self.configure(self.jobs)
        self.processes[0].signal(signal.SIGHUP)

    def rules_loaded(self):
        return sum(len(g["rules"]) for g in self.get("/api/v1/rules")["data"]["groups"])


class Perennial(Prometheus):
    """The server of this repository, started exactly as Prometheus is."""

    name, label = "perennial", "Perennial"

    @classmethod
    def programs(cls, options):
        if options.perennial is None:
            raise SystemExit("no perennial binary: build it with `cargo build --release` or pass --perennial PATH")
        return {"perennial": options.perennial}


class Victoria(Server):
    """A single node of VictoriaMetrics that scrapes by itself, with vmalert for the rules: of `--victoria-metrics` and
    `--vmalert`, or the installed ones."""

    name, label = "victoria", "VictoriaMetrics"

    @classmethod
    def programs(cls, options):
        names = {"victoria-metrics": options.victoria_metrics, "vmalert": options.vmalert}
        return {name: path or process.find_program(name, "victoria-metrics") for name, path in names.items()}

    def start(self, jobs):
        config = self.write("scrape.yml", f"global: {{scrape_interval: {self.interval}s, "
                            f"scrape_timeout: {self.interval}s}}\n" + jobs)
        self.spawn([self.programs(self.options)["victoria-metrics"], f"-promscrape.config={config}",
                    f"-storageDataPath={self.path('data')}", f"-httpListenAddr=127.0.0.1:{self.port}",
                    "-retentionPeriod=1", "-search.latencyOffset=0s", "-loggerLevel=WARN",
                    "-search.maxUniqueTimeseries=10000000", "-search.maxPointsPerTimeseries=100000",
                    *(["-search.disableCache"] if self.disable_cache else [])],
                   f"http://127.0.0.1:{self.port}/health")
        if self.rules:
            self.add_rules(self.rules)

    def add_rules(self, rules):
        self.rules = rules
        path, base = self.write("rules.yml", rules), f"http://127.0.0.1:{self.port}"
        self.alert_port = process.free_port()
        command = [self.programs(self.options)["vmalert"], f"-rule={path}", f"-datasource.url={base}",
                   f"-remoteWrite.url={base}", f"-remoteRead.url={base}", "-loggerLevel=WARN",
                   f"-evaluationInterval={self.interval}s", f"-httpListenAddr=127.0.0.1:{self.alert_port}",
                   f"-notifier.url=http://127.0.0.1:{self.alertmanager_port}"]
        self.spawn(command, f"http://127.0.0.1:{self.alert_port}/health")

    def rules_loaded(self):
        url = f"http://127.0.0.1:{self.alert_port}/api/v1/rules"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return sum(len(g["rules"]) for g in json.load(answer)["data"]["groups"])


KINDS = {kind.name: kind for kind in (Perennial, Prometheus, Victoria)}
