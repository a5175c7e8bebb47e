#!/usr/bin/env python3
"""Serves odd expositions to Perennial and to Prometheus, and prints what the two make of each where they differ.

    cargo build
    tests/beside/expositions.py --perennial target/debug/perennial --prometheus ~/prometheus-3.14/prometheus

Compared are `up` and the other reports, all series with their values and their own times, metadata, exemplars, and with
`--starts` start timestamps and zeros. README.md says which differences are known. Ends with 1 if there are any.
"""
import argparse
import collections
import http.server
import json
import os
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import bodies

JOBS = {
    'plain': '',
    'native': '  scrape_native_histograms: true\n',
    'both': '  scrape_native_histograms: true\n  always_scrape_classic_histograms: true\n',
    'nhcb': '  convert_classic_histograms_to_nhcb: true\n',
    'nhcbboth': '  scrape_native_histograms: true\n  convert_classic_histograms_to_nhcb: true\n'
                '  always_scrape_classic_histograms: true\n',
}
STARTS = 'created-timestamp-zero-ingestion,st-storage,xor2-encoding,use-start-timestamps,promql-experimental-functions'
STARTED = ('a a_total c_total h_bucket h_sum h_count h s s_sum s_count a_seconds_total b_total a.b_total c g').split()


def target(corpus):
    """A server of all bodies; its port."""
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def do_GET(self):
            _, _, content_type, body = corpus[int(self.path.split('/')[2])]
            self.send_response(200)
            self.send_header('Content-Type', content_type)
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True
        request_queue_size = 512

    server = Server(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def config(corpus, port, args):
    text = (f'global:\n  scrape_interval: {args.interval}s\n  scrape_timeout: {args.interval}s\n'
            f'storage:\n  tsdb: {{out_of_order_time_window: {args.window}}}\nscrape_configs:\n')
    for job, keys in JOBS.items():
        mine = [n for n, (_, of, _, _) in enumerate(corpus) if of == job]
        if mine:
            text += f'- job_name: {job}\n{keys}  static_configs:\n'
        for n in mine:
            labels = f'{{n: "{n}", __metrics_path__: "/b/{n}"}}'
            text += f'  - {{targets: ["127.0.0.1:{port}"], labels: {labels}}}\n'
    return text


class Server:
    """One of the two."""

    def __init__(self, binary, port, directory, features):
        self.port = port
        os.makedirs(directory)
        with open(os.path.join(directory, 'log'), 'w') as log:
            self.process = subprocess.Popen([
                binary, f'--config.file={directory}/../config.yml', f'--storage.tsdb.path={directory}/data',
                f'--web.listen-address=127.0.0.1:{port}', f'--enable-feature={features}'], stdout=log, stderr=log)
        for _ in range(300):
            try:
                urllib.request.urlopen(f'http://127.0.0.1:{port}/-/ready')
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f'{binary} is not ready')

    def get(self, path, **parameters):
        url = f'http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(parameters)}'
        return json.load(urllib.request.urlopen(url, timeout=60))['data']

    def end(self):
        self.process.terminate()
        self.process.wait()


def is_own(t):
    """Whether a time is one of the bodies' and not that of a scrape."""
    return t < bodies.T0 + 400


def found(server, starts):
    """By number of the body: what there is of it, and the error of its last scrape."""
    all_found = collections.defaultdict(dict)

    def of(labels):
        labels = {name: value for name, value in labels.items() if name not in ('instance', 'job')}
        return all_found[int(labels.pop('n'))], labels

    for series in server.get('/api/v1/query', query='{n=~".+"}[3h]')['result']:
        here, labels = of(series['metric'])
        if labels.get('__name__') in ('scrape_duration_seconds', 'scrape_timeout_seconds'):
            continue
        histograms = [[t, json.dumps(h, sort_keys=True)] for t, h in series.get('histograms', [])]
        own, others = [], []
        for t, v in sorted(series.get('values', []) + histograms, key=lambda sample: sample[0]):
            if is_own(t):
                own.append([t, v])
            elif others[-1:] != [v]:
                others.append(v)
        here['series ' + json.dumps(labels, sort_keys=True)] = [own, others]
    for entry in server.get('/api/v1/targets/metadata', limit=1000000):
        here, _ = of(entry['target'])
        here['metadata ' + json.dumps([entry.get('metric'), entry['type'], entry['help'], entry['unit']])] = True
    for series in server.get('/api/v1/query_exemplars', query='{n=~".+"}', start=bodies.T0 - 86400, end=time.time() + 86400):
        here, labels = of(series['seriesLabels'])
        seen = [[e['labels'], e['value'], e['timestamp'] if is_own(e['timestamp']) else None] for e in series['exemplars']]
        here['exemplars ' + json.dumps(labels, sort_keys=True)] = sorted(json.dumps(e, sort_keys=True) for e in seen)
    for name in STARTED if starts else ():
        for series in server.get('/api/v1/query', query=f'start_timestamp({{n=~".+",__name__="{name}"}})')['result']:
            here, labels = of(series['metric'])
            here[f'start {name} ' + json.dumps(labels, sort_keys=True)] = series['value'][1]
    targets = server.get('/api/v1/targets', state='active')['activeTargets']
    return all_found, {int(t['labels']['n']): t['lastError'] for t in targets}


def differences(corpus, ours, theirs):
    """Prints them; how many bodies have some."""
    (a, our_errors), (b, their_errors) = ours, theirs
    count = 0
    for n, (fmt, job, _, body) in enumerate(corpus):
        keys = [k for k in sorted(set(a[n]) | set(b[n])) if a[n].get(k) != b[n].get(k)]
        if not keys:
            continue
        count += 1
        print(f'== {n} {fmt} {job} {body[:400]!r}\n  here:       {our_errors.get(n)}\n  Prometheus: {their_errors.get(n)}')
        for key in keys:
            print(f'  {key}\n    here:       {a[n].get(key)}\n    Prometheus: {b[n].get(key)}')
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--perennial', required=True)
    parser.add_argument('--prometheus', required=True)
    parser.add_argument('--bodies', type=int, default=1450)
    parser.add_argument('--window', default='30m', help='out_of_order_time_window of both')
    parser.add_argument('--starts', action='store_true', help='with the features for start timestamps')
    parser.add_argument('--interval', type=int, default=10, help='seconds between scrapes; three are waited for')
    args = parser.parse_args()
    corpus = bodies.corpus(args.bodies)
    port = target(corpus)
    features = 'exemplar-storage,' + (STARTS if args.starts else '')
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, 'config.yml'), 'w') as file:
            file.write(config(corpus, port, args))
        servers = []
        try:
            for n, binary in enumerate((args.perennial, args.prometheus)):
                servers.append(Server(binary, 9481 + n, os.path.join(directory, str(n)), features.strip(',')))
            time.sleep(3 * args.interval + 2)
            results = [found(server, args.starts) for server in servers]
        finally:
            for server in servers:
                server.end()
    count = differences(corpus, *results)
    print(f'{count} of {len(corpus)} bodies differ', file=sys.stderr)
    sys.exit(count > 0)


if __name__ == '__main__':
    main()
