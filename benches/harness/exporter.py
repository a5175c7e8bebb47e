"""The exporter: one process that serves all targets of the load on one port, one path each.

Run as `python3 exporter.py PORT SERIES EPOCH`. It answers plain text 0.0.4 without gzip, over keep-alive
connections, with as little HTTP as scrapers need, so that it does not compete with the server under test.
"""

import asyncio
import sys
import time

import load


class Scrape(asyncio.Protocol):
    """A connection: parses the request line, ignores headers, answers with the target's body."""

    bodies, epoch = {}, 0.0

    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""

    def data_received(self, data):
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            self.answer(head.split(b" ", 2)[1].split(b"?")[0])

    def answer(self, path):
        target = self.bodies.get(path)
        if target is None:
            self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        body = target.body(time.time() - self.epoch)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n"
        self.transport.write(head % len(body) + body)


async def main(port, series, epoch):
    Scrape.bodies = {t.path.encode(): t for t in load.targets(series)}
    Scrape.epoch = epoch
    server = await asyncio.get_running_loop().create_server(Scrape, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
