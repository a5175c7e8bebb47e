"""Tests each harmful input alone against a fresh server: its CPU time and memory, the outcome, and whether the server answered other
requests meanwhile. `soak.py` runs them all together."""

import asyncio
import os
import shutil
import sys
import tempfile
import threading
import time
import urllib.request

from .. import remote_write, servers
from . import bodies, clients, rulefiles, server, targets, wire

HEADINGS = ("input", "item", "sent", "outcome", "s", "CPU s", "peak +MiB", "/-/healthy", "exit s")
# How long an input may keep the server busy before we look at the next one.
PATIENCE = 30
RULE_FILES = {"doubling": (8, "three alerts that double a string 40 times"),
              "loops": (8, "a template of nested loops over 10,000 rows"),
              "rules-100000": (9, "100,000 rules in a file"), "file-sd-40000": (9, "40,000 entries in a file of targets")}


def names():
    """All inputs: (name, item, what it is)."""
    of_targets = [(f"target {n}", b.item, b.what) for n, b in targets.BAD.items() if b.what != "the same"]
    of_clients = [(f"client {n}", a.item, a.what) for n, a in clients.ACTORS.items()]
    return of_targets + of_clients + [(f"file {n}", item, what) for n, (item, what) in RULE_FILES.items()]


class Health:
    """Asks /-/healthy ten times a second over new connections: the longest wait for an answer, in seconds."""

    def __init__(self, port):
        self.url, self.worst, self.stop = f"http://127.0.0.1:{port}/-/healthy", 0.0, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stop.wait(0.1):
            began = time.monotonic()
            try:
                urllib.request.urlopen(self.url, timeout=30).read()
                waited = time.monotonic() - began
            except OSError:
                # A refusal at once is no answer either.
                waited = max(time.monotonic() - began, 30)
            if not self.stop.is_set():
                self.worst = max(self.worst, waited)

    def end(self):
        self.stop.set()
        return self.worst


def run(options):
    """Prints a row for each input as it comes."""
    chosen = [n for n in names() if not options.only or any(o in (n[0], n[0].split()[1]) for o in options.only)]
    log = os.path.join(tempfile.gettempdir(), f"hostile-targets-{os.getpid()}.log")
    helper, port = server.target_server("bad", log)
    good, good_port = server.target_server("good", log)
    moving = servers.scrape_jobs(targets.good_members(), good_port)
    try:
        print("| " + " | ".join(HEADINGS) + " |\n|---|--:|--:|---|--:|--:|--:|--:|--:|", flush=True)
        for name, item, _ in chosen:
            try:
                row = run_one(name, port, moving, options)
            except (OSError, RuntimeError, LookupError) as error:
                row = ["–", f"harness: {error}".replace("\n", " ")[:200], "–", "–", "–", "–", "–"]
            print("| " + " | ".join([name, str(item), *row]) + " |", flush=True)
    finally:
        helper.end()
        good.end()
        os.unlink(log)


def run_one(name, targets_port, moving, options):
    """The columns after the name and the item."""
    directory = tempfile.mkdtemp(prefix="hostile-")
    try:
        subject = server.Server(options.perennial, directory, options.memory)
        try:
            return measure(subject, name, targets_port, moving)
        finally:
            subject.kill()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def measure(subject, name, targets_port, moving):
    kind, short = name.split()
    if kind == "client" and clients.ACTORS[short].moving:
        subject.configure(moving)
        subject.reload()
        time.sleep(3)
    fuel = bodies.fuel_write(targets.FUEL_SERIES)
    remote_write.Sender(subject.port).send(fuel)
    time.sleep(1)
    subject.forget_peak()
    resident, _, _, _, cpu = subject.state()
    health, began = Health(subject.port), time.monotonic()
    sent, outcome = {"target": scrape, "client": act, "file": load}[kind](subject, short, targets_port)
    wall = time.monotonic() - began
    busy_until_quiet(subject)
    died = subject.end_of_life()
    if died:
        return [size(sent), f"**{died}**", f"{wall:.1f}", "–", "–", "–", "–"]
    worst = health.end()
    spent = subject.state()[4] - cpu
    peak = (subject.process.peak_bytes() - resident) / 2**20
    seconds = end_under_it(subject, kind, short)
    answered = "yes" if worst <= 1 else f"**{worst:.1f} s**"
    return [size(sent), outcome, f"{wall:.1f}", f"{spent:.1f}", f"{peak:.0f}", answered, f"{seconds:.1f}"]


def size(count):
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def busy_until_quiet(subject):
    """Waits until half a second costs the server less than a twentieth of a core, or patience ends."""
    deadline = time.monotonic() + PATIENCE
    while subject.alive() and time.monotonic() < deadline:
        before = subject.process.cpu_seconds()
        time.sleep(0.5)
        if subject.alive() and subject.process.cpu_seconds() - before < 0.05:
            return


def end_under_it(subject, kind, short):
    """Seconds from SIGTERM to the end while the same thing goes on: for clients it is begun anew."""
    if kind != "client":
        return subject.terminate()
    again = threading.Thread(target=lambda: act(subject, short, None), daemon=True)
    again.start()
    time.sleep(0.7)
    return subject.terminate()


def act(subject, short, _):
    """The client actor once: bytes sent and what came of it."""
    client = wire.Client(subject.port, clients.addresses_of([short])[short])
    try:
        outcomes = asyncio.run(asyncio.wait_for(clients.ACTORS[short].once(client), 6 * PATIENCE))
    except (OSError, asyncio.TimeoutError) as error:
        outcomes = [wire.word_of(error)]
    counts = {o: outcomes.count(o) for o in dict.fromkeys(outcomes)}
    words = ", ".join(o if n == 1 else f"{n} × {o}" for o, n in counts.items())
    said = client.last_text.replace("\n", " ").replace("|", "/")[:160]
    return client.sent, f"{words}: {said}" if said and len(outcomes) == 1 else words


def scrape(subject, short, port):
    """Lets the server scrape the target once or twice: bytes served, and `up` with the target's error."""
    before = server.counts_of(port)[1].get(f"/{short}", 0)
    subject.configure("scrape_configs:\n" + targets.jobs_of_bad([short], port))
    subject.reload()
    deadline, outcome = time.monotonic() + 2 * targets.BAD[short].interval + 10, "no `up`"
    while subject.alive() and time.monotonic() < deadline:
        time.sleep(0.2)
        try:
            found = subject.rows(f'up{{job="hostile-{short}"}}', patience=5)
        except OSError:
            continue
        if found:
            outcome = f"up {found[0]['value'][1]}"
            active = subject.get("/api/v1/targets", state="active")["activeTargets"]
            outcome += f" {active[0]['lastError'][:160]}" + counted(subject, short) if active else ""
            break
    # The figures have one scrape in them, not two.
    subject.configure("scrape_configs: []\n")
    subject.reload()
    return server.counts_of(port)[1].get(f"/{short}", 0) - before, outcome.replace("|", "/").replace("\n", " ").strip()


def counted(subject, short):
    found = subject.rows(f'scrape_samples_scraped{{job="hostile-{short}"}}')
    kept = subject.rows(f'scrape_samples_post_metric_relabeling{{job="hostile-{short}"}}')
    return f" ({found[0]['value'][1]} read, {kept[0]['value'][1]} kept)" if found and kept else ""


def load(subject, short, port):
    """Loads the file by a reload, waits for what should come of it."""
    if short == "file-sd-40000":
        text = rulefiles.many_targets(40_000, port)
        with open(subject.path("targets.yml"), "w") as f:
            f.write(text)
        subject.configure("scrape_configs:\n- job_name: many\n  scrape_interval: 1h\n  scrape_timeout: 1s\n"
                          "  file_sd_configs: [{files: [targets.yml]}]\n")
        subject.reload()
        return len(text), wait_for(subject, 40_000, "targets", targets_there)
    text = {"doubling": rulefiles.doubling, "loops": rulefiles.loops,
            "rules-100000": lambda: rulefiles.many_rules(100_000)}[short]()
    subject.add_rules(short, text)
    subject.reload()
    if short == "rules-100000":
        return len(text), wait_for(subject, 100_000, "rules", rules_there)
    wanted = 3 if short == "doubling" else 1
    outcome = wait_for(subject, wanted, "alerts firing", alerts_there)
    texts = [a["annotations"]["text"][:100] for a in subject.get("/api/v1/alerts")["alerts"]] if subject.alive() else []
    return len(text), outcome + (f": {texts[0]}" if texts else "")


def targets_there(subject):
    return len(subject.get("/api/v1/targets", state="active", patience=60)["activeTargets"])


def rules_there(subject):
    return sum(len(g["rules"]) for g in subject.get("/api/v1/rules", patience=60)["groups"])


def alerts_there(subject):
    return len([a for a in subject.get("/api/v1/alerts")["alerts"] if a["state"] == "firing"])


def wait_for(subject, wanted, what, count):
    found, deadline = 0, time.monotonic() + 4 * PATIENCE
    while subject.alive() and time.monotonic() < deadline and found < wanted:
        time.sleep(0.5)
        try:
            found = count(subject)
        except OSError:
            continue
    return f"{found} {what}" + ("" if found >= wanted else f" of {wanted}; log: {subject.process.tail()[-200:]!r}")


if __name__ == "__main__":
    sys.exit("run benches/hostile.py inputs")
