"""Remote write 1.0 by hand: protobuf and the literal-only form of snappy (valid, and cheap to produce).

All samples of one target at one time travel in one request, as an agent sends them. Labels are encoded once;
per sample only 16 bytes are packed, so that the generator keeps up with the servers.
"""

import http.client
import struct


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, payload):
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def snappy(data):
    """`data` as one snappy block that consists of one literal."""
    return varint(len(data)) + b"\xfc" + struct.pack("<I", len(data) - 1) + data


class Encoder:
    """Encodes the samples of one target: `requests` has one pre-encoded head per series."""

    SAMPLE_BYTES = 16  # 0x09 + double, 0x10 + a six-byte varint: true of timestamps from 2004 to 3084

    def __init__(self, target):
        self.target, self.heads = target, []
        for i in range(len(target.series)):
            labels = b"".join(field(1, field(1, k.encode()) + field(2, v.encode()))
                              for k, v in target.full_labels(i))
            size = len(labels) + 2 + self.SAMPLE_BYTES
            self.heads.append(b"\x0a" + varint(size) + labels + b"\x12" + bytes([self.SAMPLE_BYTES]) + b"\x09")

    def request(self, epoch, t):
        """A compressed WriteRequest with every series of the target at unix time `t` (seconds)."""
        tail = b"\x10" + varint(int(t * 1000))
        packed = getattr(self.target, "packed", None)
        if packed is None:
            pack = struct.Struct("<d").pack
            values = map(pack, self.target.values(t - epoch))
        else:
            values = packed(t - epoch)
        return snappy(b"".join([head + v + tail for head, v in zip(self.heads, values)]))


class Sender:
    """Posts requests over one keep-alive connection; a refusal is an error with the server's words."""

    HEADERS = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf",
               "X-Prometheus-Remote-Write-Version": "0.1.0", "User-Agent": "perennial-bench"}

    def __init__(self, port, path="/api/v1/write"):
        self.connection, self.path = http.client.HTTPConnection("127.0.0.1", port, timeout=60), path

    def send(self, body):
        self.connection.request("POST", self.path, body, self.HEADERS)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status // 100 != 2:
            raise RuntimeError(f"remote write refused: {answer.status} {text[:300]!r}")


def fill(port, targets, epoch, start, end, step):
    """Writes every target at start, start+step, … < end (unix seconds); returns the number of samples."""
    encoders, sender, sent = [Encoder(t) for t in targets], Sender(port), 0
    t = start
    while t < end:
        for encoder in encoders:
            sender.send(encoder.request(epoch, t))
            sent += len(encoder.heads)
        t += step
    return sent
