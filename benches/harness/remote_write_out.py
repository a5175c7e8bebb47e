"""CPU per sample that is sent by remote write: cores with a receiver minus cores of scraping alone, in one process.

The receiver is in the harness' own process and takes everything; how much was sent is what the server says of itself.
"""

import signal
import time
import urllib.request

from . import experiments, load, notify, process, servers


class Receiver(notify.Loopback):
    """Accepts every request; counts requests and bytes."""

    def __init__(self, port):
        self.requests, self.bytes = 0, 0
        super().__init__(port)

    def respond(self, method, path, body, seen):
        self.requests += 1
        self.bytes += len(body)
        return b"", lambda: None


def sent(server):
    """The samples that a server has sent so far, by its own metrics."""
    with urllib.request.urlopen(server.url("/metrics"), timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    counters = [line for line in lines if line.startswith("prometheus_remote_storage_samples_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in counters)


def remote_write_out(kind, options):
    """CPU per sent sample; the message is that of remote write 1.0."""
    epoch, members = experiments.epoch_of_run(), load.targets(options.series)
    receiver = Receiver(process.free_port())
    try:
        with experiments.exporter(options, epoch) as port, kind(options.directory, options) as server:
            server.interval = options.scrape_interval or 1
            jobs = servers.scrape_jobs(members, port)
            server.start(jobs)
            time.sleep(2 * server.interval + 3)
            baseline = experiments.cores(server, options.seconds)
            server.configure(f"remote_write:\n- url: http://127.0.0.1:{receiver.port}/api/v1/write\n{jobs}")
            server.processes[0].signal(signal.SIGHUP)
            time.sleep(15)
            before, start = sent(server), time.monotonic()
            bytes_before = receiver.bytes
            total = experiments.cores(server, options.seconds)
            rate = (sent(server) - before) / (time.monotonic() - start)
            expected = options.series / server.interval
            experiments.check(rate > 0.8 * expected, f"{rate:.0f} of {expected:.0f} samples sent per second")
            return {"CPU per sample (µs)": (total - baseline) / rate * 1e6, "samples per second": rate,
                    "bytes per sample": (receiver.bytes - bytes_before) / rate / (time.monotonic() - start)}
    finally:
        receiver.stop()
