#!/usr/bin/env python3
"""Discovery beside real servers: a Kubernetes API server with etcd, Consul and ZooKeeper, which this program starts.

    tests/beside/discovery.py record  --etcd … --kube-apiserver … --consul …
    tests/beside/discovery.py compare --etcd … --kube-apiserver … --consul … --zookeeper … --perennial … --prometheus …

`record` makes the calls of our mechanisms, writes what the servers answer into
connectors/tests/data/discovery/recorded/, and takes four minutes. `compare` has Perennial and Prometheus discover on
these servers and prints where their targets or labels differ, step by step; it ends with 1 if they do. README.md says
how the servers are built. The objects and the steps are in discovery_objects.py.
"""
import argparse
import json
import os
import sys
import tempfile
import threading
import time

import discovery_objects as objects
from discovery_compare import compare
from discovery_servers import Cluster, ZooKeeper, call, change, consul, joined

DATA = os.path.join(os.path.dirname(__file__), '../../connectors/tests/data/discovery/recorded')
ALL = [('/api/v1/pods', ()), ('/api/v1/nodes', ()), ('/api/v1/namespaces', ()), ('/apis/apps/v1/replicasets', ()),
       ('/apis/batch/v1/jobs', ()), ('/api/v1/pods', (('labelSelector', 'app=web'), ('fieldSelector', 'status.phase=Running')))]
OF_SHOP = [(f'/api/v1/namespaces/shop/{name}', ()) for name in ('services', 'endpoints', 'pods')] + [
    (objects.SLICES, ()), (objects.INGRESSES, ())]
# Parts of a query that may differ between two calls that are the same otherwise.
FREE = ('timeoutSeconds', 'limit')


class Recorder:
    """Writes down answers, each part of them with the step in which it came."""

    def __init__(self):
        self.step = 0
        self.exchanges = []
        self.lock = threading.Lock()
        self.may_ask = threading.Event()
        self.may_ask.set()
        self.is_over = False

    def begin(self, path, query):
        query = sorted((name, value) for name, value in query if name not in FREE)
        exchange = {'request': joined(path, query), 'status': None, 'headers': {}, 'frames': [], 'ends': None}
        with self.lock:
            self.exchanges.append(exchange)
        return exchange

    def frame(self, exchange, text):
        with self.lock:
            if not self.is_over:
                exchange['frames'].append([self.step, json.loads(text)])

    def end(self, exchange):
        with self.lock:
            if not self.is_over:
                exchange['ends'] = self.step

    def follow(self, function, *arguments):
        threading.Thread(target=function, args=(self, *arguments), daemon=True).start()

    def write(self, name):
        """One exchange a line."""
        with self.lock:
            self.is_over = True
            os.makedirs(DATA, exist_ok=True)
            with open(os.path.join(DATA, name), 'w') as file:
                for exchange in self.exchanges:
                    if exchange['status'] is not None:
                        file.write(json.dumps(needed(exchange), separators=(',', ':')) + '\n')


def needed(value):
    """Without who changed which field of an object, which is half of it, and without an agent's settings."""
    if isinstance(value, list):
        return [needed(part) for part in value]
    if isinstance(value, dict):
        if 'DebugConfig' in value:
            return {'Config': {'Datacenter': value['Config']['Datacenter'], 'Version': value['Config']['Version']}}
        return {name: needed(part) for name, part in value.items() if name != 'managedFields'}
    return value


def watch(recorder, base, path, selectors, version, seconds):
    """A watch to its end. Returns the version to go on from; none: the objects must be listed."""
    query = [('watch', 'true'), ('allowWatchBookmarks', 'true'), ('timeoutSeconds', str(seconds)), *selectors]
    if version:
        query.append(('resourceVersion', version))
    else:
        query += [('sendInitialEvents', 'true'), ('resourceVersionMatch', 'NotOlderThan')]
    answer = call(base + joined(path, query))
    exchange = recorder.begin(path, query)
    exchange['status'] = answer.status
    listing = not version
    try:
        for line in answer:
            recorder.frame(exchange, line)
            event = json.loads(line)
            if event.get('type') == 'ERROR' or answer.status != 200:
                version = None
                continue
            metadata = event['object']['metadata']
            is_end = metadata.get('annotations', {}).get('k8s.io/initial-events-end') == 'true'
            # As the mechanism: the objects of a list are in no order, only its end says the version.
            if not listing or is_end:
                version, listing = metadata['resourceVersion'], False
    except OSError:
        pass
    except Exception as error:  # A connection that was cut.
        print(f'{path}: {error}', file=sys.stderr)
    recorder.end(exchange)
    return version


def follow_watch(recorder, base, path, selectors, first_seconds):
    version, seconds = None, first_seconds
    while not recorder.is_over:
        recorder.may_ask.wait()
        try:
            version = watch(recorder, base, path, selectors, version, seconds)
            seconds = 3600
        except OSError:
            time.sleep(0.2)


def get(recorder, base, path, query):
    """One request with one answer."""
    exchange = recorder.begin(path, query)
    answer = call(base + joined(path, query))
    exchange['status'] = answer.status
    recorder.frame(exchange, answer.read())
    recorder.end(exchange)
    return exchange['frames'][0][1]


def go_through(recorder, base, steps):
    for requests in steps:
        recorder.step += 1
        change(base, requests)
        time.sleep(1.5)


def record_kubernetes(cluster):
    recorder = Recorder()
    change(cluster.base, objects.KUBERNETES[0])
    for path, selectors in ALL + OF_SHOP:
        recorder.follow(follow_watch, cluster.base, path, selectors, 18)
    time.sleep(3)
    go_through(recorder, cluster.base, objects.KUBERNETES[1:])
    # 7: the server ends the watches, and they are opened again.
    recorder.step = 7
    time.sleep(10)
    go_through(recorder, cluster.base, [objects.KUBERNETES_RESUMED])
    # 9: the server is gone for a time, and no longer has the versions from before.
    recorder.may_ask.clear()
    recorder.step = 9
    forget(cluster)
    recorder.may_ask.set()
    time.sleep(5)
    recorder.write('kubernetes.jsonl')


def forget(cluster):
    cluster.api.kill()
    cluster.api.start()
    change(cluster.base, objects.KUBERNETES_FORGOTTEN)
    cluster.compact()
    cluster.api.kill()
    cluster.api.start()


def first_page(recorder, base, path):
    """What the mechanism does at first with a server that cannot begin a watch with a list. Returns the next page's token."""
    watch(recorder, base, path, (), None, 3600)
    return get(recorder, base, path, [('limit', '2')])['metadata']['continue']


def record_pages(cluster):
    """A server that sends lists in pages. Of the pods it forgets the pages half-way; the services are sent to their end."""
    cluster.api.kill()
    # Without the second one, the server keeps the pages in its memory and forgets none.
    cluster.api.start('--feature-gates', 'WatchList=false,ListFromCacheSnapshot=false')
    recorder = Recorder()
    pods, services = '/api/v1/pods', f'{objects.SHOP}/services'
    token = first_page(recorder, cluster.base, services)
    while token:
        page = get(recorder, cluster.base, services, [('limit', '2'), ('continue', token)])
        token = page['metadata'].get('continue')
    recorder.follow(watch, cluster.base, services, (), page['metadata']['resourceVersion'], 3600)
    token = first_page(recorder, cluster.base, pods)
    # A pod of the first page goes, and the versions of the pages with it.
    change(cluster.base, objects.KUBERNETES_BETWEEN_PAGES)
    cluster.compact()
    get(recorder, cluster.base, pods, [('limit', '2'), ('continue', token)])
    whole = get(recorder, cluster.base, pods, [])
    recorder.follow(watch, cluster.base, pods, (), whole['metadata']['resourceVersion'], 3600)
    time.sleep(1)
    go_through(recorder, cluster.base, [objects.KUBERNETES_PAGES])
    recorder.write('kubernetes-pages.jsonl')


# What the calls of a block have in their queries: of the catalog, of all calls, and of the instances.
CONSUL_QUERIES = [
    ((('filter', 'ServiceName != "consul"'),), (), ()),
    ((), (('node-meta', 'env:prod'),), (('tag', 'http'),)),
]


def follow_consul(recorder, base, path, more, each=None, is_wanted=lambda: True):
    """Blocking queries one after the other; `each` is told the answers."""
    index = 0
    while not recorder.is_over:
        recorder.may_ask.wait()
        query = [('wait', '120000ms'), ('stale', ''), *more] + ([('index', str(index))] if index else [])
        exchange = recorder.begin(path, query)
        # It may still be waiting when all is over.
        exchange['status'] = 200
        try:
            answer = call(base + joined(path, query))
            text = answer.read()
        except OSError:
            # The agent is killed while it is asked. Only this is kept of the attempts.
            if recorder.step == 5 and not exchange['frames']:
                exchange['status'] = 0
                recorder.end(exchange)
            else:
                exchange['status'] = None
            if not is_wanted():
                return
            continue
        exchange['status'] = answer.status
        if answer.status == 200:
            index = int(answer.headers['X-Consul-Index'])
            exchange['headers'] = {'x-consul-index': str(index)}
        recorder.frame(exchange, text)
        recorder.end(exchange)
        if each:
            each(json.loads(text))


def follow_catalog(recorder, base, filters, more, tags):
    # The services that are followed. One that goes is asked for until the agent is killed, and one that comes again is
    # asked for anew, without an index.
    followed = {}

    def each(services):
        wanted = [name for name in services if all(tag in services[name] for _, tag in tags)]
        for name in [name for name in followed if name not in wanted]:
            del followed[name]
        for name in wanted:
            if name not in followed:
                mark = followed[name] = object()
                recorder.follow(follow_consul, base, f'/v1/health/service/{name}', more + tags, None,
                                lambda name=name, mark=mark: followed.get(name) is mark)
    follow_consul(recorder, base, '/v1/catalog/services', more + filters, each)


def record_consul(agent, base):
    recorder = Recorder()
    change(base, objects.CONSUL[0])
    time.sleep(1)
    get(recorder, base, '/v1/agent/self', [])
    for queries in CONSUL_QUERIES:
        recorder.follow(follow_catalog, base, *queries)
    time.sleep(2)
    go_through(recorder, base, objects.CONSUL[1:])
    # 5: the agent is killed, and the one that follows has never heard of anything.
    recorder.step = 5
    recorder.may_ask.clear()
    agent.kill()
    time.sleep(1)
    agent.start()
    change(base, objects.CONSUL_AGAIN)
    time.sleep(3)
    recorder.may_ask.set()
    time.sleep(5)
    # 6: queries with the index of the one before end with their wait.
    recorder.step = 6
    time.sleep(140)
    recorder.write('consul.jsonl')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['record', 'compare'])
    for name in ('etcd', 'kube-apiserver', 'consul', 'zookeeper', 'perennial', 'prometheus'):
        parser.add_argument(f'--{name}')
    parser.add_argument('--jobs', help='of compare: the names of some, with commas between them')
    parser.add_argument('--port', type=int, default=16443, help='the first of thirty ports on 127.0.0.1')
    options = parser.parse_args()
    directory = tempfile.mkdtemp(prefix='discovery-')
    programs = []
    cluster = agent = base = zookeeper = None
    try:
        if options.kube_apiserver:
            cluster = Cluster(options.etcd, options.kube_apiserver, directory, options.port)
            programs.append(cluster)
            cluster.start()
        if options.consul:
            agent = consul(options.consul, directory, options.port + 5)
            programs.append(agent)
            agent.start()
            base = f'http://127.0.0.1:{options.port + 5}'
        if options.zookeeper:
            zookeeper = ZooKeeper(options.zookeeper, directory, options.port + 15)
            programs.append(zookeeper)
            zookeeper.start()
        if options.what == 'record':
            if options.kube_apiserver:
                record_kubernetes(cluster)
                record_pages(cluster)
            if options.consul:
                record_consul(agent, base)
            return 0
        return compare(options, directory, cluster, agent, base, zookeeper, forget)
    finally:
        for program in programs:
            program.kill()
        print(f'logs of the servers: {directory}', file=sys.stderr)


if __name__ == '__main__':
    sys.exit(main())
