"""The harmful clients of the soak test. Each is a coroutine that misbehaves once and returns the outcome; it is run every `period`.

Run as `python3 -m harness.hostile.clients PORT SEED NAME...`: a line of JSON every five seconds, {actor: {outcome: count}}.
It ends when its standard input does. Each actor has a loopback address of its own, so that a limit by address is met by
the one that it is meant for.
"""

import asyncio
import collections
import contextlib
import json
import os
import random
import resource
import sys
import time
from urllib.parse import quote

from . import bodies, wire

ACTORS = {}
# Subscribed to by those that do not read: it is large, and moves every second.
LARGE = '{job=~"job.+"}'


class Actor:
    """A bad client: what it does, and how often."""

    def __init__(self, name, item, period, what, once, addresses, moving):
        self.name, self.item, self.period, self.what = name, item, period, what
        self.once, self.addresses = once, addresses
        # It needs the good targets to be scraped.
        self.moving = moving


def actor(item, period, what, addresses=1, name=None, moving=False):
    def register(once):
        called = name or once.__name__.replace("_", "-")
        ACTORS[called] = Actor(called, item, period, what, once, addresses, moving)
        return once
    return register


def writer_of(name, item, what, body, headers=None, period=20):
    """An actor that sends one remote-write body."""
    async def once(client):
        return [await client.write(body(), headers)]
    actor(item, period, what, name=name)(once)


def asker_of(name, item, what, query, period=20, **parameters):
    """An actor that asks one instant query."""
    async def once(client):
        return [await timed(client.query(query, **parameters))]
    actor(item, period, what, name=name)(once)


async def timed(asking):
    """The outcome; one that took longer than its timeout of two seconds and one more says so."""
    began = time.monotonic()
    outcome = await asking
    took = time.monotonic() - began
    return outcome if took < 3 else f"{outcome} after 3 s" if took < 10 else f"{outcome} after 10 s"


writer_of("write-labels", 1, "remote write of a series with 85,000 labels", bodies.labels_write)
writer_of("write-apart", 2, "remote write of 3,000 series two hours apart", bodies.apart_write)
writer_of("write-least", 2, "remote write at the least time", lambda: bodies.one_sample_write("least", -2**63))
writer_of("write-1970", 2, "remote write with seconds for milliseconds",
          lambda: bodies.one_sample_write("seconds", int(time.time())))
writer_of("write-ahead", 2, "remote write ten days ahead",
          lambda: bodies.one_sample_write("ahead", bodies.now_ms() + 864_000_000))

JOINS = 'fuel{g="0"}'
for _ in range(12):
    JOINS = f'label_join({JOINS},"i","","i","i","i","i","i")'
asker_of("joins", 3, "12 nested label_join over 1,000 series", JOINS)
asker_of("constant", 3, "label_replace with a constant of 250 kB over 10,000 series",
         f'label_replace(fuel,"a","{"c" * 250_000}","","")')
asker_of("constant-some", 3, "the same over 100 series", f'label_replace(fuel{{i=~"000.."}},"a","{"c" * 250_000}","","")')

REPLACES = "fuel"
for n in range(50):
    REPLACES = f'label_replace({REPLACES},"a{n}","$1","i","(.*)")'
TWENTY_THOUSAND = ",".join(f"l{i}" for i in range(20_000))
asker_of("group-left", 1, "group_left with 20,000 labels",
         f"fuel * on(g) group_left({TWENTY_THOUSAND}) sum by (g) (fuel)", timeout="2s")
asker_of("replaces", 4, "50 nested label_replace over 10,000 series, timeout=2s", REPLACES, timeout="2s")
asker_of("additions", 4, "a sum of 390 vectors of 10,000, timeout=2s", "+".join(["fuel"] * 390), timeout="2s")
asker_of("aggregates", 4, "50 nested sums by all labels, timeout=2s",
         "sum without (zz) (" * 50 + "fuel" + ")" * 50, timeout="2s")
asker_of("sorts", 4, "50 nested sorts, timeout=2s", "sort(" * 50 + "fuel" + ")" * 50, timeout="2s")
asker_of("subquery", 4, "a subquery of 86,400 steps over 10,000 series, timeout=2s",
         "sum(max_over_time((fuel + fuel)[1d:1s]))", timeout="2s")
asker_of("unions", 4, "a union of 390 vectors of 10,000, timeout=2s", " or ".join(["fuel"] * 390), timeout="2s")


@actor(4, 20, "ask what takes long, and leave after 0.3 s")
async def leavers(client):
    for query in (REPLACES, "+".join(["fuel"] * 390), "sum(max_over_time((fuel + fuel)[1d:1s]))", "fuel[5m]"):
        path = f"/api/v1/query?query={quote(query)}"
        with contextlib.suppress(OSError):
            s = await client.half_open(wire.head_of("GET", path))
            await asyncio.sleep(0.3)
            wire.abort(s)
    return ["left"]


async def hold(client, count, request, seconds, keep_sending=None, pause=0.005):
    """Opens `count` connections and waits up to `seconds` until the server closes them: what became of each."""
    outcomes, held = [], []
    for _ in range(count):
        try:
            held.append(await client.half_open(request))
        except OSError as error:
            outcomes.append(str(error))
            if outcomes.count("silence") == 3:
                # Nobody accepts any more; each further one would wait for ten seconds.
                break
        await asyncio.sleep(pause)
    began = time.monotonic()
    while held and time.monotonic() - began < seconds:
        await asyncio.sleep(1)
        for s in [s for s in held if not wire.still_there(s)]:
            held.remove(s)
            outcomes.append(await ended(s, time.monotonic() - began))
        for s in held if keep_sending else []:
            with contextlib.suppress(OSError):
                s.send(keep_sending)
    for s in held:
        outcomes.append(f"open after {seconds} s")
        wire.abort(s)
    return outcomes


async def ended(s, after):
    begin, _ = await wire.rest_of(s)
    wire.abort(s)
    return f"{wire.status_in(begin) or 'closed'} within {15 if after <= 15 else 30 if after <= 30 else 60} s"


@actor(5, 20, "700 connections that say nothing")
async def silent(client):
    return await hold(client, 700, b"", 45)


@actor(5, 20, "300 connections that say nothing, from ten addresses", addresses=10)
async def silent_many(client):
    return await hold(client, 300, b"", 45)


@actor(5, 20, "50 half-sent request lines")
async def half_sent(client):
    return await hold(client, 50, b"GET /api/v1/query?que", 45)


@actor(5, 20, "50 heads, a byte a second")
async def slow_heads(client):
    return await hold(client, 50, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", 45, keep_sending=b"x")


@actor(5, 20, "30 remote-write bodies, a byte a second")
async def slow_bodies(client):
    return await hold(client, 30, wire.head_of("POST", "/api/v1/write", wire.WRITE_HEADERS, 100_000), 45, keep_sending=b"x")


@actor(5, 20, "30 bodies of forms that never come")
async def no_bodies(client):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    return await hold(client, 30, wire.head_of("POST", "/api/v1/query", form, 100_000), 45)


@actor(5, 60, "a form of 80 MB")
async def large_form(client):
    body = b"query=up&x=" + b"x" * 80_000_000
    return [await client.ask("POST", "/api/v1/query", body, {"Content-Type": "application/x-www-form-urlencoded"})]


def crowd_of(name, what, body, headers=None, count=4):
    """An actor that sends the same body over `count` connections at a time."""
    async def once(client):
        packed = body()
        return await asyncio.gather(*(client.write(packed, headers) for _ in range(count)))
    actor(7, 30, f"{what}, {count} at a time", name=name)(once)


crowd_of("empty-histograms", "1.4 MB of empty histograms", lambda: bodies.empty_fields(4))
crowd_of("empty-samples", "1.4 MB of empty samples", lambda: bodies.empty_fields(2))
crowd_of("empty-exemplars", "1.4 MB of empty exemplars", lambda: bodies.empty_fields(3))
crowd_of("empty-labels", "1.4 MB of empty labels", lambda: bodies.empty_fields(1))
crowd_of("empty-series", "1.4 MB of empty series", lambda: bodies.empty_messages(1))
crowd_of("empty-symbols-2", "1.4 MB of empty symbols (2.0)", lambda: bodies.empty_messages(4), wire.WRITE2_HEADERS)
crowd_of("empty-series-2", "1.4 MB of empty series (2.0)", lambda: bodies.empty_messages(5), wire.WRITE2_HEADERS)
crowd_of("lying-length", "a snappy head of 4 GB", bodies.lying_length)


async def do_not_read(client, count, path, headers, seconds=40):
    """Asks `count` times, reads nothing for `seconds`, then looks whether the server has let go."""
    outcomes, held = [], []
    for _ in range(count):
        try:
            held.append(await client.half_open(wire.head_of("GET", path, headers), receive_buffer=4096))
        except OSError as error:
            outcomes.append(str(error))
        await asyncio.sleep(0.02)
    await asyncio.sleep(seconds)
    rests = await asyncio.gather(*(wire.rest_of(s) for s in held))
    for s, (begin, over) in zip(held, rests):
        status = wire.status_in(begin) or ("closed" if over else "silence")
        outcomes.append(f"{status}, ended" if over else f"{status}, still open")
        wire.abort(s)
    return outcomes


def subscription(backpressure, form):
    return f"/api/v1/subscribe?query={quote(LARGE)}&backpressure={backpressure}&format={form}" + (
        "&buffer=10000" if backpressure != "conflate" else "")


@actor(7, 20, "100 subscribers with backpressure=buffer that read nothing", moving=True)
async def stalled_buffers(client):
    return await do_not_read(client, 100, subscription("buffer", "ndjson"), {})


@actor(7, 20, "20 readers of server-sent events that read nothing", moving=True)
async def stalled_events(client):
    return await do_not_read(client, 20, subscription("conflate", "sse"), {"Accept": "text/event-stream"})


WEBSOCKET = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
             "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}


@actor(7, 20, "20 websockets that read nothing", moving=True)
async def stalled_websockets(client):
    return await do_not_read(client, 20, subscription("buffer", "ndjson") + "&id=a", WEBSOCKET)


@actor(7, 20, "30 readers of answers of 80 MB that read nothing")
async def stalled_readers(client):
    start = int(time.time())
    return await do_not_read(client, 30, f"/api/v1/query_range?query=fuel&start={start}&end={start + 250}&step=1", {})


@actor(7, 30, "ten readers of all series by federation that read nothing")
async def stalled_federation(client):
    return await do_not_read(client, 10, f"/federate?match[]={quote(LARGE)}&match[]=fuel", {})


FOREIGN = {"Origin": "http://elsewhere.example", "Sec-Fetch-Site": "cross-site"}


@actor(10, 15, "requests of another site that change something")
async def foreign(client):
    outcomes = []
    for path in ("/-/quit", "/-/reload", "/api/v1/admin/tsdb/delete_series?match[]=up", "/api/v1/admin/tsdb/snapshot"):
        outcomes.append(f"{path.split('?')[0].rsplit('/', 1)[1]} {await client.ask('POST', path, b'', FOREIGN)}")
    body = bodies.one_sample_write("foreign", bodies.now_ms())
    outcomes.append("write " + await client.write(body, {**wire.WRITE_HEADERS, **FOREIGN}))
    outcomes.append("origin alone " + await client.ask("POST", "/-/quit", b"", {"Origin": "null"}))
    return outcomes


@actor(10, 15, "a websocket and a stream of another site")
async def foreign_streams(client):
    outcomes = []
    for name, headers in (("websocket", WEBSOCKET), ("stream", {})):
        path = "/api/v1/subscribe?query=up&id=a&format=ndjson"
        with contextlib.suppress(OSError):
            s = await client.half_open(wire.head_of("GET", path, {**headers, **FOREIGN}))
            begin, _ = await wire.rest_of(s, most=64)
            outcomes.append(f"{name} {wire.status_in(begin) or 'closed'}")
            wire.abort(s)
    return outcomes


def addresses_of(names):
    """A loopback address for each actor, or several; 127.0.0.1 is left to good clients."""
    return {name: [f"127.0.{1 + n}.{1 + k}" for k in range(ACTORS[name].addresses)] for n, name in enumerate(names)}


async def act(one, client, counts, dice):
    """Runs the actor again and again; what it raises is an outcome too."""
    await asyncio.sleep(dice.uniform(0, 10))
    while True:
        began = time.monotonic()
        counts[one.name]["rounds"] += 1
        try:
            outcomes = await one.once(client)
        except (OSError, asyncio.TimeoutError) as error:
            outcomes = [wire.word_of(error)]
        counts[one.name].update(outcomes)
        rest = one.period * dice.uniform(0.8, 1.2) - (time.monotonic() - began)
        await asyncio.sleep(max(1, rest))


async def main(port, seed, names):
    os.nice(10)
    # All connections of all actors are held here.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    dice = random.Random(seed)
    counts = {name: collections.Counter() for name in names}
    addresses = addresses_of(names)
    tasks = [asyncio.create_task(act(ACTORS[name], wire.Client(port, addresses[name]), counts, random.Random(dice.random())))
             for name in names]
    ending = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    while not ending.done():
        await asyncio.wait([ending], timeout=5)
        print(json.dumps(counts), flush=True)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
