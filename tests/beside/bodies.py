"""Exposition bodies with every oddity that came to mind, and random damage of good ones: what expositions.py serves.

corpus() gives the same bodies each time but for the times in them, which are near T0.
"""
import random
import struct
import time

TEXT = 'text/plain; version=0.0.4'
OM = 'application/openmetrics-text; version=1.0.0; charset=utf-8'
PB = 'application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited'

# Seconds; times in bodies are near it.
T0 = int(time.time()) - 600
def ms(d=0): return str((T0 + d) * 1000)
def sec(d=0): return str(T0 + d)

# ---------------------------------------------------------------- protobuf
def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7f | 0x80); n >>= 7
    out.append(n)
    return bytes(out)
def zz(n): return (n << 1) ^ (n >> 63)
def num(f, n): return varint(f << 3) + varint(n)
def sint(f, n): return varint(f << 3) + varint(zz(n))
def dbl(f, v): return varint(f << 3 | 1) + struct.pack('<d', v)
def sub(f, b):
    if isinstance(b, str): b = b.encode()
    return varint(f << 3 | 2) + varint(len(b)) + b
def label(n, v): return sub(1, sub(1, n) + sub(2, v))
def family(name, kind, metrics, help=None, unit=None, order='nhtmu'):
    parts = {'n': sub(1, name) if name is not None else b'', 'h': sub(2, help) if help is not None else b'',
             't': num(3, kind) if kind is not None else b'', 'm': b''.join(sub(4, m) for m in metrics),
             'u': sub(5, unit) if unit is not None else b''}
    b = b''.join(parts[c] for c in order)
    return varint(len(b)) + b
def stamp(s, n=0): return num(1, s) + num(2, n)
def exemplar(labels, v, t=None):
    return b''.join(label(*l) for l in labels) + dbl(2, v) + (sub(3, stamp(t)) if t is not None else b'')
def counter(v, ex=None, created=None, labels=(), t=None):
    c = dbl(1, v) + (sub(2, ex) if ex else b'') + (sub(3, stamp(created)) if created is not None else b'')
    return b''.join(label(*l) for l in labels) + sub(3, c) + (num(6, t) if t is not None else b'')
def gauge(v, labels=(), t=None):
    return b''.join(label(*l) for l in labels) + sub(2, dbl(1, v)) + (num(6, t) if t is not None else b'')
def untyped(v, labels=()): return b''.join(label(*l) for l in labels) + sub(5, dbl(1, v))
def summary(count, s, qs, created=None, labels=()):
    b = num(1, count) + dbl(2, s) + b''.join(sub(3, dbl(1, q) + dbl(2, v)) for q, v in qs)
    return b''.join(label(*l) for l in labels) + sub(4, b + (sub(4, stamp(created)) if created is not None else b''))
def bucket(le, n, ex=None, fl=None):
    return sub(3, (num(1, n) if n is not None else b'') + dbl(2, le) + (sub(3, ex) if ex else b'') + (dbl(4, fl) if fl is not None else b''))
def span(f, o, l): return sub(f, sint(1, o) + num(2, l))
def hist(body, labels=(), t=None):
    return b''.join(label(*l) for l in labels) + sub(7, body) + (num(6, t) if t is not None else b'')
def native(count=4, s=1.5, schema=3, zt=1e-3, zc=1, pos=((0, 2),), posd=(1, 0), neg=((1, 1),), negd=(1,), more=b''):
    return (num(1, count) + dbl(2, s) + sint(5, schema) + dbl(6, zt) + num(7, zc)
            + b''.join(span(9, *x) for x in neg) + b''.join(sint(10, d) for d in negd)
            + b''.join(span(12, *x) for x in pos) + b''.join(sint(13, d) for d in posd) + more)
def fnative(count=4.5, s=1.5, schema=3, zt=1e-3, zc=1.0, pos=((0, 2),), posc=(1.0, 1.0), neg=((1, 1),), negc=(1.5,), more=b''):
    return (dbl(4, count) + dbl(2, s) + sint(5, schema) + dbl(6, zt) + dbl(8, zc)
            + b''.join(span(9, *x) for x in neg) + b''.join(dbl(11, d) for d in negc)
            + b''.join(span(12, *x) for x in pos) + b''.join(dbl(14, d) for d in posc) + more)
INF = float('inf'); NAN = float('nan')

def protobufs():
    cl = bucket(0.5, 1) + bucket(1, 3) + bucket(INF, 4)
    h = lambda b, kind=4, **k: family('h', kind, [hist(b, **k)])
    out = [
        family('c_total', 0, [counter(1.5)], 'help', 'sec'), family('c', 0, [counter(1)]), family('g', 1, [gauge(-1)], ''),
        family('u', 3, [untyped(NAN)]), family('s', 2, [summary(3, 4.5, [(0.5, 1), (0.9, 2), (1, NAN)])]),
        family('s', 2, [summary(3, 4.5, [(0.5, 1), (0.5, 2)])]), family('s', 2, [summary(3, 4.5, [(NAN, 1), (INF, 2), (1e-9, 3)])]),
        h(num(1, 4) + dbl(2, 2.5) + cl), h(num(1, 4) + dbl(2, 2.5)), h(b''), h(dbl(2, 2.5) + cl), h(num(1, 5) + dbl(2, 1) + cl),
        h(num(1, 4) + dbl(2, 2.5) + bucket(0.5, 3) + bucket(1, 2) + bucket(INF, 4)),
        h(num(1, 4) + dbl(2, 2.5) + bucket(1, 3) + bucket(0.5, 1) + bucket(INF, 4)),
        h(num(1, 4) + dbl(2, 2.5) + bucket(0.5, 1) + bucket(0.5, 3)), h(num(1, 4) + dbl(2, 2.5) + bucket(NAN, 1) + bucket(1, 3)),
        h(num(1, 4) + dbl(2, 2.5) + bucket(INF, 4) + bucket(1, 3)), h(num(1, 4) + bucket(-INF, 1) + bucket(1, 3)),
        h(num(1, 4) + dbl(2, 2.5) + bucket(0.5, None, fl=1.5) + bucket(1, None, fl=2.5)), h(dbl(4, 4.5) + dbl(2, 2.5) + bucket(0.5, None, fl=1.5)),
        h(dbl(4, 4.5) + dbl(2, NAN) + bucket(0.5, 1, fl=1.5)), h(num(1, 4) + dbl(4, 7.5) + dbl(2, 2.5) + cl),
        h(native()), h(native(), 5), h(fnative()), h(fnative(), 5), h(native() + cl), h(native(count=5)), h(native(count=3)), h(native(s=NAN)),
        h(native(count=9, s=NAN)), h(native(schema=8)), h(native(schema=9)), h(native(schema=-4)), h(native(schema=-5)), h(native(schema=-53)),
        h(native(zt=-1)), h(native(zt=INF)), h(native(zt=NAN)), h(native(zc=0)), h(native(pos=((0, 3),))), h(native(pos=((0, 1),))),
        h(native(pos=((0, 1), (-1, 1)))), h(native(pos=((0, 1), (5, 1)))), h(native(pos=((0, 0), (2, 2)))), h(native(pos=((-9, 2),))),
        h(native(posd=(2, -3))), h(native(posd=(-1, 2))), h(native(posd=(1, 0, 5))), h(native(pos=(), posd=(), neg=(), negd=(), count=1)),
        h(native(pos=(), posd=(), neg=(), negd=(), count=0, zc=0)), h(native(pos=(), posd=(), neg=(), negd=(), count=0, zc=0, zt=0)),
        h(native(pos=((0, 0),), posd=(), neg=(), negd=(), count=0, zc=0, zt=0)), h(num(1, 0) + dbl(2, 0) + span(12, 0, 0)),
        h(fnative(posc=(1.0, -1.0))), h(fnative(count=-1.0)), h(fnative(zc=-1.0)), h(fnative(count=1.0)), h(fnative(posc=(NAN, 1.0))), h(fnative(s=INF)),
        h(fnative(pos=((0, 3),))), h(fnative() + cl), h(native(count=2**63)), h(native(pos=((2**31 - 1, 2),))), h(native(pos=((-2**31, 2),))),
        h(native(more=sub(16, exemplar([('id', 'x')], 0.5, T0)))), h(native(more=sub(16, exemplar([('id', 'x')], 0.5)))),
        h(native(more=sub(16, exemplar([('id', 'x')], 0.5, T0)) + sub(16, exemplar([('id', 'y')], 0.1, T0 - 5)) + sub(16, exemplar([('id', 'x')], 0.5, T0)))),
        h(native() + bucket(0.5, 1, exemplar([('id', 'x')], 0.3, T0)) + bucket(1, 2, exemplar([('id', 'y')], 0.7))),
        h(num(1, 4) + dbl(2, 2.5) + bucket(0.5, 1, exemplar([('id', 'x')], 0.3, T0)) + bucket(1, 2, exemplar([('id', 'y')], 0.7))),
        h(native(more=sub(15, stamp(T0)))), h(native(), t=(T0 * 1000)), h(native(), t=1), h(native(), t=0), h(native(), t=-5),
        family('c_total', 0, [counter(1, exemplar([('id', 'x')], 1, T0), T0 - 50)]), family('c_total', 0, [counter(1, exemplar([], 1))]),
        family('c_total', 0, [counter(1, exemplar([('id', 'x' * 130)], 1))]), family('c_total', 0, [counter(1, exemplar([('', 'x')], 1, T0))]),
        family('c_total', 0, [counter(1, exemplar([('id', '')], 1, T0))]), family('c_total', 0, [counter(1, t=T0 * 1000)]),
        family('', 1, [gauge(1)]), family(None, 1, [gauge(1)]), family('g', None, [counter(1)]), family('g', 6, [gauge(1)]), family('g', 99, [gauge(1)]),
        family('g', 1, []), family('g', 1, [], 'only help'), family('g', 1, [b'']), family('g', 1, [counter(1)]), family('c', 0, [gauge(1)]), family('h', 4, [gauge(1)]), family('s', 2, [gauge(1)]),
        family('g x', 1, [gauge(1)]), family('g.x', 1, [gauge(1)]), family('0g', 1, [gauge(1)]), family('g\n', 1, [gauge(1)]), family('é', 1, [gauge(1)]),
        family(b'\xff', 1, [gauge(1)]), family('g', 1, [gauge(1)], b'\xff'), family('g', 1, [gauge(1)], unit=b'\xff'), family('g', 1, [gauge(1)], 'h', 'seconds'),
        family('g', 1, [gauge(1, [(b'\xff', 'x')])]), family('g', 1, [gauge(1, [('a', b'\xff')])]), family('g', 1, [gauge(1, [('a', '')])]), family('g', 1, [gauge(1, [('', 'v')])]),
        family('g', 1, [gauge(1, [('a', '1'), ('a', '2')])]), family('g', 1, [gauge(1, [('b', '1'), ('a', '2')])]), family('g', 1, [gauge(1, [('a b', '1')])]),
        family('g', 1, [gauge(1, [('__name__', 'x')])]), family('g', 1, [gauge(1, [('le', '1')])]), family('g', 1, [gauge(1), gauge(2)]), family('g', 1, [gauge(1), gauge(1)]),
        family('g', 1, [gauge(1, [('a', '1')]), gauge(2, [('a', '2')])]), family('g', 1, [gauge(1)]) * 2, family('g', 1, [gauge(1)]) + family('g', 0, [counter(2)]),
        family('g', 1, [gauge(1)], order='mnht'), family('g', 1, [gauge(1)], 'x', order='tmnh'), b'', b'\x00', b'\x00' + family('g', 1, [gauge(1)]), b'\x05', family('g', 1, [gauge(1)])[:-1],
        family('g', 1, [gauge(1)]) + b'\x00', family('g', 1, [gauge(1)]) + b'\x01', b'\xff' * 12, b'text 1\n', family('g', 1, [gauge(1) + sub(20, 'x')]), family('g', 1, [gauge(1, t=-1)]),
        family('g', 1, [gauge(1, t=T0 * 1000 + 10**8)]), family('g', 1, [gauge(5e-324)]), family('g', 1, [gauge(-0.0)]), family('g', 1, [sub(2, b'')]),
        family('h', 4, [hist(num(1, 4) + dbl(2, 2.5) + cl, [('le', '7')])]), family('s', 2, [summary(3, 1, [(0.5, 1)], labels=[('quantile', '7')])]),
        family('h', 4, [hist(num(1, 2**64 - 1) + dbl(2, 2.5) + bucket(1, 2**63 + 1))]), family('h', 5, [hist(num(1, 4) + dbl(2, 2.5) + cl)]),
        family('h', 4, [hist(num(1, 4) + dbl(2, 2.5) + cl, [('a', str(i))]) for i in range(3)]), family('h', 4, [hist(native(), [('a', '1')]), hist(num(1, 4) + dbl(2, 2.5) + cl, [('a', '2')])]),
        family('up', 1, [gauge(7)]), family('info', 1, [gauge(1, [('version', 'é"\\\n')])]),
    ]
    for le in (0.1, 1e-5, 1e5, 123456789.0, 1e21, 1e20, 0.30000000000000004, 5e-324, 1.7976931348623157e308, 100.0, 1e6, 1e-4):
        out.append(h(num(1, 4) + dbl(2, 2.5) + bucket(le, 1)))
        out.append(family('s', 2, [summary(3, 1, [(le, 1)])]))
    return out

# ---------------------------------------------------------------- text
VALUES = '''1 1.0 +1 -1 1e3 1E3 1e+3 1e 1e400 -1e400 1e-400 5e-324 NaN nan NAN +NaN -NaN Inf +Inf -Inf inf infinity Infinity +infinity -infinity INF 0x1p-2 0x10 0b1 1_000 1__0
 ١ .5 5. . + - -0 +0 00012 1,5 1.2.3 1f 0x 0x1 1e5_0 18446744073709551616 9007199254740993 1.7976931348623159e308 0.1e-1 --1 +-1 1;2 true 1e+ e5 NaN1 Nan iNf "1"'''.split()
TIMES = ['0', '-1', '1', '+5', '1.5', '1e3', '99999999999999999999', '9223372036854775807', '9223372036854775808', '-9223372036854775808', '', ' ', 'x', '0x5', '1_0']

def wellformed_text():
    return [
        'a 1\n', 'a 1', 'a{b="c"} 1\n', '# HELP a help\n# TYPE a counter\na 1\na{x="1"} 2\n',
        '# TYPE h histogram\nh_bucket{le="0.5"} 1\nh_bucket{le="1"} 3\nh_bucket{le="+Inf"} 4\nh_sum 2.5\nh_count 4\n',
        '# TYPE h histogram\nh_bucket{a="1",le="0.5"} 1\nh_bucket{a="1",le="+Inf"} 4\nh_sum{a="1"} 2.5\nh_count{a="1"} 4\nh_bucket{a="2",le="0.5"} 1\nh_bucket{a="2",le="+Inf"} 1\nh_sum{a="2"} 2.5\nh_count{a="2"} 1\n',
        '# TYPE s summary\ns{quantile="0.5"} 1\ns{quantile="0.9"} 2\ns_sum 4\ns_count 3\n', '# TYPE g gauge\n# HELP g He\\\\lp\\n x\ng{a="x\\"y\\\\z\\n"} -1.5e3 %s\n' % ms(),
        '{"a.b",c="d","e f"="g"} 1\n', '# TYPE "a.b" counter\n{"a.b"} 7\n', 'a{b="c",} 1 %s\n' % ms(-9), '# just a comment\n\n\na 1\n\n# TYPE b untyped\nb 2 %s\n' % ms(5),
        'up 1\nscrape_samples_scraped 5\n', 'a_info{version="1",é="ü"} 1\n'.replace('é', 'e'),
    ]

def texts():
    out = list(wellformed_text())
    out += ['a %s\n' % v for v in VALUES]
    out += ['a 1 %s\n' % t for t in TIMES]
    out += ['# TYPE h histogram\nh_bucket{le="%s"} 1\nh_sum 1\nh_count 1\n' % v for v in VALUES if '"' not in v]
    out += ['# TYPE s summary\ns{quantile="%s"} 1\ns_sum 1\ns_count 1\n' % v for v in VALUES[:40] if '"' not in v]
    out += ['a{%s} 1\n' % x for x in ['', ',', ',,', 'b="1",,c="2"', 'b="1" c="2"', 'b = "1"', ' b="1" ', 'b="1" , c="2"', '\tb="1"', 'b=1', "b='1'", 'b', 'b=', '="1"', '"b"', '"b"=1', '"b"="1"', '"b c"="1"', '""="1"', '"\\""="1"', '"a2"', '"a2",b="1"',
        'b="1","a2"', 'b="\\x"', 'b="\\t"', 'b="\\', 'b="1', 'b="\n"', 'b="1"}', '{b="1"', 'b="1",b="2"', 'b="1",b="1"', '0b="1"', 'b-c="1"', 'b.c="1"', 'b:c="1"', 'é="1"', '"é"="1"', '__name__="x"', '"__name__"="x"', 'le="1"', 'quantile="1"', 'instance="x"', 'job="x"', 'n="x"', '__x__="1"', '_="1"', 'b=""', 'b=" "', 'b="\x00"', 'b="\x01"', 'b="\u2028"', 'b="%s"' % ('x' * 1000)]]
    out += [x + ' 1\n' for x in ['{}', '{"a"}', '{"a",}', '{a="1"}', '{"a","b"}', '{"a",b="1"}', '{b="1","a"}', '{"a" , b="1"}', '{ "a" }', '{"a"="b"}', '{"a"="b","c"}', '{"a.b"}', '{"a\\"b"}', '{"a\\nb"}', '{"a\\tb"}', '{""}', '{"é"}', '{"a"} {b="1"}', 'a {b="1"}', 'a\t{b="1"}', 'a{b="1"}  ', '{"__name__"="a"}', '{__name__="a"}', 'a{__name__="b"}', '{"a"}{"b"}',
        '0a', 'a.b', 'a-b', 'a:b', ':a', ':', '_', 'é', 'aé', 'a b', ' a', '\ta', '-a', '"a"', 'a"', 'a{', 'a}', '#a', '# a', 'a#', 'A', '__name__', 'a\x00', 'a\r', 'NaN', 'le']]
    out += [x + '\n' for x in ['a', 'a ', 'a 1 2 3', 'a 1 2 # x', 'a 1 # {b="c"} 1', 'a  1', 'a\t1', 'a 1\t', 'a 1 ', 'a1', 'a\x0b1', 'a\xa01', 'a 1\r', 'a 1 \r', 'a 1 %s\r' % ms(), 'a\n1', 'a 1;', 'a 1\x00', 'a 1\x00b 2', '\x00', '#\x00', 'a 1\n\x00\nb 2', '\ufeffa 1', 'a 1\u2028b 2', 'a 1\x0cb 2']]
    out += ['%s\na 1\n' % x for x in ['#', '# ', '##', '#HELP a b', '# HELP', '# HELP ', '# HELP a', '# HELP a ', '# HELP a  b', '#  HELP a b', '#\tHELP\ta\tb', '# help a b', '# HELP a b\\n\\\\\\"\\x', '# HELP a "b"', '# HELP "a" b', '# HELP "a b" c', '# HELP "a', '# HELP 0a b', '# HELP a.b c', '# HELP a\xff b', '# HELP é b',
        '# TYPE', '# TYPE a', '# TYPE a ', '# TYPE a counter', '# TYPE a counter ', '# TYPE a  counter', '# TYPE a\tcounter', '# TYPE a COUNTER', '# TYPE a counters', '# TYPE a unknown', '# TYPE a untyped', '# TYPE a info', '# TYPE a stateset', '# TYPE a gaugehistogram', '# TYPE a histogram', '# TYPE a summary', '# TYPE "a" gauge', '# TYPE "a" "gauge"', '# TYPE a gauge\n# TYPE a counter', '# TYPE a gauge\r', '# TYPE a gauge # x',
        '# UNIT a b', '# UNIT a_s s', '# EOF', '# EOF ', '# EOFx', '# TYPE b gauge', '# HELP a x\n# HELP a y', '# HELP b x\n# TYPE b gauge\n# HELP a z', '# HELP a\n', '# TYPE a gauge\n# HELP a help behind']]
    out += ['a 1\na 1\n', 'a 1\na 2\n', 'a 1 %s\na 2 %s\n' % (ms(), ms()), 'a 1 %s\na 2 %s\n' % (ms(), ms(1)), 'a 1 %s\na 2 %s\n' % (ms(1), ms()), 'a 1\na 2 %s\n' % ms(), 'a 1 %s\na 2\n' % ms(), 'a{b="1",c="2"} 1\na{c="2",b="1"} 2\n', 'a{b=""} 1\na 2\n',
            'a{b="1"} 1\na{"b"="1"} 2\n', 'a 1\n{"a"} 2\n', '# TYPE h histogram\nh_bucket{le="1"} 1\nh_bucket{le="1.0"} 2\n', 'h_bucket{le="1"} 1\nh_bucket{le="1.0"} 2\n', '# TYPE h histogram\nh_bucket{le="1"} 1\n# TYPE h gauge\nh_bucket{le="1"} 2\n',
            '', '\n', '\n\n', ' ', '\t', ' \n', '#', '#\n', 'a 1\n\n\nb 2\n\n', 'a 1\r\nb 2\r\n', '\r\n', '\r', 'a 1 %d\n' % (T0 * 1000 + 900000), 'a 1 %d\n' % (T0 * 1000 + 86400000), 'a 1 %d\n' % (T0 * 1000 - 86400000), 'a 1 %s\nb{c="d"} 2\n' % ms(-3000)]
    H = lambda body: '# TYPE h histogram\n' + body
    out += [H(x) for x in [
        'h_bucket{le="1"} 1\nh_count 1\n', 'h_bucket{le="1"} 1\n', 'h_sum 1\n', 'h_count 5\n', 'h 5\n', 'h_bucket 5\n', 'h_bucket{le=""} 5\nh_count 5\n', 'h_bucket{le="1"} 5\nh_bucket{le="2"} 4\nh_count 5\n', 'h_bucket{le="2"} 5\nh_bucket{le="1"} 4\nh_count 5\n',
        'h_bucket{le="1"} 5\nh_count 4\n', 'h_bucket{le="1"} 5\nh_bucket{le="+Inf"} 6\nh_count 7\n', 'h_bucket{le="1"} 1.5\nh_bucket{le="+Inf"} 2.5\nh_count 2.5\nh_sum 1\n', 'h_bucket{le="1"} -1\nh_count 1\n', 'h_bucket{le="1"} NaN\nh_count 1\n', 'h_bucket{le="1"} 1\nh_count NaN\n', 'h_bucket{le="1"} 1\nh_count 1\nh_sum NaN\n',
        'h_bucket{le="1"} +Inf\nh_count 1\n', 'h_bucket{le="1"} 1\nh_sum 1\nx 1\nh_count 1\n', 'h_bucket{le="1"} 1 %s\nh_count 1 %s\n' % (ms(), ms()), 'h_bucket{le="1"} 1 %s\nh_count 1\n' % ms(), 'h_bucket{le="1"} 1\nh_count 1\nh_created 5\n', 'h_count 1\nh_sum 2\nh_bucket{le="1"} 1\n',
        'h_bucket{le="1"} 1\nh_bucket{le="1"} 2\nh_count 2\n', 'h_bucket{le="1"} 1\nh_bucket{le="1.0"} 1\nh_count 2\n', 'h_bucket{le="-1"} 1\nh_bucket{le="0"} 1\nh_bucket{le="1"} 2\nh_count 2\n', 'h_bucket{le="-Inf"} 1\nh_count 2\n', 'h_bucket{le="+Inf"} 1\nh_bucket{le="+Inf"} 2\nh_count 2\n',
        'h_bucket{le="1",a="b"} 1\nh_bucket{a="b",le="2"} 1\nh_count{a="b"} 1\n', 'h_bucket{le="1"} 1\nh_bucket{le="1",a="x"} 1\nh_count 1\n', 'h_bucket{le="1"} 0\nh_count 0\nh_sum 0\n', 'h_bucket{le="1"} 9007199254740993\nh_count 9007199254740993\n', 'h_bucket{le="1"} 1e300\nh_count 1e300\n', 'h_count{le="1"} 1\nh_sum{le="1"} 2\n',
        'h_bucket{le="1"} 1\nh_count 1\n# HELP h x\nh_sum 3\n', 'h_bucket{le="1"} 1\n\nh_count 1\n', 'h_bucket{le="1"} 1\n# comment\nh_count 1\n', 'h_count 1\nh_count 2\n', 'other_bucket{le="1"} 1\nother_count 1\n', 'h_bucket{le="1",le="2"} 1\nh_count 1\n', '{"h_bucket",le="1"} 1\n{"h_count"} 1\n']]
    out += ['# TYPE s summary\n' + x for x in ['s{quantile="0.5"} NaN\n', 's{quantile="1"} 1\ns{quantile="1.0"} 2\n', 's 1\n', 's{quantile=""} 1\n', 's_count 1\n', 's{quantile="0.50"} 1\n', 's{quantile="x"} 1\n', 's_bucket{le="1"} 1\n']]
    return out

# ---------------------------------------------------------------- OpenMetrics
def wellformed_om():
    return [
        '# TYPE a counter\n# HELP a help\n# UNIT a \na_total 1\n# EOF\n', '# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total{b="c"} 1 %s # {id="x"} 0.5 %s\na_seconds_created{b="c"} %s\n# EOF\n' % (sec(), sec(), sec(-90)),
        '# TYPE h histogram\nh_bucket{le="0.5"} 1 # {id="x"} 0.3\nh_bucket{le="1"} 3 # {id="y"} 0.7 %s\nh_bucket{le="+Inf"} 4\nh_sum 2.5\nh_count 4\nh_created %s\n# EOF\n' % (sec(), sec(-80)),
        '# TYPE s summary\ns{quantile="0.5"} 1\ns_sum 4\ns_count 3\ns_created %s\n# EOF\n' % sec(-70), '# TYPE i info\ni_info{version="1"} 1\n# TYPE t stateset\nt{t="a"} 1\nt{t="b"} 0\n# EOF\n',
        '# TYPE g gaugehistogram\ng_bucket{le="1"} 1\ng_bucket{le="+Inf"} 2\ng_gcount 2\ng_gsum 3\n# EOF\n', '# TYPE u unknown\nu 1 %s.5\n# EOF\n' % sec(), '{"a.b",c="d"} 1\n# EOF\n', '# TYPE "a.b" counter\n{"a.b_total",x="1"} 7 # {"i d"="x"} 1\n{"a.b_created",x="1"} %s\n# EOF\n' % sec(-60),
        '# TYPE c counter\nc_total{x="1"} 1\nc_created{x="1"} %s\nc_total{x="2"} 2\nc_created{x="2"} %s\n# EOF' % (sec(-50), sec(-40)),
        '# TYPE h histogram\nh_bucket{a="1",le="1"} 1\nh_bucket{a="1",le="+Inf"} 2\nh_sum{a="1"} 1\nh_count{a="1"} 2\nh_created{a="1"} %s\nh_bucket{a="2",le="+Inf"} 5\nh_sum{a="2"} 1\nh_count{a="2"} 5\nh_created{a="2"} %s\n# EOF\n' % (sec(-30), sec(-20)),
    ]

def oms():
    E = '# EOF\n'
    out = list(wellformed_om())
    out += ['a %s\n' % v + E for v in VALUES]
    out += ['a 1 %s\n' % t + E for t in TIMES + ['NaN', 'Inf', '1e400', sec(), sec() + '.001', sec() + '.0009', sec() + 'e0', '-' + sec(), '%se-3' % ms()]]
    out += ['a 1 # %s\n' % x + E for x in ['{} 1', '{a="b"} 1', '{a="b"} 1 %s' % sec(), '{a="b"} 1 %s.5' % sec(), '{a="b"}', '{a="b"} ', '{a="b"}  1', '{a="b"} x', '{a="b"} 1 x', '{a="b"} 1 2 3', '{a="b"} NaN', '{a="b"} +Inf', '{a="b"} 1 NaN', '{"a"} 1', '{"a"="b"} 1', '{"a b"="c"} 1', '{a="b",} 1', '{a="b",,} 1', '{,} 1', '{a="b" } 1', '{ a="b"} 1', '{a="b"', 'a', '', '{a="\\n\\"\\\\"} 1', '{a="b",a="c"} 1', '{a="%s"} 1' % ('x' * 130), '{a="%s"} 1' % ('é' * 127), '{a=""} 1', '{a="\xff"} 1', '{a.b="c"} 1', '{__name__="c"} 1', '{a="b"} 1 %s # {c="d"} 2' % sec(), '{a="b"} 1 1', '{a="b"} 1 -1', '{a="b"} 1 %d' % (T0 + 86400), '{a="b"} 1 %d' % (T0 - 86400)]]
    out += ['a 1 %s # {a="b"} 2\n' % t + E for t in [sec(), '1', str(T0 + 90000), str(T0 - 90000)]]
    out += ['a 1#{a="b"} 1\n' + E, 'a 1 #{a="b"} 1\n' + E, 'a 1 # {a="b"} 1\r\n' + E, 'a 1\r\n# EOF\r\n', 'a 1\n\n' + E, '\na 1\n' + E, 'a 1\n# EOF', 'a 1\n# EOF\n\n', 'a 1\n# EOF\na 2\n', 'a 1\n# EOF ', 'a 1\n# EOFx\n', 'a 1\n', 'a 1', '', E, '# EOF', ' # EOF\n', '# eof\n', 'a 1 \n' + E, 'a  1\n' + E, 'a\t1\n' + E, ' a 1\n' + E, 'a 1  %s\n' % sec() + E, 'a 1 %s \n' % sec() + E, 'a\n' + E, 'a \n' + E, 'a 1 2 3\n' + E, '# comment\na 1\n' + E, '#\na 1\n' + E, '# \na 1\n' + E]
    out += ['%s\na 1\n' % x + E for x in ['# HELP a', '# HELP a ', '# HELP a  b', '#  HELP a b', '# HELP a b\\n\\\\\\"\\x', '# HELP "a" b', '# HELP "a b" c', '# HELP 0a b', '# HELP a \xff', '# TYPE a', '# TYPE a ', '# TYPE a counter', '# TYPE a counter ', '# TYPE a  counter', '# TYPE a untyped', '# TYPE a unknown', '# TYPE a info', '# TYPE a stateset', '# TYPE a gaugehistogram', '# TYPE a Counter', '# TYPE a gauge\n# TYPE a counter', '# UNIT a b', '# UNIT a a', '# UNIT a ', '# UNIT a', '# UNIT b_s s', '# UNIT b_s _s', '# UNIT s s', '# UNIT bs s', '# UNIT "b.c_s" s', '# UNIT b_s s ', '# UNIT _s s', '# FOO a b', '# TYPE a gauge\r', '# TYPE\ta gauge', '# TYPE a\tgauge', '#TYPE a gauge']]
    out += ['a{%s} 1\n' % x + E for x in ['', ',', 'b="1",,c="2"', 'b="1" c="2"', 'b = "1"', ' b="1"', 'b="1" ', 'b="1", c="2"', '"b"', '"b"="1"', '"b c"="1"', 'b="\\x"', 'b="\n"', 'b="1",b="2"', '0b="1"', 'b.c="1"', 'é="1"', '__name__="x"', 'le="1"', 'b=""', 'b="\x00"', 'b="1",']]
    out += [x + ' 1\n' + E for x in ['{"a"}', '{"a",}', '{b="1","a"}', '{"a","b"}', '{ "a"}', '{}', '{b="1"}', 'a {b="1"}', 'a{b="1"}{c="2"}', 'a.b', '0a', ':a', 'é', '{"é"}', '{"a\\nb"}']]
    out += ['# TYPE a counter\n' + x + E for x in ['a_total 1\na_created 5\n', 'a_created %s\na_total 1\n' % sec(-9), 'a_total 1\na_created %s\na_total{x="1"} 2\n' % sec(-9), 'a_total{x="1",y="2"} 1\na_created{y="2",x="1"} %s\n' % sec(-9), 'a_total 1\na_created %s\na_created %s\n' % (sec(-9), sec(-8)), 'a_total 1\na_created NaN\n', 'a_total 1\na_created -5\n', 'a_total 1\na_created 0\n', 'a_total 1\na_created %s # {x="y"} 1\n' % sec(-9), 'a_total 1 %s\na_created %s\n' % (sec(), sec(-9)), 'a_total 1 %s\na_created %s\n' % (sec(-20), sec(-9)), 'a_total 1\n# TYPE b counter\na_created %s\n' % sec(-9), 'a 1\na_created %s\n' % sec(-9), 'b_total 1\nb_created %s\n' % sec(-9), 'a_total 1\na_created %d\n' % (T0 - 7200), 'a_total 1\na_created %d\n' % (T0 + 900000), 'a_total{x="1"} 1\na_total{x="2"} 1\na_created{x="1"} %s\na_created{x="2"} %s\n' % (sec(-9), sec(-9)), 'a_total NaN\na_created %s\n' % sec(-9), 'a_total -1\n', 'a_total 0\na_created %s\n' % sec(-9), '_created 5\n', 'a_created 5\n']]
    out += ['# TYPE a gauge\na 1\na_created 5\n' + E, 'a_total 1\na_created 5\n' + E, '# TYPE a info\na_info 1\na_created 5\n' + E]
    return out

ALPHABET = list('{}=",\\# \n\t\r_.:aeE+-019NI') + ['le', 'NaN', '+Inf', '# TYPE ', '# HELP ', '# EOF', '"', '\x00', 'é', '\xff', 'h_', '_bucket', '_total', '_created', 'histogram', ' # {a="b"} 1']
def damage(rng, body):
    body = list(body)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at = rng.randrange(len(body) + 1); what = rng.random()
        if what < 0.4: body.insert(at, rng.choice(ALPHABET))
        elif what < 0.65 and at < len(body): body[at] = rng.choice(ALPHABET)
        elif what < 0.85 and at < len(body): del body[at]
        elif what < 0.93: body = body[:at] + body[max(0, at - rng.randrange(30)):]
        else:
            lines = ''.join(body).splitlines(True); rng.shuffle(lines) if rng.random() < 0.5 else lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines) if lines else '')
            body = list(''.join(lines))
    return ''.join(body)
def damage_bytes(rng, body):
    body = bytearray(body)
    for _ in range(rng.choice([1, 1, 2])):
        if not body: break
        at = rng.randrange(len(body)); what = rng.random()
        if what < 0.5: body[at] = rng.choice([0, 1, 2, 8, 0x7f, 0x80, 0xff, body[at] ^ 1 << rng.randrange(8)])
        elif what < 0.7: del body[at]
        elif what < 0.9: body.insert(at, rng.randrange(256))
        else: del body[at:]
    return bytes(body)

def corpus(size=1450, seed=7):
    """(format, kind of job, content type, body)"""
    rng = random.Random(seed)
    enc = lambda s: s.encode('latin-1') if '\xff' in s and max(map(ord, s)) < 256 else s.encode('utf-8', 'surrogateescape')
    def job(fmt, body):
        b = body if isinstance(body, bytes) else body.encode()
        if fmt == 'pb': return rng.choice(['plain', 'native', 'native', 'both', 'nhcb', 'nhcbboth'])
        return rng.choice(['plain', 'nhcb', 'nhcb', 'nhcbboth']) if b'histogram' in b else rng.choice(['plain'] * 5 + ['nhcb'])
    out = []
    def add(fmt, ct, body):
        j = job(fmt, body)
        out.append((fmt, j, ct, body if isinstance(body, bytes) else enc(body)))
    for b in texts(): add('text', TEXT, b)
    for b in oms(): add('om', OM, b)
    for b in protobufs():
        out.append(('pb', 'plain', PB, b)); add('pb', PB, b)
    bt, bo, bp = wellformed_text(), wellformed_om(), protobufs()
    n = 0
    while len(out) < size:
        n += 1
        if n % 5 in (0, 1): add('text', TEXT, damage(rng, rng.choice(bt)))
        elif n % 5 in (2, 3): add('om', OM, damage(rng, rng.choice(bo)))
        else: add('pb', PB, damage_bytes(rng, rng.choice(bp)))
    return out
if __name__ == '__main__':
    c = corpus(); print(len(texts()), len(oms()), len(protobufs()), len(c))
