"""Real captures as a load: scrapes in the text format, each behind a line `# SCRAPE <unix ms>`, `zstd --long=27`.

Each file is one target; to have more series, it is there several times with other instance labels.
"""

import glob
import os
import re
import struct
import subprocess

LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def text(path):
    """A capture, unpacked."""
    return subprocess.run(["zstd", "-dc", "--long=27", path], check=True, stdout=subprocess.PIPE).stdout.decode()


def scrapes(path):
    """[(unix ms, {series text: value text})] of a capture."""
    found = []
    for line in text(path).splitlines():
        if line.startswith("# SCRAPE "):
            found.append((int(line[9:]), {}))
        elif line and not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            if not series or "{" in series and not series.endswith("}"):
                continue  # the last scrape may have been cut off
            found[-1][1][series] = value
    return found


def files(directory, step="15s"):
    """The captures of a directory, by the job that they are given."""
    return {os.path.basename(p).split(".")[0]: p for p in sorted(glob.glob(os.path.join(directory, f"*_{step}.txt.zst")))}


class Target:
    """A capture as `load.Target` is: the series that every scrape has."""

    def __init__(self, job, instance, names, rows):
        self.job, self.instance, self.rows = job, f"host-{instance:05}.example.org:9100", rows
        self.series = [(name.partition("{")[0], dict(LABEL.findall(name.partition("{")[2]))) for name in names]

    def full_labels(self, i):
        name, labels = self.series[i]
        return sorted({"__name__": name, **labels, "instance": self.instance, "job": self.job}.items())

    def packed(self, t):
        """The values at `t` (seconds), 15 s a scrape, as little-endian doubles."""
        return self.rows[int(t / 15) % len(self.rows)]


def targets(directory, series):
    """Targets that together have at least `series` series."""
    shapes = []
    for job, path in files(directory).items():
        all_scrapes = scrapes(path)
        names = sorted(set.intersection(*(set(values) for _, values in all_scrapes)))
        rows = [[struct.pack("<d", float(values[n])) for n in names] for _, values in all_scrapes]
        shapes.append((job, names, rows))
    members, count = [], 0
    while count < series:
        job, names, rows = shapes[len(members) % len(shapes)]
        members.append(Target(job, len(members), names, rows))
        count += len(names)
    return members
