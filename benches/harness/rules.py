"""The rule file: N mixed rules in six shapes, a third of them alerts.

Rule i has shape i mod 6; job, grouping and window walk through their lists, so that many rules read the same
series in different ways, as grown rule files do. Every third rule is an alert on the same expression.
"""

GROUPINGS = ("method", "code", "route", "instance", "method, code", "instance, route")
WINDOWS = ("5m", "1m", "2m", "10m")
QUANTILES = ("0.5", "0.9", "0.95", "0.99")
GROUP_SIZE = 50


def _sum_by_rate(job, by, window, _):
    return f'sum by ({by}) (rate(http_requests_total{{job="{job}"}}[{window}]))', "> 1e9"


def _ratio(job, by, window, _):
    bad = f'sum by ({by}) (rate(http_requests_total{{job="{job}",code=~"5.."}}[{window}]))'
    return f'{bad} / sum by ({by}) (rate(http_requests_total{{job="{job}"}}[{window}]))', "> 0.999"


def _quantile(job, by, window, n):
    by = "le" if "instance" not in by else "le, instance"
    rate = f'rate(http_request_duration_seconds_bucket{{job="{job}"}}[{window}])'
    return f"histogram_quantile({QUANTILES[n % 4]}, sum by ({by}) ({rate}))", "> 2.4"


def _max_over_hour(job, by, _, n):
    return f'max_over_time(queue_depth{{job="{job}",queue=~"q{n % 10}.*"}}[1h])', "> 6400"


def _avg_over_time(job, by, window, n):
    return f'avg_over_time(temperature_celsius{{job="{job}",sensor=~"s{n % 10}.*"}}[{window}])', "> 103"


def _predict(job, by, window, n):
    return f'predict_linear(queue_depth{{job="{job}",queue=~"q{n % 10}.*"}}[{window}], 3600)', "> 1e7"


SHAPES = (_sum_by_rate, _ratio, _quantile, _max_over_hour, _avg_over_time, _predict)


def rule(i, jobs):
    """(name, expression, condition or None) of rule `i`; a condition makes it an alert."""
    shape, n = SHAPES[i % len(SHAPES)], i // len(SHAPES)
    job = f"job{n % jobs}"
    by = GROUPINGS[n // jobs % len(GROUPINGS)]
    expression, condition = shape(job, by, WINDOWS[(n + n // jobs) % len(WINDOWS)], n)
    name = shape.__name__.strip("_")
    return name, expression, condition if i // len(SHAPES) % 3 == 2 else None


def rule_file(count, jobs, interval):
    """The YAML of `count` rules in groups of 50, evaluated every `interval` (a Prometheus duration)."""
    out = ["groups:"]
    for i in range(count):
        if i % GROUP_SIZE == 0:
            out += [f"- name: bench{i // GROUP_SIZE}", f"  interval: {interval}", "  rules:"]
        name, expression, condition = rule(i, jobs)
        if condition is None:
            out += [f"  - record: bench:{name}:{i}", f"    expr: '{expression}'"]
        else:
            out += [f"  - alert: Bench_{name}_{i}", f"    expr: '({expression}) {condition}'", "    for: 1m",
                    "    labels: {severity: warning}",
                    "    annotations: {summary: 'value {{ $value }} on {{ $labels.instance }}'}"]
    return "\n".join(out) + "\n"
