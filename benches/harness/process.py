"""Child processes: start, wait until ready, CPU and memory as the operating system counts them, stop."""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    """A loopback port that nobody uses at this moment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def find_program(name, package):
    """The path of an installed program, or an error that names Debian's package and the option."""
    path = shutil.which(name)
    if path is None:
        raise SystemExit(f"{name} is not installed; pass --{name} PATH, or install it with: apt-get install {package}")
    return path


def peer_arguments(parser, *programs):
    """Options for the paths of these programs: the newest ones are not Debian's."""
    for program in programs:
        parser.add_argument(f"--{program}", metavar="PATH", help=f"this {program} instead of the installed one")


def version(path):
    """The first line that a program says of its version."""
    done = subprocess.run([path, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode != 0 or not lines:
        raise SystemExit(f"{path} --version says nothing of use: {done.stdout[:200]!r}")
    return lines[0]


class Process:
    """A child whose output goes to a file; killed when the harness leaves the `with` block."""

    def __init__(self, command, log):
        self.log = log
        with open(log, "ab") as out:
            self.child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)

    def cpu_seconds(self):
        """User + system time of all threads so far (/proc/<pid>/stat)."""
        with open(f"/proc/{self.child.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_bytes(self):
        """(resident, anonymous resident) bytes; the second leaves out mapped files."""
        found = {}
        with open(f"/proc/{self.child.pid}/status") as f:
            for line in f:
                key, _, rest = line.partition(":")
                if key in ("VmRSS", "RssAnon"):
                    found[key] = int(rest.split()[0]) * 1024
        return found["VmRSS"], found["RssAnon"]

    def peak_bytes(self):
        """The largest resident set so far."""
        with open(f"/proc/{self.child.pid}/status") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM:"))

    def wait_ready(self, url, seconds=60):
        """Returns when `url` answers 200; raises with the end of the log when it does not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                raise RuntimeError(f"exited with {self.child.returncode}: {self.tail()}")
            try:
                with urllib.request.urlopen(url, timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                pass
            time.sleep(0.002)
        raise RuntimeError(f"{url} not ready after {seconds} s: {self.tail()}")

    def tail(self):
        with open(self.log, errors="replace") as f:
            return "".join(f.readlines()[-15:])

    def signal(self, number):
        self.child.send_signal(number)

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
