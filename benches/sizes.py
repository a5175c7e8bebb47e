#!/usr/bin/env python3
"""Bytes per sample, index included, of the same samples in three stores: `benches/sizes.py DIRECTORY` of captures.

Prometheus: `promtool tsdb create-blocks-from openmetrics`. VictoriaMetrics: import, flush, forced merge. Perennial: the
example `block_cost` (build it first: `cargo build --release -p perennial-storage --examples`).
"""

import argparse
import os
import subprocess
import tempfile
import time
import urllib.request

from harness import captures, process, servers

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def lines(directory, seconds):
    """All samples as text, and their number; timestamps in seconds (OpenMetrics) or milliseconds."""
    out, count = [], 0
    for instance, (job, path) in enumerate(captures.files(directory).items()):
        target = f'instance="host-{instance:05}.example.org:9100",job="{job}"'
        for t, values in captures.scrapes(path):
            at = f"{t / 1000:.3f}" if seconds else str(t)
            for series, value in values.items():
                name, brace, labels = series.partition("{")
                labels = labels.replace('", ', '",')
                labels = f"{labels[:-1]},{target}" if brace and labels != "}" else target
                out.append(f"{name}{{{labels}}} {value} {at}")
            count += len(values)
    return out, count


def disk_bytes(directory):
    return sum(os.path.getsize(os.path.join(at, f)) for at, _, files in os.walk(directory) for f in files)


def prometheus(directory, scratch, options):
    text, count = lines(directory, True)
    path, out = os.path.join(scratch, "all.om"), os.path.join(scratch, "prometheus")
    with open(path, "w") as f:
        # By time, so that no block is begun twice.
        f.write("\n".join(sorted(text, key=lambda line: float(line.rpartition(" ")[2]))) + "\n# EOF\n")
    program = options.promtool or process.find_program("promtool", "prometheus")
    print(f"- promtool: {process.version(program)}")
    subprocess.run([program, "tsdb", "create-blocks-from", "openmetrics", path, out], check=True,
                   stdout=subprocess.DEVNULL)
    return disk_bytes(out) / count


def victoria(directory, scratch, options):
    text, count = lines(directory, False)
    print(f"- victoria-metrics: {servers.Victoria.versions(options)['victoria-metrics']}")
    with servers.Victoria(os.path.join(scratch, "victoria"), options) as server:
        server.start("scrape_configs:\n")
        for at in range(0, len(text), 50000):
            body = ("\n".join(text[at:at + 50000]) + "\n").encode()
            urllib.request.urlopen(server.url("/api/v1/import/prometheus"), body, timeout=120).read()
        for path in ("/internal/force_flush", "/internal/force_merge"):
            urllib.request.urlopen(server.url(path), timeout=120).read()
        time.sleep(10)
        # Its caches are left out.
        return sum(disk_bytes(os.path.join(server.path("data"), part)) for part in ("data", "indexdb")) / count


def perennial(directory, scratch, _):
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    program = os.path.join(target, "release", "examples", "block_cost")
    said = subprocess.run([program, "sizes", directory, os.path.join(scratch, "perennial")], check=True,
                          stdout=subprocess.PIPE).stdout.decode()
    return float(next(line.split()[0] for line in said.splitlines() if "bytes per sample, all files" in line))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captures", metavar="DIRECTORY")
    process.peer_arguments(parser, "promtool", "victoria-metrics", "vmalert")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-sizes-") as scratch:
        for store in (perennial, prometheus, victoria):
            print(f"{store.__name__}: {store(options.captures, scratch, options):.3f} bytes per sample", flush=True)


if __name__ == "__main__":
    main()
