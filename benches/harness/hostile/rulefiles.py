"""The harmful rule files and target files: templates that double a string again and again, and files as large as Prometheus accepts."""

ITEM = 8


def alert(name, text):
    return f"  - alert: {name}\n    expr: vector(1)\n    annotations:\n      text: '{text}'\n"


def doubling():
    """Three alerts whose templates double a string forty times in a variable, and print nothing of it."""
    doubled = '{{ $a := "0123456789abcdef" }}' + '{{ $a = printf "%s%s" $a $a }}' * 40
    return "groups:\n- name: doubling\n  interval: 5s\n  rules:\n" + "".join(
        alert(f"Doubling{n}", doubled) for n in range(3))


def loops():
    """An alert whose template walks through 10,000 rows for each of 10,000 rows."""
    text = '{{ range query "fuel" }}{{ range query "fuel" }}{{ end }}{{ end }}'
    return "groups:\n- name: loops\n  interval: 15s\n  rules:\n" + alert("Loops", text)


def many_rules(count):
    """A file of `count` small rules, in groups of a hundred."""
    out = ["groups:"]
    for n in range(count):
        if n % 100 == 0:
            out += [f"- name: many{n // 100}", "  interval: 1m", "  rules:"]
        out.append(f"  - {{record: 'many:{n}', expr: up}}")
    return "\n".join(out) + "\n"


def many_targets(count, port):
    """A file of `count` target entries."""
    return "".join(f"- targets: ['127.0.0.1:{port}']\n  labels: {{n: 'n{n}'}}\n" for n in range(count))
