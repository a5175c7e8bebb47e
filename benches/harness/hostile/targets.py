"""The targets: 80 good ones, one that is the fuel of bad queries, and the bad ones. One process serves each sort.

Run as `python3 -m harness.hostile.targets good|bad PORT`: it ends when its standard input does. `GET /counts` says how
many requests each path got and how many bytes went out.
"""

import asyncio
import contextlib
import json
import os
import sys
import time

from .. import load
from . import bodies

GOOD_TARGETS = 80
SERIES_PER_TARGET = 100
FUEL_SERIES = 10_000
TEXT = "text/plain; version=0.0.4"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROTOBUF = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
# A connection of an unfriendly target ends by then, whatever the scraper does.
PATIENCE = 60
ENDLESS_BYTES = 2**31


class Bad:
    """A bad target: `answer` is a function that gives (content type, encoding, body), or a coroutine that takes the writer."""

    def __init__(self, item, what, answer, more="", interval=10, usual=True):
        self.item, self.what, self.answer, self.more = item, what, answer, more
        self.interval, self.usual = interval, usual


def fixed(kind, make, encoding=None):
    return lambda: (kind, encoding, make())


async def hang(writer):
    """Takes the request and says nothing."""
    await asyncio.sleep(PATIENCE)


async def hang_in_head(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Ty")
    await asyncio.sleep(PATIENCE)


async def drip_head(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    await drip(writer, b"x" * PATIENCE)


async def drip_body(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\n")
    await drip(writer, b"dripping 1\n" * 9)


async def drip(writer, text):
    for n in range(min(PATIENCE, len(text))):
        writer.write(text[n:n + 1])
        await writer.drain()
        await asyncio.sleep(1)


async def endless(writer, piece):
    """As much as the scraper takes, at most 20 MB a second."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    block, began = piece * (2**20 // len(piece)), time.monotonic()
    for _ in range(ENDLESS_BYTES // len(block)):
        writer.write(block)
        await writer.drain()
        await asyncio.sleep(0.05)
        if time.monotonic() - began > PATIENCE:
            return


async def endless_line(writer):
    await endless(writer, b"x")


async def endless_lines(writer):
    await endless(writer, b"endless 1\n")


async def endless_comments(writer):
    await endless(writer, b"# a comment, and another one\n")


async def endless_head(writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for n in range(200_000):
        writer.write(b"X-H%d: %s\r\n" % (n, b"v" * 100))
        await writer.drain()


async def reset(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\nhalf 1\n")
    await writer.drain()


async def redirect_loop(writer):
    writer.write(b"HTTP/1.1 302 Found\r\nLocation: /redirect-loop\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


@bodies.made_once
def wide(count, value=""):
    """An ordinary line with `count` labels: large clusters have such."""
    pairs = ",".join(f'label_{i}="{value or i}"' for i in range(count))
    return f"broad{{{pairs}}} 1\n".encode()


@bodies.made_once
def body_of(size):
    """A body that is large because of its help texts."""
    return b"".join(b"# HELP long_%d %s\nlong_%d 1\n" % (i, b"word " * 2000, i) for i in range(size // 10_040))


BAD = {
    "labels-text": Bad(1, "a line with 85,000 labels", fixed(TEXT, bodies.labels_text)),
    "labels-text-2": Bad(1, "the same", fixed(TEXT, bodies.labels_text)),
    "labels-text-3": Bad(1, "the same", fixed(TEXT, bodies.labels_text)),
    "labels-openmetrics": Bad(1, "the same as OpenMetrics", fixed(OPENMETRICS, bodies.labels_openmetrics)),
    "labels-protobuf": Bad(1, "the same as protobuf", fixed(PROTOBUF, bodies.labels_protobuf)),
    "hang": Bad(1, "never answers", hang),
    "hang-in-head": Bad(1, "stops within the head", hang_in_head),
    "drip-head": Bad(1, "a byte of the head each second", drip_head),
    "drip-body": Bad(1, "a byte of the body each second", drip_body),
    "endless-line": Bad(1, "a line without end", endless_line),
    "endless-lines": Bad(1, "equal lines without end", endless_lines),
    "endless-comments": Bad(1, "comments without end", endless_comments),
    "endless-head": Bad(1, "a head of 200,000 lines", endless_head),
    "reset": Bad(1, "closes in the middle", reset),
    "redirect-loop": Bad(1, "redirects to itself", redirect_loop),
    "garbage": Bad(1, "bytes that are nothing", fixed(TEXT, lambda: os.urandom(100_000))),
    "apart": Bad(2, "3,000 series two hours apart", fixed(TEXT, bodies.apart_text)),
    "strange-times": Bad(2, "the least time, 1970, ten days ahead", fixed(TEXT, bodies.strange_times_text)),
    "series-262200": Bad(6, "262,200 series", fixed(TEXT, lambda: bodies.many_series("large", 262_200)), interval=30),
    "series-million": Bad(6, "a million series", fixed(TEXT, lambda: bodies.many_series("million", 1_000_000)),
                          interval=60, usual=False),
    "bomb-lines": Bad(7, "15 million equal lines in 58 kB of gzip", fixed(TEXT, bodies.bomb_of_lines, "gzip")),
    "bomb-line": Bad(7, "a line of 200 MB in gzip", fixed(TEXT, bodies.bomb_of_one_line, "gzip")),
    "labels-300": Bad(9, "a line with 300 labels, which Prometheus takes", fixed(TEXT, lambda: wide(300))),
    "value-100k": Bad(9, "a label value of 100 kB, which Prometheus takes", fixed(TEXT, lambda: wide(1, "v" * 100_000))),
    "name-2k": Bad(9, "a metric name of 2 kB, which Prometheus takes", fixed(TEXT, lambda: b"n" * 2000 + b" 1\n")),
    "body-70mb": Bad(9, "a body of 70 MB, which Prometheus takes", fixed(TEXT, lambda: body_of(70_000_000)), interval=60,
                     usual=False),
}


def jobs_of_bad(names, port):
    """`scrape_configs:` entries: a job for each bad target, `hostile-<name>`."""
    out = []
    for name in names:
        bad = BAD[name]
        out += [f"- job_name: hostile-{name}", f"  scrape_interval: {bad.interval}s",
                f"  scrape_timeout: {bad.interval // 2}s", f"  metrics_path: /{name}",
                "  scrape_protocols: [PrometheusProto, OpenMetricsText1.0.0, PrometheusText0.0.4]",
                f"  static_configs: [{{targets: ['127.0.0.1:{port}']}}]"]
    return "\n".join(out) + "\n"


def good_members():
    """The good targets: small ones, so that an hour of them at 1 s weighs little."""
    return [load.Target(n, SERIES_PER_TARGET) for n in range(GOOD_TARGETS)]


class Server:
    """Answers each path as its target does, and counts."""

    def __init__(self, kind):
        self.requests, self.bytes = {}, {}
        self.epoch = time.time()
        self.good = {t.path: t for t in good_members()} if kind == "good" else {}
        self.bad = BAD if kind == "bad" else {}

    async def serve(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].split(b"?")[0].decode()
                if not await self.answer(path, writer):
                    break
        writer.transport.abort() if self.bad else writer.close()

    async def answer(self, path, writer):
        """Answers one request; False when the connection has to end."""
        if path == "/counts":
            return await self.send(path, writer, "application/json", None, json.dumps([self.requests, self.bytes]).encode())
        self.requests[path] = self.requests.get(path, 0) + 1
        if path == "/fuel":
            return await self.send(path, writer, TEXT, None, fuel(int(time.time())))
        if path in self.good:
            return await self.send(path, writer, TEXT, None, self.good[path].body(time.time() - self.epoch))
        answer = self.bad[path[1:]].answer
        if asyncio.iscoroutinefunction(answer):
            await answer(writer)
            await writer.drain()
            return False
        kind, encoding, body = answer()
        return await self.send(path, writer, kind, encoding, body)

    async def send(self, path, writer, kind, encoding, body):
        encoded = f"Content-Encoding: {encoding}\r\n" if encoding else ""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{encoded}Content-Length: {len(body)}\r\n\r\n".encode()
        # The bytes that have gone, not those that wait.
        for piece in [head, *(body[i:i + 2**18] for i in range(0, len(body), 2**18))]:
            writer.write(piece)
            await writer.drain()
            self.bytes[path] = self.bytes.get(path, 0) + len(piece)
        return True


@bodies.made_once
def fuel_lines():
    pairs = (",".join(f'{k}="{v}"' for k, v in bodies.fuel_labels(i).items()) for i in range(FUEL_SERIES))
    return "".join(f"fuel{{{p}}} %d\n" for p in pairs)


def fuel(second):
    """10,000 ordinary series for queries to multiply; each moves."""
    return (fuel_lines() % tuple(range(second, second + FUEL_SERIES))).encode()


async def main(kind, port):
    """Serves until standard input ends, which it does with the harness."""
    if kind == "bad":
        os.nice(10)
    server = await asyncio.start_server(Server(kind).serve, "127.0.0.1", port, backlog=1024)
    async with server:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
