#!/usr/bin/env python3
"""Follows a live query over server-sent events and prints its answer whenever it changes.

    examples/subscribe.py 'sum by (mode) (rate(node_cpu_seconds_total[1m]))'
    examples/subscribe.py --server http://localhost:9090 up

Python's standard library is enough. After a broken connection it asks again: the stream then begins
with a new snapshot, so nothing has to be remembered here. The messages are described in docs/subscribe.md.
"""
import argparse
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

# The server sends a comment every 15 s; three missed ones are a dead connection.
SILENCE_SECONDS = 45


def messages(server, query):
    """Yields (name, content) of each message of one connection."""
    url = f"{server}/api/v1/subscribe?" + urllib.parse.urlencode({"query": query})
    request = urllib.request.Request(url, headers={"Accept": "text/event-stream"})
    with urllib.request.urlopen(request, timeout=SILENCE_SECONDS) as response:
        data = []
        for raw in response:
            line = raw.decode("utf-8").rstrip("\r\n")
            if line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))
            elif not line and data:  # an empty line ends an event
                [(name, content)] = json.loads("\n".join(data)).items()
                yield name, content
                data = []


def key(labels):
    """A label set as something that a dict can hold."""
    return tuple(sorted(labels.items()))


def shown(labels):
    """A label set as PromQL writes it."""
    rest = ", ".join(f'{name}="{value}"' for name, value in labels if name != "__name__")
    return dict(labels).get("__name__", "") + "{" + rest + "}"


def apply(answer, name, content):
    """Brings the answer up to date; True if the message may have changed it."""
    if name == "snapshot":
        answer.clear()
        answer.update({key(row["labels"]): row["value"] for row in content["rows"]})
    elif name == "delta":
        for labels in content["remove"]:
            answer.pop(key(labels), None)
        answer.update({key(row["labels"]): row["value"] for row in content["upsert"]})
    elif name == "error":
        print(f"error: {content['error']}", file=sys.stderr)
    elif name == "lost":
        print(f"too slow: lost {content['from']} to {content['to']}; a snapshot follows", file=sys.stderr)
    return name in ("snapshot", "delta")


def follow(server, query):
    answer = {}
    for name, content in messages(server, query):
        if apply(answer, name, content):
            print(time.strftime("%H:%M:%S", time.localtime(content["t"])), f"{len(answer)} rows")
            for labels, value in sorted(answer.items()):
                print(f"  {shown(labels)} {value}")
            sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description="Follow a live query.")
    parser.add_argument("--server", default="http://127.0.0.1:9090")
    parser.add_argument("query")
    arguments = parser.parse_args()
    while True:
        try:
            follow(arguments.server.rstrip("/"), arguments.query)
            print("the stream has ended; asking again", file=sys.stderr)
        except urllib.error.HTTPError as error:
            # The question is wrong, or the server refuses it: to repeat it would not help.
            sys.exit(f"{error.code}: {error.read().decode('utf-8', 'replace')}")
        except (OSError, ValueError) as error:
            print(f"{error}; asking again", file=sys.stderr)
        time.sleep(2)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
