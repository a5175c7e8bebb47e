"""The experiment `rule-memory`: resident memory with a large collection of published rules, minus that without them.

The targets replay captured scrapes of real exporters (`captures.py`); the rules are all files of `--rule-files`. Most rules of
such a collection find no series, so the result includes what a rule without series costs.
"""

import glob
import os
import time

from . import captures, experiments

TARGETS = 27


def jobs(options, port):
    """`scrape_configs:` of the targets: a job per capture, with the names that rules of the world look for."""
    kinds = list(captures.files(options.captures))
    usual = {"node": "node-exporter", "prom": "prometheus"}
    out = ["scrape_configs:"]
    for kind, name in enumerate(kinds):
        job = usual.get(name.split("_")[0], name.split("_")[0])
        out += [f"- job_name: {job}", "  static_configs:"]
        for number in range(kind, TARGETS, len(kinds)):
            out += [f"  - targets: ['127.0.0.1:{port}']",
                    f"    labels: {{instance: 'host-{number}', __metrics_path__: /t/{number}}}"]
    return "\n".join(out) + "\n"


def rule_memory(kind, options):
    """Resident memory, with and without the rules of `--rule-files`."""
    if not options.captures or not options.rule_files:
        raise SystemExit("rule-memory needs --captures DIRECTORY and --rule-files DIRECTORY")
    files = sorted(glob.glob(os.path.join(os.path.abspath(options.rule_files), "*.y*ml")))
    with experiments.exporter_of(options, "capture_exporter.py", options.captures) as port, kind(options.directory, options) as server:
        server.interval = options.scrape_interval or 15
        server.start(jobs(options, port))
        time.sleep(options.seconds)
        without = server.memory_bytes()
        series = server.count('count({__name__=~".+"})')
        server.rule_files = files
        server.add_rules(None)
        time.sleep(options.seconds)
        with_rules, used = server.memory_bytes(), experiments.cores(server, options.seconds)
        loaded = server.rules_loaded()
        if not loaded:
            raise RuntimeError("no rules were loaded")
        return {"rules": loaded, "scraped series": series, "resident without rules (MB)": without[0] / 1e6,
                "resident with rules (MB)": with_rules[0] / 1e6, "a rule (kB)": (with_rules[0] - without[0]) / loaded / 1e3,
                "cores with rules": used}
