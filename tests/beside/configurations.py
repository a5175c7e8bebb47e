#!/usr/bin/env python3
"""Public configurations: what a Prometheus loads, Perennial loads, and its jobs discover.

    tests/beside/configurations.py --perennial … --prometheus … REPOSITORY…

Takes the configurations in git repositories (also bare ones): YAML files with scrape_configs, and texts with them inside
of other YAML, such as ConfigMaps. Each is loaded by both with /-/reload. Prints which of those that Prometheus accepts
Perennial refuses, or loads with other jobs or with other failures to start a discovery; ends with 1 if there is one.
Needs PyYAML. Discovered servers should not be reachable.
"""
import argparse
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter

import yaml

KEY = 'scrape_configs'


def git(repository, *arguments):
    return subprocess.run(['git', '-C', repository, *arguments], check=True, capture_output=True).stdout.decode(errors='replace')


def texts(value):
    """All texts in a YAML value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)


def documents(text):
    try:
        return list(yaml.safe_load_all(text))
    except yaml.YAMLError:
        return []


def configurations(text):
    """The configurations in a file: itself, or those in its texts."""
    whole = documents(text)
    if any(isinstance(document, dict) and KEY in document for document in whole):
        yield text
        return
    for document in whole:
        for inner in texts(document):
            if f'{KEY}:' in inner and any(isinstance(part, dict) and KEY in part for part in documents(inner)):
                yield inner


def of_repositories(repositories):
    """Name and text of each configuration, each text once."""
    seen = set()
    for repository in repositories:
        name = os.path.basename(os.path.dirname(os.path.abspath(repository)))
        found = subprocess.run(['git', '-C', repository, 'grep', '-lE', f'{KEY}:', 'HEAD', '--', '*.yml', '*.yaml'],
                               capture_output=True).stdout.decode(errors='replace').splitlines()
        for line in found:
            path = line.removeprefix('HEAD:')
            for number, text in enumerate(configurations(git(repository, 'show', f'HEAD:{path}'))):
                digest = hashlib.sha256(text.encode()).digest()
                if digest not in seen:
                    seen.add(digest)
                    yield f'{name}/{path}#{number}', text


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


class Reader:
    """A server that loads configurations."""

    def __init__(self, name, program, directory):
        place = f'{directory}/{name}'
        os.makedirs(place)
        self.name, self.config, self.port = name, f'{place}/prometheus.yml', free_port()
        self.command = [program, f'--config.file={self.config}', f'--storage.tsdb.path={place}/data', '--web.enable-lifecycle',
                        f'--web.listen-address=127.0.0.1:{self.port}']
        self.log = open(f'{place}/log', 'ab')
        self.start()

    def start(self):
        with open(self.config, 'w') as file:
            file.write('{}\n')
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)
        for _ in range(300):
            if self.get('/-/ready') is not None:
                return
            time.sleep(0.1)
        raise SystemExit(f'{self.name} does not start: {self.log.name}')

    def kill(self):
        self.process.kill()
        self.process.wait()

    def get(self, path):
        try:
            with urllib.request.urlopen(f'http://127.0.0.1:{self.port}{path}', timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            return None

    def load(self, text):
        """None, or the error."""
        with open(self.config, 'w') as file:
            file.write(text)
        request = urllib.request.Request(f'http://127.0.0.1:{self.port}/-/reload', method='POST')
        try:
            urllib.request.urlopen(request, timeout=60).read()
            return None
        except urllib.error.HTTPError as error:
            return error.read().decode().strip()
        except OSError as error:
            # It has ended.
            self.kill()
            self.start()
            return f'ended: {error}'

    def state(self):
        """Its jobs, and how many entries could not be started."""
        jobs = json.loads(self.get('/api/v1/scrape_pools') or '{"data": {}}')['data'].get('scrapePools')
        failed = [line for line in (self.get('/metrics') or '').splitlines() if line.startswith('prometheus_sd_failed_configs')]
        return set(jobs or []), sorted(line.replace('.0', '') for line in failed)


def jobs_of(text):
    """The jobs of a configuration."""
    first = next(document for document in documents(text) if isinstance(document, dict))
    return first.get(KEY) or []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--perennial', required=True)
    parser.add_argument('--prometheus', required=True)
    parser.add_argument('repositories', nargs='+')
    options = parser.parse_args()
    directory = tempfile.mkdtemp(prefix='configurations-')
    ours, theirs = Reader('perennial', options.perennial, directory), Reader('prometheus', options.prometheus, directory)
    results, blocks = Counter(), Counter()
    try:
        for name, text in of_repositories(options.repositories):
            if theirs.load(text) is not None:
                results['refused by Prometheus'] += 1
                continue
            results['accepted by Prometheus'] += 1
            jobs = jobs_of(text)
            blocks.update(key for job in jobs for key in job if key.endswith('_sd_configs'))
            error = ours.load(text)
            if error is not None:
                results['refused here'] += 1
                print(f'{name}: REFUSED: {error[:400]}', flush=True)
                continue
            # Prometheus has a job only after its first targets.
            pools, failed = ours.state()
            missing = {job['job_name'] for job in jobs} - pools
            if missing or failed != theirs.state()[1]:
                results['other jobs or failures'] += 1
                print(f'{name}: OTHER: without {missing}, {failed} {theirs.state()[1]}'[:600], flush=True)
    finally:
        for reader in (ours, theirs):
            reader.kill()
        print(f'logs: {directory}', file=sys.stderr)
    print(dict(results))
    print('jobs with', dict(blocks.most_common()))
    return 1 if results['refused here'] or results['other jobs or failures'] else 0


if __name__ == '__main__':
    sys.exit(main())
