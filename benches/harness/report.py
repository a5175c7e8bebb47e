"""Markdown for `docs/benchmarks.md`: one table per experiment, ratios to the first peer present."""

import math
import os
import platform


def machine():
    """One line about the machine; figures without it mean little."""
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "unknown CPU")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} × {model}, {memory:.0f} GiB, {platform.system()} {platform.release()}"


def number(x):
    if x is None:
        return "–"
    if x == 0 or abs(x) >= 100:
        return f"{x:.0f}"
    return f"{x:.{max(0, 2 - math.floor(math.log10(abs(x))))}f}"


def ratio(x, base):
    return "–" if not x or not base or x <= 0 or base <= 0 else number(x / base)


def table(experiment, results, labels, baseline):
    """`results[server][figure]` as rows of figures with one column per server and its ratio to `baseline`."""
    names = list(results)
    figures = list(dict.fromkeys(f for r in results.values() for f in r))
    others = [n for n in names if n != baseline] if baseline in results else []
    head = [experiment] + [labels[n] for n in names] + [f"{labels[n]} ÷ {labels[baseline]}" for n in others]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    for figure in figures:
        row = [figure] + [number(results[n].get(figure)) for n in names]
        row += [ratio(results[n].get(figure), results[baseline].get(figure)) for n in others]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)
