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


AGGREGATES = ("sum", "avg", "max", "min", "count")
SUBJECTS = ("rate(http_requests_total[5m])", "rate(http_requests_total[1m])", "queue_depth",
            "avg_over_time(temperature_celsius[5m])", "rate(http_request_duration_seconds_count[5m])")
BY = ("job", "job, instance")


def threshold_file(count, jobs, interval):
    """The YAML of `count` rules in fifty shapes over shared selectors with ever other thresholds, and how many record.

    Shape: aggregate × subject × grouping. Every fifth rule records what lies above its threshold, the others alert.
    """
    shapes = [f"{a} by ({by}) ({s})" for a in AGGREGATES for s in SUBJECTS for by in BY]
    out, kept = ["groups:"], 0
    for i in range(count):
        if i % 200 == 0:
            out += [f"- name: many{i // 200}", f"  interval: {interval}", "  rules:"]
        expression = shapes[i % len(shapes)]
        # Thresholds of recording rules are low, those of alerts out of reach.
        if i // len(shapes) % 5 == 0:
            out += [f"  - record: many:{i}", f"    expr: '{expression} > -{i}'"]
            kept += 1
        else:
            out += [f"  - alert: Many{i}", f"    expr: '{expression} > {10**9 + i}'"]
    return "\n".join(out) + "\n", kept


def subquery_file(count, jobs, interval):
    """The YAML of `count` recording rules over an hour of a subquery, in four shapes for each job, with ever other thresholds."""
    subjects = ("http_requests_total", "http_request_duration_seconds_count")
    shapes = [f'{a} by (job, instance) (rate({s}{{job="job{j}"}}[5m]))'
              for a in ("sum", "max") for s in subjects for j in range(jobs)]
    out = ["groups:"]
    for i in range(count):
        if i % GROUP_SIZE == 0:
            out += [f"- name: subqueries{i // GROUP_SIZE}", f"  interval: {interval}", "  rules:"]
        out += [f"  - record: subquery:{i}", f"    expr: 'max_over_time(({shapes[i % len(shapes)]})[1h:1m]) > -{i}'"]
    return "\n".join(out) + "\n"


def windowed_metric(function):
    """The metric over which `window_file` applies `function`."""
    return {"rate": "http_requests_total", "max_over_time": "queue_depth"}.get(function, "temperature_celsius")


def window_file(function, window, jobs, count):
    """The YAML of `count` rules that apply `function` over `window` and sum; rule i reads job i modulo `jobs`."""
    metric = windowed_metric(function)
    out = ["groups:", "- name: windows", "  interval: 5s", "  rules:"]
    for i in range(count):
        grouping = ("instance", "instance, job")[i // jobs % 2]
        out += [f"  - record: window:{i}",
                f"    expr: 'sum by ({grouping}) ({function}({metric}{{job=\"job{i % jobs}\"}}[{window}]))'"]
    return "\n".join(out) + "\n"


def state_file(count, windows):
    """The YAML of `count` rules over the same series with one window each."""
    out = ["groups:", "- name: state", "  interval: 5s", "  rules:"]
    for window in windows[:count]:
        out += [f"  - record: state:{window}", f"    expr: 'sum by (job) (rate(http_requests_total[{window}]))'"]
    return "\n".join(out) + "\n"
