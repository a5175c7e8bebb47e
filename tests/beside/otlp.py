#!/usr/bin/env python3
"""Sends OTLP requests to Perennial and to Prometheus, and prints what the two make of each where they differ.

    cargo build
    tests/beside/otlp.py --perennial target/debug/perennial --prometheus ~/prometheus-3.14/prometheus

Each request is sent to both with each configuration. Compared are the status, all series with their values and times,
and exemplars. README.md says which differences are known. Ends with 1 if there are any.
"""
import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

CUMULATIVE, DELTA = 2, 1
CONFIGURATIONS = {
    'default': ('', ''),
    'without suffixes': ('translation_strategy: UnderscoreEscapingWithoutSuffixes', ''),
    'utf8': ('translation_strategy: NoUTF8EscapingWithSuffixes', ''),
    'untranslated': ('translation_strategy: NoTranslation', ''),
    'promoted': ('promote_resource_attributes: [host.name, "9x", service.name, nothing]', ''),
    'all promoted': ('promote_all_resource_attributes: true\n  ignore_resource_attributes: [host.name]', ''),
    'identifying': ('keep_identifying_resource_attributes: true', ''),
    'nhcb': ('convert_histograms_to_nhcb: true', ''),
    'scope': ('promote_scope_metadata: true', ''),
    'labels': ('label_name_underscore_sanitization: false\n  label_name_preserve_multiple_underscores: false', ''),
    'scope utf8': ('translation_strategy: NoTranslation\n  promote_scope_metadata: true\n'
                   '  promote_all_resource_attributes: true', ''),
    'deltas as they are': ('', 'otlp-native-delta-ingestion'),
    'deltas summed': ('', 'otlp-deltatocumulative'),
    'zeros': ('', 'created-timestamp-zero-ingestion'),
    'types': ('', 'type-and-unit-labels'),
    'types utf8': ('translation_strategy: NoTranslation', 'type-and-unit-labels'),
}


def value(v):
    """An attribute's value in JSON."""
    if isinstance(v, bool):
        return {'boolValue': v}
    if isinstance(v, int):
        return {'intValue': str(v)}
    if isinstance(v, float):
        return {'doubleValue': v}
    if isinstance(v, list):
        return {'arrayValue': {'values': [value(x) for x in v]}}
    if isinstance(v, dict):
        return {'kvlistValue': {'values': attributes(v)}}
    if isinstance(v, bytes):
        return {'bytesValue': 'aGk='}
    return {} if v is None else {'stringValue': v}


def attributes(values):
    return [{'key': key, 'value': value(v)} for key, v in values.items()]


def request(metrics, resource=None, scope=None, schema=''):
    resource = {'service.name': 's'} if resource is None else resource
    return {'resourceMetrics': [{'resource': {'attributes': attributes(resource)}, 'scopeMetrics': [
        {'scope': scope or {}, 'schemaUrl': schema, 'metrics': metrics}]}]}


def cases(now):
    """(name, requests) of each case; `now` is in ms."""
    def at(ms):
        return str((now - 600_000 + ms) * 1_000_000)

    def point(**more):
        return {'timeUnixNano': at(0), 'startTimeUnixNano': at(-60_000), **more}

    def number(name, kind='gauge', unit='', points=None, **more):
        points = [{key: v for key, v in one.items() if v is not None} for one in points or [point(asDouble=1.5)]]
        return {'name': name, 'unit': unit, 'description': f'About {name}', kind: {'dataPoints': points, **more}}

    def total(name, unit='', points=None, monotonic=True, temporality=CUMULATIVE):
        return number(name, 'sum', unit, points, isMonotonic=monotonic, aggregationTemporality=temporality)

    def buckets(name='h', temporality=CUMULATIVE, **more):
        whole = {'count': '10', 'sum': 12.5, 'bucketCounts': ['1', '0', '4', '5'], 'explicitBounds': [0.1, 1, 2.5]}
        return number(name, 'histogram', 's', [point(**{**whole, **more})], aggregationTemporality=temporality)

    def exponential(name='e', temporality=CUMULATIVE, **more):
        whole = {'count': '9', 'sum': 12.5, 'scale': 1, 'zeroCount': '2', 'zeroThreshold': 0.5,
                 'positive': {'offset': 1, 'bucketCounts': ['1', '2', '0', '0', '0', '3']},
                 'negative': {'offset': -3, 'bucketCounts': ['1']}}
        return number(name, 'exponentialHistogram', 'By', [point(**{**whole, **more})],
                      aggregationTemporality=temporality)

    found = []
    add = lambda name, *requests: found.append((name, requests))
    names = ['http.server.duration', '9name', '_a', 'a__b', 'a_total', 'a.total', 'a_seconds', 'seconds', 'ratio', 'total',
             '___', 'ünï', 'a:b', 'a b', '', 'a_bytes_total', 'a_total_bytes', 'a_per_second', 'process.cpu.time.total',
             'a_count', 'a_bucket', 'a_sum', 'a_info', 'system.io', '__a__', 'a.', '.a', 'a..b']
    units = ['', '1', 's', 'ms', 'By', 'By/s', 'KiBy', '%', '{requests}', '{a}/s', 'foo/bar', '/s', 's/', 'm/h', 'µs', 'us',
             'Cel', 'V', 'ns', 'd', 'wk', 'mo', 'y', 'Hz', 'J', 'W', 'A', 'g', 'h', 'min', 'MBy', 'GiBy', 'x y', 'a__b', '_',
             'request{a}', '$', 'seconds', 'By/{x}']
    for name in names:
        add(f'gauge {name!r}', request([number(name)]))
        add(f'sum {name!r}', request([total(name, 's')]))
    for unit in units:
        add(f'gauge in {unit!r}', request([number('m.u', unit=unit)]))
        add(f'sum in {unit!r}', request([total('m.u', unit)]))
        add(f'ratio in {unit!r}', request([number('m.ratio', unit=unit)]))
    add('int', request([number('i', points=[point(asInt='7')])]))
    add('special', request([number('x', points=[point(asDouble='NaN', attributes=attributes({'a': '1'})),
                                                point(asDouble='Infinity'), point(attributes=attributes({'b': '1'}))])]))
    add('not monotonic', request([total('up.down', 's', monotonic=False)]))
    add('deltas', request([total('d', temporality=DELTA)]),
        request([total('d', temporality=DELTA, points=[{**point(asDouble=2.5), 'timeUnixNano': at(10_000),
                                                        'startTimeUnixNano': at(0)}])]))
    add('deltas not monotonic', request([total('dn', temporality=DELTA, monotonic=False)]))
    add('no temporality', request([total('n', temporality=0)]))
    add('no recorded value', request([number('gone', points=[point(flags=1)]), buckets('gone.h', flags=1),
                                      exponential('gone.e', flags=1)]))
    keys = {'a.b': 'x', 'a_b': 'y', '9a': 'z', '_x': '1', '__y': '2', 'a..c': '3', 'ü': '4', 'le': '5', 'job': '6',
            'instance': '7', '__name__': '8', 'empty': '', 'key_1': '9', '__type__': 't', '__unit__': 'u'}
    add('labels', request([total('l', points=[point(asDouble=1, attributes=attributes(keys))])]))
    for key, v in keys.items():
        add(f'label {key!r}', request([total('l1', points=[point(asDouble=1, attributes=attributes({key: v}))])]))
    add('no key', request([total('l2', points=[point(asDouble=1, attributes=attributes({'': 'x'}))])]))
    add('underscores', request([total('l3', points=[point(asDouble=1, attributes=attributes({'__': 'x', '..': 'y'}))])]))
    kinds = {'i': -3, 'd': 1.5, 'e': 1e21, 'f': 2.0, 'b': True, 'l': [1, 'a', None, [True]], 'm': {'b': 1, 'a': 'x"y'},
             'y': b'hi', 'n': None, 'h': '<&>\n'}
    add('kinds of values', request([number('k', points=[point(asDouble=1, attributes=attributes(kinds))])],
                                   {'service.name': 's', **{f'r{k}': v for k, v in kinds.items()}}))
    identity = {'service.name': 'shop', 'service.namespace': 'eu', 'service.instance.id': 'i-1'}
    for n, resource in enumerate([{}, {'host.name': 'h'}, identity, {**identity, 'host.name': 'h', '9x': 'y'},
                                  {'service.namespace': 'eu', 'host.name': 'h'}, {'service.instance.id': 'i', 'a.b': 'c'},
                                  {'service.name': '', 'host.name': 'h'}, {'service.name': 7, 'host.name': 'h'},
                                  {**identity, 'job': 'j', 'instance': 'x', 'a.b': '1', 'a_b': '2'}]):
        add(f'resource {n}', request([number('r.g'), total('r.c')], resource))
    times = [{'timeUnixNano': at(ms), 'asDouble': 1.0} for ms in (0, 1, 149_999, 300_000, 310_000)]
    add('target_info over time', request([number('t', points=times)], {**identity, 'host.name': 'h'}))
    scope = {'name': 'lib', 'version': '1.2', 'attributes': attributes({'a.b': 1, 'name': 'x', 'version': 'y', 'e': ''})}
    add('scope', request([number('s.g'), buckets('s.h')], identity, scope, 'https://schema/1'))
    add('scope without a name', request([number('s.n')], identity, {'version': '1'}, 'https://schema/1'))
    add('histogram', request([buckets()]))
    add('histogram without sum', request([buckets(sum=None)]))
    add('histogram without buckets', request([buckets(bucketCounts=[], explicitBounds=[])]))
    add('histogram with few counts', request([buckets(bucketCounts=['1', '2'])]))
    add('histogram with few bounds', request([buckets(explicitBounds=[1])]))
    add('histogram with min and max', request([buckets(min=0.1, max=7)]))
    add('histogram that counts nothing', request([buckets(count='0', bucketCounts=['0', '0', '0', '0'])]))
    add('histogram of odd bounds', request([buckets(explicitBounds=[-1, 1e-7, 1e21])]))
    add('histogram that begins empty', request([buckets(bucketCounts=['0', '0', '4', '6'])]))
    exemplar = [{'timeUnixNano': at(0), 'asDouble': v, 'traceId': '0af7651916cd43dd8448eb211c80319c',
                 'spanId': 'b7ad6b7169203331', 'filteredAttributes': attributes({'user.id': u})}
                for v, u in ((0.05, 'a'), (0.7, 'b'), (99, 'c'))]
    long = [{'timeUnixNano': at(0), 'asInt': '3', 'filteredAttributes': attributes({'x': 'y' * 200})}]
    add('exemplars', request([buckets('x.h', exemplars=exemplar), total('x.c', points=[point(asDouble=1, exemplars=exemplar[:1])]),
                              number('x.g', points=[point(asDouble=1, exemplars=exemplar[:1])]),
                              exponential('x.e', exemplars=exemplar)]))
    add('long exemplar', request([total('x.l', points=[point(asDouble=1, exemplars=long)])]))
    add('delta histograms', request([buckets('dh', DELTA), exponential('de', DELTA)]),
        request([buckets('dh', DELTA, timeUnixNano=at(10_000), startTimeUnixNano=at(0)),
                 exponential('de', DELTA, timeUnixNano=at(10_000), startTimeUnixNano=at(0), scale=0)]))
    add('delta histogram with other bounds', request([buckets('db', DELTA)]),
        request([buckets('db', DELTA, timeUnixNano=at(10_000), startTimeUnixNano=at(0), explicitBounds=[1, 2, 3])]))
    for scale in (-5, -4, 0, 8, 9, 20):
        add(f'exponential of scale {scale}', request([exponential(scale=scale)]))
    wide = {'offset': -7, 'bucketCounts': [str(n % 4) for n in range(60)]}
    add('exponential wide', request([exponential('w', positive=wide, negative={}, count='90', zeroCount='0')]))
    add('exponential wide of scale 9', request([exponential('w9', positive=wide, scale=9, count='92', zeroCount='1')]))
    add('exponential without sum', request([exponential(sum=None)]))
    add('exponential without observations', request([exponential(count='0', sum=0, zeroCount='0', positive={}, negative={})]))
    add('exponential with a sum of none', request([exponential(count='0', sum=3, zeroCount='0', positive={}, negative={})]))
    add('exponential with a wrong count', request([exponential(count='3')]))
    quantiles = [{'quantile': q, 'value': q * 10} for q in (0, 0.5, 0.99, 1)]
    add('summary', request([number('q', 'summary', 's', [point(count='4', sum=10.5, quantileValues=quantiles)])]))
    add('summary without quantiles', request([number('q2', 'summary', '', [point(count='4', sum=10.5)])]))
    add('summary that is gone', request([number('q3', 'summary', '', [point(flags=1, quantileValues=quantiles)])]))
    add('empty metrics', request([{'name': 'none'}, number('one')]), request([{'name': 'g', 'gauge': {}}]), {})
    add('the same twice', request([number('twice')]), request([number('twice')]))
    add('another value at the same time', request([number('other')]), request([number('other', points=[point(asDouble=9)])]))
    add('two of one name', request([number('pair', points=[point(asDouble=1), {**point(asDouble=2), 'timeUnixNano': at(5)}])]))
    add('one bad among good', request([number('good'), total('bad', temporality=0), number('good.too')]))
    add('without a time', request([number('timeless', points=[{'asDouble': 1}])]))
    return found


def run(binary, directory, config, flags):
    """Starts a server and waits until it is ready."""
    port = free_port()
    os.makedirs(directory)
    path = os.path.join(directory, 'prometheus.yml')
    with open(path, 'w') as f:
        f.write(config)
    command = [binary, f'--config.file={path}', f'--storage.tsdb.path={directory}/data', '--log.level=warn',
               f'--web.listen-address=127.0.0.1:{port}', *flags]
    with open(os.path.join(directory, 'log'), 'w') as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    for _ in range(300):
        try:
            urllib.request.urlopen(f'http://127.0.0.1:{port}/-/ready').close()
            return Server(process, port)
        except OSError:
            time.sleep(0.1)
    process.kill()
    with open(os.path.join(directory, 'log')) as log:
        raise SystemExit(f'{binary} is not ready: {log.read()[-2000:]}')


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Server:
    """A server that runs."""

    def __init__(self, process, port):
        self.process, self.port = process, port

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def send(self, body):
        headers = {'Content-Type': 'application/json'}
        url = f'http://127.0.0.1:{self.port}/api/v1/otlp/v1/metrics'
        try:
            with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as answer:
                return answer.status, ''
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode().strip()

    def get(self, path, **parameters):
        url = f'http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}'
        with urllib.request.urlopen(url) as answer:
            return json.load(answer)['data']

    def found(self, now):
        """All series and exemplars, by their labels."""
        rows = self.get('query', query='{__name__!=""}[2h]', time=now / 1000)['result']
        series = {json.dumps(row['metric'], sort_keys=True): row.get('values', []) + row.get('histograms', []) for row in rows}
        rows = self.get('query_exemplars', query='{__name__!=""}', start=now / 1000 - 7200, end=now / 1000)
        exemplars = {json.dumps(row['seriesLabels'], sort_keys=True): row['exemplars'] for row in rows}
        return series, exemplars


def difference(one, other):
    """What two mappings do not share."""
    out = []
    for key in sorted(set(one) | set(other)):
        if one.get(key) != other.get(key):
            out.append(f'    {key}\n      ours   {one.get(key)}\n      theirs {other.get(key)}')
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--perennial', required=True)
    parser.add_argument('--prometheus', required=True)
    parser.add_argument('--only', help='the configurations with this in their name')
    parser.add_argument('--case', default='', help='the cases with this in their name')
    args = parser.parse_args()
    count = compared = 0
    for name, configuration in CONFIGURATIONS.items():
        if args.only and args.only not in name:
            continue
        with tempfile.TemporaryDirectory() as directory:
            now = int(time.time() * 1000)
            block, features = configuration
            config = 'storage: {tsdb: {out_of_order_time_window: 2h}}\n' + (f'otlp:\n  {block}\n' if block else '')
            features = ','.join(filter(None, ['exemplar-storage', features]))
            flags = ['--web.enable-otlp-receiver', f'--enable-feature={features}']
            both = [run(binary, os.path.join(directory, which), config, flags)
                    for which, binary in (('ours', args.perennial), ('theirs', args.prometheus))]
            try:
                for n, (case, requests) in enumerate(cases(now)):
                    if args.case not in case:
                        continue
                    # Each case is a tenant of its own: its series are told apart by their instance.
                    answers = [[server.send(mark(r, n)) for r in requests] for server in both]
                    compared += 1
                    states = [[status for status, _ in of] for of in answers]
                    if states[0] != states[1]:
                        count += 1
                        print(f'{name}: {case}: {answers[0]} and {answers[1]}')
                for kind, ours, theirs in zip(('series', 'exemplars'), *(server.found(now) for server in both)):
                    lines = difference(ours, theirs)
                    count += len(lines)
                    if lines:
                        print(f'{name}: {kind}', *lines, sep='\n')
            finally:
                for server in both:
                    server.stop()
    print(f'{compared} cases, {count} differences')
    sys.exit(1 if count else 0)


def mark(body, n):
    """The request with an attribute that tells its points from those of other cases."""
    body = json.loads(json.dumps(body))
    for of_resource in body.get('resourceMetrics', []):
        for of_scope in of_resource['scopeMetrics']:
            for metric in of_scope['metrics']:
                for data in metric.values():
                    for point in data.get('dataPoints', []) if isinstance(data, dict) else []:
                        point['attributes'] = point.get('attributes', []) + attributes({'case': n})
    return body


if __name__ == '__main__':
    main()
