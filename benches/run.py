#!/usr/bin/env python3
"""Runs Perennial, Prometheus and VictoriaMetrics through the same load and prints tables with ratios.

`benches/README.md` says what each experiment measures and where it is unfair. Read next: `harness/experiments.py`.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile

from harness import (alerts, experiments, isolation, live, process, query_cpu, remote_write_out, report, rule_memory,
                     servers)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


EXPERIMENTS = {**experiments.ALL, **live.ALL, "isolation": isolation.isolation, "query-cpu": query_cpu.query_cpu,
               "instant-cpu": query_cpu.instant_cpu, "remote-write-out": remote_write_out.remote_write_out,
               "rule-memory": rule_memory.rule_memory, "alerts": alerts.alerts}


def find_perennial():
    """The newest release binary of this checkout, or None."""
    places = [os.environ.get("CARGO_TARGET_DIR"), os.path.join(ROOT, "target"),
              os.path.expanduser("~/.cache/perennial/target")]
    for place in filter(None, places):
        path = os.path.join(place, "release", "perennial")
        if os.access(path, os.X_OK):
            return path
    return None


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("experiment", choices=[*EXPERIMENTS, "all"])
    p.add_argument("--servers", default="perennial,prometheus,victoria", help="comma-separated, in column order")
    p.add_argument("--perennial", default=find_perennial(), metavar="PATH", help="the binary under test")
    process.peer_arguments(p, "prometheus", "victoria-metrics", "vmalert")
    p.add_argument("--series", type=int, default=20000, help="scraped series, a multiple of 500 (%(default)s)")
    p.add_argument("--seconds", type=float, help="length of the measured stretch (30; with --long 600)")
    p.add_argument("--long", action="store_true", help="ten minutes per server, so that windows are full")
    p.add_argument("--rules", type=int, default=500, help="number of rules (%(default)s)")
    p.add_argument("--rule-interval", type=int, default=5, metavar="SECONDS",
                   help="rules, many-rules: interval of groups (%(default)s)")
    p.add_argument("--prefill", type=float, default=0, metavar="MINUTES",
                   help="rules, windows, new-view: history written before the start, so that windows are full at once")
    p.add_argument("--scrape-interval", type=int, metavar="SECONDS",
                   help="scrape (1), many-rules (15), rules (the rules' interval)")
    p.add_argument("--hours", type=float, default=2,
                   help="memory, restart, queries, query-cpu: history at 15 s (%(default)s)")
    p.add_argument("--captures", metavar="DIRECTORY", help="memory, restart, rule-memory: real captures (*_15s.txt.zst) as samples")
    p.add_argument("--rule-files", metavar="DIRECTORY", help="rule-memory: all rule files (*.yml, *.yaml) of it")
    p.add_argument("--step", type=int, default=60, metavar="SECONDS", help="query-cpu: of range queries (%(default)s)")
    p.add_argument("--rounds", type=int, default=5, help="query-cpu, instant-cpu: rounds per query (%(default)s)")
    p.add_argument("--only", default="", metavar="TEXTS", help="query-cpu: queries with one of these in their names")
    p.add_argument("--reuse", metavar="DIRECTORY", help="query-cpu: keep the samples here, and use those that are here")
    p.add_argument("--settle", type=float, default=15, help="memory, restart, queries: rest after writing (%(default)s s)")
    p.add_argument("--switches", type=int, default=25, help="notify: number of alerts (%(default)s)")
    p.add_argument("--group-interval", type=int, default=5, help="notify: the rule group's interval (%(default)s s)")
    p.add_argument("--json", metavar="FILE", help="also write all figures as JSON")
    p.add_argument("--keep", action="store_true", help="keep data directories and logs")
    options = p.parse_args()
    options.seconds = options.seconds or (600 if options.long else 30)
    return options


def run_one(name, kind, options):
    """The figures of one server in one experiment, or None and the reason on stderr."""
    options.directory = tempfile.mkdtemp(prefix=f"bench-{name}-{kind.name}-")
    print(f"{name}: {kind.label} …", file=sys.stderr, flush=True)
    failed = True
    try:
        figures = EXPERIMENTS[name](kind, options)
        failed = False
        return figures
    except (RuntimeError, OSError, LookupError) as error:
        print(f"{name}: {kind.label} failed: {error}\n  its logs: {options.directory}", file=sys.stderr)
        return None
    finally:
        if not failed and not options.keep:
            shutil.rmtree(options.directory, ignore_errors=True)


def main():
    options = arguments()
    kinds = [servers.KINDS[n] for n in options.servers.split(",")]
    possible = [name for name in EXPERIMENTS if name != "rule-memory" or options.rule_files]
    names = possible if options.experiment == "all" else [options.experiment]
    labels = {k.name: k.label for k in kinds}
    failed = False
    versions = {program: said for kind in kinds for program, said in kind.versions(options).items()}
    everything = {"machine": report.machine(), "versions": versions, "series": options.series, "rules": options.rules}
    print(f"{everything['machine']}; {options.series} series, {options.seconds:g} s measured.", flush=True)
    print("".join(f"- {program}: {said}\n" for program, said in versions.items()), flush=True)
    for name in names:
        fit = [k for k in kinds if name not in live.PERENNIAL_ONLY or k is servers.Perennial]
        if name == "remote-write-out":
            fit = [k for k in fit if k is not servers.Victoria]  # its agent would be another program
        results = {k.name: run_one(name, k, options) for k in fit}
        failed |= None in results.values()
        results = {k: v for k, v in results.items() if v is not None}
        everything[name] = results
        if results:
            baseline = "prometheus" if "prometheus" in results else next(iter(results))
            print(report.table(name, results, labels, baseline) + "\n", flush=True)
    if options.json:
        with open(options.json, "w") as f:
            json.dump(everything, f, indent=1)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
