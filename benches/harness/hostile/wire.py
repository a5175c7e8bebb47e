"""HTTP/1.1 by hand over asyncio: enough of it to ask properly, and to misbehave.

What came of a request is one word: its status ("204"), or "closed", "reset", "refused", "silence".
"""

import asyncio
import itertools
import socket
import struct
import time
from urllib.parse import urlencode

# State of a connection, the first byte of TCP_INFO: the other side is still there.
ESTABLISHED = 1
WRITE_HEADERS = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf",
                 "X-Prometheus-Remote-Write-Version": "0.1.0"}
WRITE2_HEADERS = {**WRITE_HEADERS, "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
                  "X-Prometheus-Remote-Write-Version": "2.0.0"}


def head_of(method, path, headers=None, length=None):
    """The bytes of a request's head."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{k}: {v}" for k, v in (headers or {}).items())]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def status_in(answer):
    """The status of an answer that has begun, or None."""
    return answer[9:12].decode() if answer.startswith(b"HTTP/1.") and len(answer) >= 12 else None


def word_of(error):
    """What an exception of a connection means."""
    if isinstance(error, asyncio.TimeoutError):
        return "silence"
    return "refused" if isinstance(error, ConnectionRefusedError) else "reset"


class Client:
    """A client that has its connections from these loopback addresses in turn, and counts what it sends."""

    def __init__(self, port, addresses=("127.0.0.1",)):
        self.port = port
        self.addresses = itertools.cycle(addresses)
        self.sent = 0
        self.last_text = ""

    async def open(self, limit=2**16):
        """A connection as (reader, writer)."""
        opening = asyncio.open_connection("127.0.0.1", self.port, local_addr=(next(self.addresses), 0), limit=limit)
        return await asyncio.wait_for(opening, 10)

    async def ask(self, method, path, body=b"", headers=None, patience=60):
        """Sends a whole request, reads the whole answer without keeping it, says what came."""
        self.last_text, writer = "", None
        try:
            reader, writer = await self.open()
            head = head_of(method, path, {**(headers or {}), "Connection": "close"}, len(body))
            return await asyncio.wait_for(self._exchange(reader, writer, head + body), patience)
        except (OSError, asyncio.TimeoutError) as error:
            return word_of(error)
        finally:
            if writer is not None:
                writer.transport.abort()

    async def _exchange(self, reader, writer, request):
        # Answers may come before the body has gone: a refusal is read while sending.
        sending = asyncio.ensure_future(self._send(writer, request))
        try:
            return await self._answer(reader)
        finally:
            sending.cancel()

    async def _send(self, writer, request):
        for start in range(0, len(request), 2**16):
            writer.write(request[start:start + 2**16])
            await writer.drain()
            self.sent += len(request[start:start + 2**16])

    async def _answer(self, reader):
        begin = b""
        while True:
            try:
                piece = await reader.read(2**20)
            except OSError as error:
                return status_in(begin) or word_of(error)
            if not piece:
                break
            if len(begin) < 2**16:
                begin += piece
        self.last_text = begin.partition(b"\r\n\r\n")[2][:300].decode(errors="replace")
        return status_in(begin) or "closed"

    async def write(self, body, headers=None):
        """Remote write of a body that is compressed already."""
        return await self.ask("POST", "/api/v1/write", body, headers or WRITE_HEADERS)

    async def query(self, text, patience=120, **parameters):
        """An instant query by POST."""
        body = urlencode({"query": text, **parameters}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self.ask("POST", "/api/v1/query", body, headers, patience)

    async def half_open(self, request, receive_buffer=None):
        """A plain socket that has sent `request`; nobody reads it. OSError when the server does not take it."""
        loop = asyncio.get_running_loop()
        s = socket.socket()
        try:
            s.setblocking(False)
            if receive_buffer:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            s.bind((next(self.addresses), 0))
            await asyncio.wait_for(loop.sock_connect(s, ("127.0.0.1", self.port)), 10)
            if request:
                await asyncio.wait_for(loop.sock_sendall(s, request), 10)
                self.sent += len(request)
            return s
        except (OSError, asyncio.TimeoutError) as error:
            s.close()
            raise OSError(word_of(error)) from error


def still_there(s):
    """Whether the connection stands as far as the operating system has heard."""
    return s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED


async def rest_of(s, most=2**24, patience=3):
    """Reads what waits in a socket that nobody has read: (the first bytes, whether it has ended)."""
    loop, begin, size = asyncio.get_running_loop(), b"", 0
    deadline = time.monotonic() + patience
    while size < most:
        try:
            piece = await asyncio.wait_for(loop.sock_recv(s, 2**18), max(0.01, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            return begin, False
        except OSError:
            return begin, True
        if not piece:
            return begin, True
        begin, size = begin or piece[:64], size + len(piece)
    return begin, False


def abort(s):
    """Closes a socket with a reset, so that it leaves nothing behind."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
