"""Two small servers in the harness' own process: a stand-in for Alertmanager and an exporter of switches.

Both stamp what happens with one monotonic clock: the exporter when the last byte of a scrape was handed to
the kernel, the stand-in when the first byte of a notification arrived. Their difference is the latency.
"""

import asyncio
import json
import threading
import time


class Loopback:
    """An asyncio HTTP server in a thread of its own. Subclasses answer `respond(method, path, body)`."""

    def __init__(self, port):
        self.port, self.loop = port, asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self.loop.run_forever()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    async def _serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                seen = time.monotonic()
                length = next((int(line.split(":")[1]) for line in head.split("\r\n")
                               if line.lower().startswith("content-length:")), 0)
                body = await reader.readexactly(length)
                method, path, _ = head.split(" ", 2)
                text, sent = self.respond(method, path, body, seen)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"
                             b"Content-Length: %d\r\n\r\n%s" % (len(text), text))
                await writer.drain()
                sent()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            writer.close()

    def respond(self, method, path, body, seen):
        raise NotImplementedError


class Alertmanager(Loopback):
    """Accepts `POST /api/v2/alerts` and counts; `arrived[id]` is when the first alert with that `id` label came."""

    def __init__(self, port):
        self.arrived, self.requests, self.alerts = {}, 0, 0
        super().__init__(port)

    def respond(self, method, path, body, seen):
        if method == "POST":
            self.requests += 1
            alerts = json.loads(body)
            self.alerts += len(alerts)
            for alert in alerts:
                self.arrived.setdefault(alert["labels"].get("id"), seen)
        return b"", lambda: None


class Switches(Loopback):
    """Gauges `bench_switch{id="…"}` that `turn_on` sets to 1; `scraped[id]` is when a scrape first said so."""

    def __init__(self, port, count):
        self.on, self.count, self.scraped = set(), count, {}
        super().__init__(port)

    def turn_on(self, number):
        self.on.add(number)

    def respond(self, method, path, body, seen):
        on = set(self.on)
        lines = "".join(f'bench_switch{{id="{n}"}} {int(n in on)}\n' for n in range(self.count))
        text = "# TYPE bench_switch gauge\n" + lines

        def sent():
            now = time.monotonic()
            for n in on:
                self.scraped.setdefault(str(n), now)
        return text.encode(), sent
