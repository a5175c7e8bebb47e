#!/usr/bin/env python3
"""Bad targets, bad clients and bad rules against the server, beside good load or each alone.

    benches/hostile.py [soak] --minutes 60      all of them together beside 80 good targets, 500 rules, 20 queries a second
    benches/hostile.py inputs                   each alone against a fresh server
    benches/hostile.py list                     what there is

All load stays on the loopback addresses, is bounded, and ends with this process. `benches/README.md` says more. Read
next: `harness/hostile/soak.py`.
"""

import argparse
import os
import sys

from harness.hostile import inputs, soak
from run import find_perennial


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("mode", nargs="?", default="soak", choices=("soak", "inputs", "list"))
    p.add_argument("--perennial", default=find_perennial(), metavar="PATH", help="the binary under test (%(default)s)")
    p.add_argument("--minutes", type=float, default=60, help="soak: length of the hostile phase (%(default)s)")
    p.add_argument("--idle", type=int, default=60, metavar="SECONDS", help="soak: the good load alone before (%(default)s)")
    p.add_argument("--settle", type=int, default=15, metavar="SECONDS", help="soak: before the idle phase (%(default)s)")
    p.add_argument("--targets", type=int, default=80, help="soak: good ones, at most 80 (%(default)s)")
    p.add_argument("--rules", type=int, default=500, help="soak: good ones (%(default)s)")
    p.add_argument("--exit-seconds", type=float, default=2, metavar="SECONDS",
                   help="soak: the longest time from SIGTERM to the end (%(default)s)")
    p.add_argument("--lost", type=float, default=0, metavar="SHARE", help="soak: good scrapes that may be lost (%(default)s)")
    p.add_argument("--only", type=words, default=[], metavar="NAMES", help="these actors or inputs, separated by commas")
    p.add_argument("--also", type=words, default=[], metavar="NAMES", help="soak: these too, which are off by themselves")
    p.add_argument("--without", type=words, default=[], metavar="NAMES", help="soak: all but these")
    p.add_argument("--memory", type=float, default=6, metavar="GIB", help="the server is ended beyond this (%(default)s)")
    p.add_argument("--seed", type=int, default=1, help="of the order in which things happen (%(default)s)")
    p.add_argument("--strict", action="store_true", help="soak: the latency criterion decides the exit code too")
    p.add_argument("--keep", action="store_true", help="soak: keep figures, logs and data")
    options = p.parse_args()
    options.memory = int(options.memory * 2**30)
    return options


def words(text):
    return [w for w in text.split(",") if w]


def print_list(options):
    print("soak:")
    for name, item, what, usual in soak.names():
        print(f"  {name:28} item {item:2}  {what}" + ("" if usual else "  (off unless --also)"))
    print("inputs:")
    for name, item, what in inputs.names():
        print(f"  {name:28} item {item:2}  {what}")


def main():
    options = arguments()
    if options.mode == "list":
        return print_list(options)
    if not options.perennial:
        raise SystemExit("no perennial binary: build it with `cargo build --release` or pass --perennial PATH")
    options.perennial = os.path.abspath(options.perennial)
    try:
        sys.exit(soak.run(options) if options.mode == "soak" else inputs.run(options))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
