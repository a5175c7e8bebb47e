"""The experiment `alerts`: notifications and log records per alert. Conditions begin and end for `--seconds`, in rule groups of 5 s."""

import time

from . import notify, process

CONDITIONS = 300
RULES = 20


class Conditions(notify.Loopback):
    """Gauges `bench_condition{id="…"}`. A tenth is 1 all the time; of the others each is 1 for a third of its own period."""

    def respond(self, method, path, body, seen):
        now = time.time()
        lines = []
        for n in range(CONDITIONS):
            on = n % 10 == 0 or int(now / (20 + n)) % 3 == n % 3
            lines.append(f'bench_condition{{id="{n}",part="{n % RULES}"}} {int(on)}\n')
        return ("# TYPE bench_condition gauge\n" + "".join(lines)).encode(), lambda: None


def rule_file():
    """Alerts with and without `for` and `keep_firing_for`, four groups."""
    out = ["groups:"]
    for group in range(4):
        out += [f"- name: part{group}", "  interval: 5s", "  rules:"]
        for part in range(group, RULES, 4):
            out += [f"  - alert: Condition{part}", f'    expr: bench_condition{{part="{part}"}} == 1',
                    f"    for: {[0, 7, 15][part % 3]}s", f"    keep_firing_for: {[0, 12][part % 2]}s"]
    return "\n".join(out) + "\n"


def alerts(kind, options):
    """Requests and alerts sent, and samples written, over `--seconds`."""
    conditions, receiver = Conditions(process.free_port()), notify.Alertmanager(process.free_port())
    try:
        with kind(options.directory, options) as server:
            server.interval, server.alertmanager_port, server.rules = 2, receiver.port, rule_file()
            server.start("scrape_configs:\n- job_name: conditions\n  static_configs:\n"
                         f"  - targets: ['127.0.0.1:{conditions.port}']\n")
            # Whatever is on is told first.
            time.sleep(30)
            requests, told = receiver.requests, receiver.alerts
            time.sleep(options.seconds)
            requests, told = receiver.requests - requests, receiver.alerts - told
            window = int(options.seconds)
            samples = server.count(f'sum(count_over_time({{__name__=~"ALERTS|ALERTS_FOR_STATE"}}[{window}s]))')
            steady = server.count('sum(count_over_time(ALERTS{id="0"}[1m]))')
            if not told or not samples:
                raise RuntimeError("no alerts were sent or recorded")
            return {"requests": requests, "alerts sent": told, "samples of ALERTS and ALERTS_FOR_STATE": samples,
                    "samples of ALERTS of an alert that is active all the time, a minute": steady}
    finally:
        conditions.stop()
        receiver.stop()
