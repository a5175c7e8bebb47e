"""The soak test: harmful targets, clients and rule files, all together, beside an ordinary load; measures what the ordinary
load suffers.

First the ordinary load alone (`--idle` seconds), then with all harmful *actors* (`--minutes`), then SIGTERM while they run.
An actor is one kind of harm: a target of `targets.py`, a client of `clients.py` or a rule file of `rulefiles.py`. `server.py`
starts the server, `watch.py` measures. Prints a table, and fails if the ordinary load lost more than it may.
"""

import math
import os
import shutil
import sys
import tempfile
import time

from .. import load, rules, servers
from . import clients, rulefiles, server, targets, watch

RULE_INTERVAL = 5
# The recording rules whose slots are counted: two shapes that always have results, for the first target.
COUNTED_RULES = '{__name__=~"bench:(sum_by_rate|ratio):(0|1|150|151|300|301|450|451)",instance=~"|host0:9100"}'
MIB = 2**20
# Resident memory that may come in the hostile hour beside a tenth: what the good load stores meanwhile.
FLAT_BYTES = 64 * MIB
GOOD = 'up{job=~"job[0-9]+"}'
RULE_FILES = {"doubling": rulefiles.doubling, "loops": rulefiles.loops}


def names():
    """All actors: (name, number of its kind of harm, description, whether it is on by default)."""
    of_targets = [(f"target-{n}", b.item, b.what, b.usual) for n, b in targets.BAD.items()]
    of_clients = [(f"client-{n}", a.item, a.what, True) for n, a in clients.ACTORS.items()]
    of_files = [(f"rules-{n}", rulefiles.ITEM, make.__doc__.splitlines()[0].lower(), True) for n, make in RULE_FILES.items()]
    return of_targets + of_clients + of_files


def chosen(options):
    """Names of the actors that run, by sort."""
    wanted = [n for n, _, _, usual in names() if (n in options.only if options.only else usual or n in options.also)]
    wanted = [n for n in wanted if n not in options.without]
    return [[n.split("-", 1)[1] for n in wanted if n.startswith(sort)] for sort in ("target-", "client-", "rules-")]


def good_jobs(count, port):
    """`scrape_configs:` of the good load: targets at 1 s, and the series that bad queries multiply."""
    return servers.scrape_jobs(targets.good_members()[:count], port) + (
        f"- job_name: fuel\n  scrape_interval: 15s\n  metrics_path: /fuel\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n")


class Soak:
    """One run: the processes, and the times at which its phases began (Unix seconds)."""

    def __init__(self, options):
        self.options = options
        self.directory = tempfile.mkdtemp(prefix="soak-")
        self.helpers = []
        self.subject = None
        self.bad_targets, self.bad_clients, self.bad_rules = chosen(options)
        self.idle_from = self.hostile_from = self.hostile_to = math.nan
        self.exit_seconds = math.nan
        self.died = None

    def path(self, name):
        return os.path.join(self.directory, name)

    def helper(self, module, *arguments):
        self.helpers.append(server.Helper(module, *arguments, log=self.path(f"{module}.log")))
        return self.helpers[-1]

    def targets(self, kind):
        helper, port = server.target_server(kind, self.path(f"{kind}.log"))
        self.helpers.append(helper)
        return port

    def begin(self):
        """The good load, until its rules have results."""
        self.good_port, self.bad_port = self.targets("good"), self.targets("bad")
        self.subject = server.Server(self.options.perennial, self.directory, self.options.memory)
        jobs = max(1, self.options.targets // load.TARGETS_PER_JOB)
        self.subject.add_rules("good", rules.rule_file(self.options.rules, jobs, f"{RULE_INTERVAL}s"))
        self.jobs = good_jobs(self.options.targets, self.good_port)
        self.subject.configure(self.jobs)
        self.subject.reload()
        deadline = time.time() + 180
        while len(self.subject.rows("bench:sum_by_rate:0")) == 0 or len(self.subject.rows("fuel")) == 0:
            if time.time() > deadline:
                raise RuntimeError("the good load has no results: " + self.subject.process.tail())
            time.sleep(1)
        self.watch = watch.Watch(self.subject, self.path("process.csv"))
        self.light = self.helper("light", self.subject.port, self.path("light.txt"))
        time.sleep(self.options.settle)

    def idle(self):
        self.idle_from = time.time()
        time.sleep(self.options.idle)

    def hostile(self):
        """Everything bad begins; a line each minute; ends early when the process does."""
        self.hostile_from = time.time()
        asked = self.good_requests()
        if self.bad_targets:
            self.subject.configure(self.jobs + targets.jobs_of_bad(self.bad_targets, self.bad_port))
        for name in self.bad_rules:
            self.subject.add_rules(name, RULE_FILES[name]())
        self.subject.reload()
        if self.bad_clients:
            self.evil = self.helper("clients", self.subject.port, self.options.seed, *self.bad_clients)
        end, told = self.hostile_from + 60 * self.options.minutes, self.hostile_from
        while time.time() < end and self.subject.alive():
            time.sleep(0.5)
            if time.time() - told >= 60:
                self.tell(told, told + 60)
                told += 60
        self.hostile_to = time.time()
        self.asked = self.good_requests() - asked
        self.died = self.subject.end_of_life()

    def good_requests(self):
        """Requests that the good targets have had."""
        return sum(n for path, n in watch.requests_of(self.good_port).items() if path.startswith("/t/"))

    def tell(self, start, end):
        """One line about a minute, to standard error."""
        answers = watch.Answers(self.path("light.txt"), start, end - 5).figures()
        state = self.watch.states[-1][1]
        print(f"{(end - self.hostile_from) / 60:4.0f} min  RSS {state['resident'] / MIB:6.0f} MiB  fds {state['descriptors']:5}"
              f"  threads {state['threads']:3}  light p50 {answers['light p50 (ms)']:.1f} p99 {answers['light p99 (ms)']:.1f}"
              f" max {answers['light max (ms)']:.0f} ms, {answers['not answered with 200']} without 200", file=sys.stderr, flush=True)

    def finish(self):
        """What the server recorded, then SIGTERM while everything goes on."""
        self.recorded = self.slots = None
        self.errors, self.ups = {}, {}
        if self.subject.alive():
            try:
                # The newest seconds may be on their way.
                end = self.hostile_to - 3
                self.recorded = watch.gaps(self.subject, GOOD, self.hostile_from, end, 1)
                self.slots = watch.gaps(self.subject, COUNTED_RULES, self.hostile_from, end, RULE_INTERVAL)
                self.errors = watch.target_errors(self.subject)
                seconds = int(end - self.hostile_from)
                for row in self.subject.rows(f'count_over_time(up{{job=~"hostile-.+"}}[{seconds}s])'):
                    self.ups[row["metric"]["job"].removeprefix("hostile-")] = int(row["value"][1])
            except OSError as error:
                print(f"the server does not say what it recorded: {error}", file=sys.stderr)
        self.requests = watch.requests_of(self.bad_port)
        if self.subject.alive():
            self.exit_seconds = self.subject.terminate()
        self.watch.stop.set()

    def end(self):
        """Ends all processes; the directory stays when asked for, or when something failed."""
        for helper in reversed(self.helpers):
            helper.end()
        if self.subject:
            self.subject.kill()

    def clean(self, keep):
        if keep:
            print(f"figures and logs: {self.directory}", file=sys.stderr)
        else:
            shutil.rmtree(self.directory, ignore_errors=True)


def figures(soak):
    """The rows of the first table, in order, and the criteria: {name: whether it holds}."""
    length = soak.hostile_to - soak.hostile_from
    at = lambda low, high: soak.watch.between(soak.hostile_from + low * length, soak.hostile_from + high * length, "resident")
    quiet = watch.Answers(soak.path("light.txt"), soak.idle_from, soak.hostile_from)
    loud = watch.Answers(soak.path("light.txt"), soak.hostile_from, soak.hostile_to)
    before, beside = quiet.figures(), loud.figures()
    early, late = watch.median(at(0.2, 0.3)), watch.median(at(0.9, 1))
    idle = watch.median(soak.watch.between(soak.idle_from, soak.hostile_from, "resident"))
    cpu = lambda start, end: (lambda c: (c[-1] - c[0]) / max(1, len(c) - 1) if c else math.nan)(soak.watch.between(start, end, "cpu"))
    descriptors = lambda start, end: max(soak.watch.between(start, end, "descriptors"), default=math.nan)
    threads = lambda start, end: max(soak.watch.between(start, end, "threads"), default=math.nan)
    phases = [(soak.idle_from, soak.hostile_from), (soak.hostile_from, soak.hostile_to)]
    lost = soak.recorded["lost"] + soak.recorded["zero"] if soak.recorded else math.nan
    slots = soak.slots["lost"] if soak.slots else math.nan
    rows = [(name, before[name], beside[name]) for name in before]
    rows += [("requests that the good targets had", None, soak.asked),
             ("good scrapes that the server recorded", None, soak.recorded and soak.recorded["there"]),
             ("good scrapes lost (no sample, or up 0)", None, lost),
             ("rule slots lost (of 8 recording rules)", None, slots),
             ("RSS (MiB): median of the phase", idle / MIB, watch.median(at(0, 1)) / MIB),
             ("RSS (MiB): from 20 to 30 %", None, early / MIB), ("RSS (MiB): the middle", None, watch.median(at(0.45, 0.55)) / MIB),
             ("RSS (MiB): the last tenth", None, late / MIB), ("RSS (MiB): most", None, max(at(0, 1), default=math.nan) / MIB),
             ("descriptors: most", *(descriptors(*p) for p in phases)), ("threads: most", *(threads(*p) for p in phases)),
             ("cores used by the server", *(cpu(*p) for p in phases)), ("exit after SIGTERM (s)", None, soak.exit_seconds)]
    p99 = beside["light p99 (ms)"] / before["light p99 (ms)"]
    rows.append(("light p99 hostile ÷ idle", None, p99))
    series, there = (soak.recorded["series"], soak.recorded["there"]) if soak.recorded else (0, 0)
    scraped = series == soak.options.targets and lost <= soak.options.lost * there
    criteria = {"the process lives": soak.died is None, f"good scrapes lost: at most {soak.options.lost:.0%}": scraped,
                "RSS is flat": late <= early * 1.1 + FLAT_BYTES, f"exit within {soak.options.exit_seconds:g} s": soak.exit_seconds <= soak.options.exit_seconds}
    timing = {"light p99 at most three times the idle one": p99 <= 3}
    return rows, criteria, timing, loud.failed


def number(value):
    if value is None or isinstance(value, float) and math.isnan(value):
        return "–"
    return f"{value:.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.2f}"


def report(soak):
    """Prints all; says whether what was asked for holds."""
    rows, criteria, timing, failed = figures(soak)
    minutes = (soak.hostile_to - soak.hostile_from) / 60
    print(f"| | idle, {soak.options.idle} s | hostile, {minutes:.0f} min |\n|---|--:|--:|")
    for name, before, beside in rows:
        print(f"| {name} | {number(before)} | {number(beside)} |")
    if failed:
        print("\nLight requests without 200: " + ", ".join(f"{n} × {what}" for what, n in failed.most_common()))
    print("\n| actor | item | what it does | rounds | what came of it |\n|---|--:|---|--:|---|")
    counts = soak.evil.figures() if soak.bad_clients else {}
    for name in soak.bad_targets:
        health, error = soak.errors.get(name, ("–", ""))
        ups = soak.ups.get(name, 0)
        said = f"{health}, `up` {ups} ×" + (f", {error[:140]}" if error else "")
        print(f"| target {name} | {targets.BAD[name].item} | {targets.BAD[name].what} | {soak.requests.get('/' + name, 0)} | {cell(said)} |")
    for name in soak.bad_clients:
        mine = dict(counts.get(name, {}))
        rounds = mine.pop("rounds", 0)
        said = ", ".join(f"{n} × {what}" for what, n in sorted(mine.items(), key=lambda pair: -pair[1])[:8])
        print(f"| client {name} | {clients.ACTORS[name].item} | {clients.ACTORS[name].what} | {rounds} | {cell(said)} |")
    print()
    for name, holds in {**criteria, **timing}.items():
        print(f"{'holds ' if holds else 'BROKEN'}  {name}" + (f": {soak.died}" if name == "the process lives" and soak.died else ""))
    return all(criteria.values()) and (all(timing.values()) or not soak.options.strict)


def cell(text):
    return text.replace("|", "/").replace("\n", " ")


def run(options):
    """The exit code."""
    soak = Soak(options)
    held = False
    try:
        soak.begin()
        soak.idle()
        soak.hostile()
        soak.finish()
        held = report(soak)
        return 0 if held else 1
    finally:
        soak.end()
        soak.clean(options.keep or not held)
