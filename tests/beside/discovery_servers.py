"""Starts etcd, a Kubernetes API server and Consul on 127.0.0.1 for discovery.py, and sends them requests."""
import json
import os
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

TOKEN = 'ours'
UNVERIFIED = ssl._create_unverified_context()


def call(url, method='GET', body=None, kind='application/json', token=TOKEN, timeout=None):
    """The open answer; of refusals, too."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {'Content-Type': kind, 'Authorization': f'Bearer {token}'}, method=method)
    try:
        return urllib.request.urlopen(request, timeout=timeout, context=UNVERIFIED)
    except urllib.error.HTTPError as refusal:
        return refusal


def change(base, requests):
    """Makes the requests of a step. Each must succeed, but for what exists since an earlier run."""
    for method, path, kind, body in requests:
        answer = call(base + path, method, body, kind, timeout=20)
        text = answer.read().decode()
        if answer.status >= 300:
            raise SystemExit(f'{method} {path}: {answer.status} {text}')


class Program:
    """A server, its output in a file, and how it is started again."""

    def __init__(self, name, command, directory, ready):
        self.name, self.command, self.ready = name, command, ready
        self.log = open(os.path.join(directory, f'{name}.log'), 'ab')
        self.process = None

    def start(self, *more):
        self.process = subprocess.Popen([*self.command, *more], stdout=self.log, stderr=self.log)
        deadline = time.time() + 120
        while True:
            if self.process.poll() is not None or time.time() > deadline:
                raise SystemExit(f'{self.name} does not start: {self.log.name}')
            if self.is_ready():
                return self
            time.sleep(0.2)

    def is_ready(self):
        """Whether a URL answers, or a port (a number) takes connections."""
        try:
            if isinstance(self.ready, int):
                socket.create_connection(('127.0.0.1', self.ready), 2).close()
                return True
            return call(self.ready, timeout=2).status == 200
        except OSError:
            return False

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


class Cluster:
    """etcd and an API server."""

    def __init__(self, etcd, apiserver, directory, port):
        self.directory = directory
        self.base = f'https://localhost:{port}'
        self.etcd_url = f'http://127.0.0.1:{port + 1}'
        key, public = os.path.join(directory, 'sa.key'), os.path.join(directory, 'sa.pub')
        subprocess.run(['openssl', 'genrsa', '-out', key, '2048'], check=True, capture_output=True)
        subprocess.run(['openssl', 'rsa', '-in', key, '-pubout', '-out', public], check=True, capture_output=True)
        tokens = os.path.join(directory, 'tokens.csv')
        with open(tokens, 'w') as file:
            file.write(f'{TOKEN},admin,1,system:masters\n')
        self.etcd = Program('etcd', [
            etcd, '--data-dir', os.path.join(directory, 'etcd'), '--listen-client-urls', self.etcd_url,
            '--advertise-client-urls', self.etcd_url, '--listen-peer-urls', f'http://127.0.0.1:{port + 2}',
            '--initial-advertise-peer-urls', f'http://127.0.0.1:{port + 2}',
            '--initial-cluster', f'default=http://127.0.0.1:{port + 2}', '--unsafe-no-fsync'],
            directory, f'{self.etcd_url}/health')
        self.api = Program('kube-apiserver', [
            apiserver, '--etcd-servers', self.etcd_url, '--secure-port', str(port), '--bind-address', '127.0.0.1',
            '--advertise-address', '192.0.2.1', '--cert-dir', os.path.join(directory, 'certificates'),
            '--token-auth-file', tokens, '--authorization-mode', 'AlwaysAllow', '--service-cluster-ip-range', '10.0.0.0/24',
            '--service-account-issuer', 'https://ours.example', '--service-account-key-file', public,
            '--service-account-signing-key-file', key, '--disable-admission-plugins', 'ServiceAccount'],
            directory, f'{self.base}/readyz')

    @property
    def certificate(self):
        return os.path.join(self.directory, 'certificates', 'apiserver.crt')

    def start(self):
        self.etcd.start()
        self.api.start()

    def compact(self):
        """Forgets all versions before the present one."""
        status = json.load(call(f'{self.etcd_url}/v3/maintenance/status', 'POST', {}))
        call(f'{self.etcd_url}/v3/kv/compaction', 'POST', {'revision': status['header']['revision'], 'physical': True}).read()

    def kill(self):
        self.api.kill()
        self.etcd.kill()


def consul(program, directory, port):
    """A Consul agent that keeps nothing, so that a restart begins anew."""
    ports = [f'-{name}-port={number}' for name, number in [
        ('http', port), ('server', port + 1), ('serf-lan', port + 2), ('serf-wan', port + 3), ('dns', -1),
        ('grpc', -1), ('grpc-tls', -1)]]
    return Program('consul', [program, 'agent', '-dev', '-node', 'ours', '-datacenter', 'east', '-bind', '127.0.0.1',
                              '-client', '127.0.0.1', '-disable-host-node-id', *ports],
                   directory, f'http://127.0.0.1:{port}/v1/catalog/nodes?consistent')


class ZooKeeper:
    """A ZooKeeper of Debian's package: the directory of its scripts is given."""

    def __init__(self, scripts, directory, port):
        self.client, self.address = os.path.join(scripts, 'zkCli.sh'), f'127.0.0.1:{port}'
        config = os.path.join(directory, 'zoo.cfg')
        with open(config, 'w') as file:
            file.write(f'tickTime=500\ndataDir={directory}/zookeeper\nclientPort={port}\nclientPortAddress=127.0.0.1\n'
                       'admin.enableServer=false\n')
        self.program = Program('zookeeper', [os.path.join(scripts, 'zkServer.sh'), 'start-foreground', config], directory,
                               port)

    def start(self):
        self.program.start()

    def kill(self):
        self.program.kill()

    def run(self, commands):
        """Runs commands of its client."""
        lines = ''.join(command + '\n' for command in [*commands, 'quit'])
        subprocess.run([self.client, '-server', self.address], input=lines.encode(), check=True, capture_output=True)


def joined(path, query):
    return f'{path}?{urllib.parse.urlencode(query)}' if query else path
