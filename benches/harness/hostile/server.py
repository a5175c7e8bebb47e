"""Starts the server under test and the helper processes, and reads the memory, descriptors and CPU time of the server from the operating
system."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

from .. import process, servers

BENCHES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONFIG = """global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 5s}
rule_files: ['rules*.yml']
"""


class Server:
    """The binary with all calls enabled that a bad client may try; ended at `memory` bytes, for the machine's sake."""

    def __init__(self, binary, directory, memory, flags=()):
        self.directory, self.memory = directory, memory
        self.port = process.free_port()
        self.configure("scrape_configs: []\n")
        # The soft limit that most systems give: to raise it is the server's business.
        command = ["setpriv", "--pdeathsig", "KILL", "prlimit", "--nofile=1024:", binary, f"--config.file={self.path('server.yml')}",
                   f"--storage.tsdb.path={self.path('data')}", f"--web.listen-address=127.0.0.1:{self.port}",
                   "--web.enable-remote-write-receiver", "--web.enable-lifecycle", "--web.enable-admin-api",
                   "--log.level=warn", *flags]
        self.process = process.Process(command, self.path("server.log"))
        self.pid = self.process.child.pid
        self.killed = None
        self.guard = threading.Thread(target=self.watch_memory, daemon=True)
        self.guard.start()
        self.process.wait_ready(f"http://127.0.0.1:{self.port}/-/ready")

    def path(self, name):
        return os.path.join(self.directory, name)

    def configure(self, jobs):
        with open(self.path("server.yml"), "w") as f:
            f.write(CONFIG + jobs)

    def add_rules(self, name, text):
        with open(self.path(f"rules-{name}.yml"), "w") as f:
            f.write(text)

    def reload(self):
        self.process.signal(signal.SIGHUP)

    def watch_memory(self):
        while self.alive():
            try:
                if self.resident() > self.memory:
                    self.killed = f"ended by us at {self.memory / 2**30:.0f} GiB"
                    self.process.child.kill()
                    return
            except (OSError, ValueError, IndexError):
                return
            time.sleep(0.02)

    def alive(self):
        return self.process.child.poll() is None

    def resident(self):
        with open(f"/proc/{self.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def forget_peak(self):
        """Lets the largest resident set begin anew."""
        with open(f"/proc/{self.pid}/clear_refs", "w") as f:
            f.write("5")

    def state(self):
        """(resident bytes, anonymous bytes, descriptors, threads, CPU seconds)."""
        resident, anonymous = self.process.memory_bytes()
        descriptors = len(os.listdir(f"/proc/{self.pid}/fd"))
        threads = len(os.listdir(f"/proc/{self.pid}/task"))
        return resident, anonymous, descriptors, threads, self.process.cpu_seconds()

    def end_of_life(self):
        """Why the process does not live, or None."""
        code = self.process.child.poll()
        if code is None:
            return None
        return self.killed or (f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}")

    def get(self, path, patience=30, **parameters):
        url = servers.Server.url(self, path, **parameters)
        with urllib.request.urlopen(url, timeout=patience) as answer:
            return json.load(answer)["data"]

    def rows(self, query, **parameters):
        return self.get("/api/v1/query", query=query, **parameters)["result"]

    def terminate(self, patience=60):
        """SIGTERM: the seconds until the process is gone; it is killed when that takes too long."""
        began = time.monotonic()
        self.process.signal(signal.SIGTERM)
        try:
            self.process.child.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.child.kill()
            self.process.child.wait()
        return time.monotonic() - began

    def kill(self):
        if self.alive():
            self.process.child.kill()
            self.process.child.wait()


class Helper:
    """A process of this package that lives as long as its standard input is open."""

    def __init__(self, module, *arguments, log):
        with open(log, "wb") as err:
            self.child = subprocess.Popen([sys.executable, "-m", f"harness.hostile.{module}", *map(str, arguments)],
                                          cwd=BENCHES, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err,
                                          start_new_session=True)
        self.last_line = b"{}"
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.child.stdout:
            self.last_line = line

    def figures(self):
        """The JSON that the helper said last."""
        return json.loads(self.last_line)

    def end(self):
        self.child.stdin.close()
        try:
            self.child.wait(15)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def target_server(kind, log):
    """A helper that serves targets, and its port."""
    port = process.free_port()
    helper = Helper("targets", kind, port, log=log)
    for _ in range(200):
        try:
            counts_of(port)
            return helper, port
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the {kind} targets do not answer: see {log}")


def counts_of(port):
    """What the targets counted: requests by path, bytes by path."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/counts", timeout=20) as answer:
        return json.load(answer)
