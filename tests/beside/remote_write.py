#!/usr/bin/env python3
"""Sends by remote write 2.0 from Perennial to a newer Prometheus than Debian's, and compares what the two have.

    cargo build
    tests/beside/remote_write.py --perennial target/debug/perennial --prometheus ~/prometheus-3.14/prometheus

Perennial scrapes texts with exemplars, types and units, and the native histograms of that Prometheus itself. The receiver
makes labels of the types and units that it is told. Compared are all samples of a time range, native histograms included,
and exemplars. Ends with 1 if there are differences.
"""
import argparse
import http.server
import json
import os
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

from otlp import difference, free_port, run

TYPES = {'orders_total': 'counter', 'room_celsius': 'gauge', 'took_seconds_bucket': 'histogram', 'sizes_bytes': 'summary'}


class Texts(http.server.BaseHTTPRequestHandler):
    """A target; its values change with each scrape."""
    scrapes = 0

    def do_GET(self):
        Texts.scrapes += 1
        n = Texts.scrapes
        body = f'''# TYPE orders counter
# HELP orders Orders of "all" kinds.
orders_total{{kind="ü"}} {n} # {{trace_id="t{n}"}} 0.5
# TYPE room_celsius gauge
# UNIT room_celsius celsius
room_celsius {n / 3}
room_celsius{{room="odd"}} {'NaN' if n % 3 else '-Inf'}
# TYPE took_seconds histogram
# UNIT took_seconds seconds
took_seconds_bucket{{le="1.0"}} {n} # {{trace_id="b{n}"}} 0.25
took_seconds_bucket{{le="+Inf"}} {2 * n}
took_seconds_count {2 * n}
took_seconds_sum {n * 1.5}
# TYPE sizes_bytes summary
# UNIT sizes_bytes bytes
sizes_bytes{{quantile="0.5"}} {n}
sizes_bytes_count {n}
sizes_bytes_sum {n * 2}
{f'comes_and_goes {n}' if n % 8 < 4 else '# HELP gone Nothing.'}
# EOF
'''.encode()
        self.send_response(200)
        self.send_header('Content-Type', 'application/openmetrics-text; version=1.0.0; charset=utf-8')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def get(port, path, **parameters):
    with urllib.request.urlopen(f'http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}') as answer:
        return json.load(answer)['data']


def labels(metric):
    """The labels of a series without those of its type, which the receiver adds."""
    return json.dumps({k: v for k, v in metric.items() if k not in ('__type__', '__unit__')}, sort_keys=True)


def found(port, seconds, now):
    rows = get(port, 'query', query=f'{{job=~"texts|native"}}[{seconds}s]', time=now)['result']
    series = {labels(row['metric']): row.get('values', []) + row.get('histograms', []) for row in rows}
    rows = get(port, 'query_exemplars', query='{job="texts"}', start=now - seconds, end=now)
    exemplars = {labels(row['seriesLabels']): row['exemplars'] for row in rows}
    return series, exemplars


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--perennial', required=True)
    parser.add_argument('--prometheus', required=True)
    parser.add_argument('--seconds', type=int, default=30)
    args = parser.parse_args()
    target = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Texts)
    threading.Thread(target=target.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as directory:
        receiver = run(args.prometheus, os.path.join(directory, 'theirs'), 'scrape_configs: []\n', [
            '--web.enable-remote-write-receiver', '--enable-feature=exemplar-storage,type-and-unit-labels'])
        config = f'''global: {{scrape_interval: 1s}}
remote_write:
- url: http://127.0.0.1:{receiver.port}/api/v1/write
  protobuf_message: io.prometheus.write.v2.Request
  send_exemplars: true
  send_native_histograms: true
  queue_config: {{batch_send_deadline: 500ms}}
scrape_configs:
- {{job_name: texts, static_configs: [{{targets: ['127.0.0.1:{target.server_port}']}}]}}
- job_name: native
  scrape_native_histograms: true
  static_configs: [{{targets: ['127.0.0.1:{receiver.port}']}}]
'''
        sender = run(args.perennial, os.path.join(directory, 'ours'), config, ['--enable-feature=exemplar-storage'])
        try:
            time.sleep(args.seconds + 3)
            now = time.time() - 3
            parts = [found(port, args.seconds - 5, now) for port in (sender.port, receiver.port)]
            problems = []
            for kind, ours, theirs in zip(('series', 'exemplars'), *parts):
                lines = difference(ours, theirs)
                samples = sum(len(rows) for rows in ours.values())
                print(f'{len(ours)} {kind} with {samples} values, {len(lines)} differ')
                problems += lines
            histograms = sum(1 for rows in parts[0][0].values() if isinstance(rows[0][1], dict))
            print(f'{histograms} series are native histograms')
            if not histograms:
                problems.append('    no native histograms')
            for name, kind in TYPES.items():
                rows = get(receiver.port, 'query', query=f'{{__name__="{name}"}}')['result']
                told = {row['metric'].get('__type__') for row in rows}
                print(f'{name}: {told}')
                if told != {kind}:
                    problems.append(f'    {name} is {told} and not {kind}')
            with urllib.request.urlopen(f'http://127.0.0.1:{sender.port}/metrics') as answer:
                for line in answer.read().decode().splitlines():
                    if '_failed_total{' in line and 'remote_storage' in line and not line.endswith(' 0'):
                        problems.append(f'    {line}')
            print(*problems[:40], sep='\n')
            sys.exit(1 if problems else 0)
        finally:
            sender.stop()
            receiver.stop()


if __name__ == '__main__':
    main()
