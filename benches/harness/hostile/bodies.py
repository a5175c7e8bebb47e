"""The harmful bodies that targets serve and clients send: small when compressed, large when decoded without limits. Each is made once."""

import functools
import gzip
import io
import struct
import time

from ..remote_write import field, snappy, varint

LABELS = 85_000
APART = 3_000
TWO_HOURS = 7_200_000
EMPTY_BYTES = 30_000_000


def made_once(function):
    return functools.lru_cache(maxsize=None)(function)


def label_pairs(count):
    return ",".join(f'l{i}="{i}"' for i in range(count))


@made_once
def labels_text():
    return f"wide{{{label_pairs(LABELS)}}} 1\n".encode()


@made_once
def labels_openmetrics():
    return b"# TYPE wide gauge\n" + labels_text() + b"# EOF\n"


@made_once
def labels_protobuf():
    labels = b"".join(field(1, field(1, b"l%d" % i) + field(2, b"%d" % i)) for i in range(LABELS))
    metric = labels + field(2, b"\x09" + struct.pack("<d", 1))
    family = field(1, b"wide") + b"\x18\x01" + field(4, metric)
    return varint(len(family)) + family


def gzipped(piece, count):
    """gzip of `piece` repeated: packed in a stream, it is never there as a whole."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9, mtime=0) as packer:
        block = piece * 10_000
        for _ in range(count // 10_000):
            packer.write(block)
    return out.getvalue()


@made_once
def bomb_of_lines():
    """15 million equal lines in 58 kB."""
    return gzipped(b"a 1\n", 15_000_000)


@made_once
def bomb_of_one_line():
    """A line of 200 MB."""
    return gzipped(b"a", 200_000_000)


@made_once
def many_series(name, count):
    return "".join(f'{name}{{pod="pod-{i:07d}",namespace="n{i % 97}"}} 1\n' for i in range(count)).encode()


def apart_text():
    """Series two hours apart, the newest now."""
    now = int(time.time() * 1000)
    return "".join(f'apart{{i="{i}"}} 1 {now - i * TWO_HOURS}\n' for i in range(APART)).encode()


def strange_times_text():
    """The least and the greatest time, seconds for milliseconds, ten days ahead."""
    now = int(time.time())
    times = {"least": -2**63, "greatest": 2**63 - 1, "seconds": now, "ahead": (now + 864_000) * 1000, "zero": 0}
    return "".join(f'strange{{time="{name}"}} 1 {t}\n' for name, t in times.items()).encode()


def sample(value, t):
    """A remote-write sample; times before 1970 are ten bytes."""
    return field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(t & (2**64 - 1)))


def labels(name, **more):
    pairs = sorted({"__name__": name, **more}.items())
    return b"".join(field(1, field(1, k.encode()) + field(2, v.encode())) for k, v in pairs)


def apart_write():
    now = int(time.time() * 1000)
    return snappy(b"".join(field(1, labels("apart", i=str(i)) + sample(1, now - i * TWO_HOURS)) for i in range(APART)))


def one_sample_write(name, t):
    return snappy(field(1, labels(name) + sample(1, t)))


@made_once
def labels_write():
    """A series with 85,000 labels, sorted as they must be."""
    names = sorted(f"l{i}" for i in range(LABELS))
    pairs = b"".join(field(1, field(1, n.encode()) + field(2, b"1")) for n in names)
    return snappy(field(1, field(1, field(1, b"__name__") + field(2, b"wide")) + pairs + sample(1, now_ms())))


def now_ms():
    return int(time.time() * 1000)


def fuel_labels(i):
    """Labels as a container's series have them; `g` in ten equal parts."""
    return {"g": str(i % 10), "i": f"{i:05d}", "namespace": f"team-{i % 37}", "container": "server",
            "pod": f"checkout-7d9c5b{i % 1009:04x}-{i:05x}", "zone": f"eu-central-1{'abc'[i % 3]}"}


def fuel_write(count):
    """`count` ordinary series of now for queries to multiply."""
    t = now_ms()
    return snappy(b"".join(field(1, labels("fuel", **fuel_labels(i)) + sample(i, t)) for i in range(count)))


def repeated(prefix, pair, rounds=EMPTY_BYTES // 64):
    """A snappy block of `prefix` and then `pair` (two bytes), 32 times in each round; a round costs three bytes."""
    literal = prefix + pair * 32
    copies = (b"\xfe" + struct.pack("<H", 64)) * (rounds - 1)
    head = b"\xfc" + struct.pack("<I", len(literal) - 1) + literal
    return varint(len(prefix) + rounds * 64) + head + copies


def empty_fields(number):
    """A write request of one series that consists of empty fields: 1 labels, 2 samples, 3 exemplars, 4 histograms."""
    name = labels("empty")
    inside = len(name) + EMPTY_BYTES // 64 * 64
    return repeated(b"\x0a" + varint(inside) + name, bytes([number << 3 | 2, 0]))


def empty_messages(number):
    """A write request of empty messages: 1 series (version 1), 4 symbols and 5 series (version 2)."""
    return repeated(b"", bytes([number << 3 | 2, 0]))


def lying_length():
    """A snappy block of ten bytes that says it holds four gigabytes."""
    return varint(2**32 - 1) + b"\x00" * 5
