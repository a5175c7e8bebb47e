"""The light load: 20 instant queries a second, half of them over connections of their own, and a health check each second.

Run as `python3 -m harness.hostile.light PORT FILE`: a line for each request: when it was due (Unix seconds), milliseconds
until the whole answer was there, status. It ends when its standard input does. A request is due at its time, whether or
not those before it have come back: a server that stops is seen by all of them.
"""

import asyncio
import contextlib
import sys
import time
from urllib.parse import quote

PER_SECOND = 20
PATIENCE = 30
QUERIES = ('up{job="job3"}', 'sum(rate(http_requests_total{job="job1"}[1m]))', "bench:sum_by_rate:0",
           'max by (instance) (queue_depth{job="job7"})', 'count(up == 1)')


class Light:
    """Sends what is due and writes down what came."""

    def __init__(self, port, out):
        self.port, self.out = port, out
        self.free = []

    async def ask(self, path, due, keep):
        """One request; `keep`: over a connection that is used again."""
        status = "failed"
        try:
            status = await asyncio.wait_for(self.exchange(path, keep), PATIENCE)
        except asyncio.TimeoutError:
            status = "silence"
        except (OSError, asyncio.IncompleteReadError, ValueError, IndexError):
            pass
        kind = "health" if path == "/-/healthy" else "query"
        self.out.write(f"{due:.3f} {(time.time() - due) * 1000:.2f} {status} {kind}\n")

    async def exchange(self, path, keep):
        """The status. A connection that the server has closed while it was idle is replaced, as HTTP clients do."""
        while keep and self.free:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                return await self.over(self.free.pop(), path, keep)
        return await self.over(await asyncio.open_connection("127.0.0.1", self.port), path, keep)

    async def over(self, pair, path, keep):
        reader, writer = pair
        done = False
        try:
            end = "" if keep else "Connection: close\r\n"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{end}\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if "content-length:" in head:
                await reader.readexactly(int(head.split("content-length:")[1].split("\r\n")[0]))
            else:
                await self.chunks(reader)
            done = True
            return head.split(" ")[1]
        finally:
            if done and keep and "connection: close" not in head:
                self.free.append(pair)
            else:
                writer.close()

    async def chunks(self, reader):
        size = 1
        while size:
            size = int(await reader.readline(), 16)
            await reader.readexactly(size + 2)

    async def run(self):
        began, n, running = time.time(), 0, set()
        while True:
            due = began + n / PER_SECOND
            await asyncio.sleep(max(0, due - time.time()))
            path = f"/api/v1/query?query={quote(QUERIES[n % len(QUERIES)])}"
            self.start(running, self.ask(path, due, n % 2 == 0))
            if n % PER_SECOND == 0:
                self.start(running, self.ask("/-/healthy", due, False))
                self.out.flush()
            n += 1

    def start(self, running, asking):
        task = asyncio.ensure_future(asking)
        running.add(task)
        task.add_done_callback(running.discard)


async def main(port, path):
    with open(path, "w") as out:
        task = asyncio.create_task(Light(port, out).run())
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
