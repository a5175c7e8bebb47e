#!/usr/bin/env python3
"""Discovery by DNS of two readers that ask the same BIND: every type of record, while the zones change.

    tests/beside/dns.py --perennial … --prometheus …     # needs root, and Debian's bind9 and iproute2

Both read /etc/resolv.conf, which names no port. So the programs run in a network and with a resolv.conf of their own
(`unshare`). Prints the targets of each step and where they differ; ends with 1 if they do.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from discovery_recorded import Reader, show_difference

NAMED = '/usr/sbin/named'
ZONE = """$TTL 1
@ IN SOA ns1.one.test. admin.one.test. {serial} 1 1 60 1
"""
# What the zone one.test holds, by step.
STEPS = {
    'at first': """@ NS ns1
@ NS ns2.elsewhere.test.
@ MX 10 mail
@ MX 20 Backup.Elsewhere.TEST.
ns1 A 127.0.0.1
web A 127.0.1.1
web A 127.0.1.2
web AAAA fd00::1
alias CNAME web
_http._tcp SRV 1 2 8080 a
_http._tcp SRV 2 1 8081 b.elsewhere.test.
child NS ns1.child
child NS ns3
ns1.child A 127.0.0.9
deep.er NS ns1
nsalias CNAME one.test.
""",
    'a name server more, one less': """@ NS ns1
@ NS ns3
ns1 A 127.0.0.1
ns3 A 127.0.0.3
web A 127.0.1.3
web AAAA fd00::2
_http._tcp SRV 1 2 8080 a
child NS ns7
""",
    'a name without records': """@ NS ns1
ns1 A 127.0.0.1
web TXT "no address"
child TXT "no name server"
""",
}
STEPS['the server is killed'] = STEPS['a name without records']
STEPS['the server again'] = STEPS['at first']
# By job: the names, and the other keys of the block.
JOBS = {
    'ns': ('one.test', 'type: NS, port: 53'),
    'ns with a dot': ('one.test.', 'type: NS, port: 53'),
    'ns of a child': ('child.one.test', 'type: NS, port: 9153'),
    'ns by the search list': ('child', 'type: NS, port: 9153'),
    'ns of a name below': ('deep.er.one.test', 'type: NS, port: 1'),
    'ns by an alias': ('nsalias.one.test', 'type: NS, port: 1'),
    'ns of an address': ('web.one.test', 'type: NS, port: 1'),
    'ns of nobody': ('nobody.one.test', 'type: NS, port: 1'),
    'ns of two names': ('one.test, child.one.test', 'type: NS, port: 1'),
    'ns in lower case': ('one.test', 'type: ns, port: 53'),
    'mx': ('one.test', 'type: MX, port: 25'),
    'a': ('web.one.test', 'type: A, port: 9100'),
    'aaaa': ('web.one.test', 'type: AAAA, port: 9100'),
    'a by an alias': ('alias', 'type: A, port: 1'),
    'srv': ('_http._tcp.one.test', 'type: SRV'),
    'srv by default': ('_http._tcp', 'refresh_interval: 1s'),
}


class Bind:
    """named, with the zone one.test."""

    def __init__(self, directory):
        self.directory, self.serial, self.process = directory, 0, None
        with open(f'{directory}/named.conf', 'w') as file:
            file.write(f"""options {{ directory "{directory}"; listen-on {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
  pid-file none; session-keyfile "{directory}/session.key"; recursion no; allow-query {{ any; }}; minimal-responses no; }};
controls {{ }};
zone "one.test" {{ type master; file "zone"; check-names ignore; check-integrity no; }};
""")

    def start(self):
        log = open(f'{self.directory}/named.log', 'ab')
        self.process = subprocess.Popen([NAMED, '-g', '-c', f'{self.directory}/named.conf'], stdout=log, stderr=log)

    def zone(self, records):
        self.serial += 1
        with open(f'{self.directory}/zone', 'w') as file:
            file.write(ZONE.format(serial=self.serial) + records)
        if self.process:
            self.process.send_signal(signal.SIGHUP)

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


def configuration():
    lines = ['global: {scrape_interval: 1h}', 'scrape_configs:']
    for name, (names, keys) in JOBS.items():
        keys = keys if 'refresh_interval' in keys else f'{keys}, refresh_interval: 1s'
        lines.append(f'- {{job_name: {name}, dns_sd_configs: [{{names: [{names}], {keys}}}], '
                     'relabel_configs: [{action: labelmap, regex: __meta_(.+)}]}')
    return '\n'.join(lines) + '\n'


def settle(pair, before):
    """Waits until both have the same, other than before, and it stays so. Returns what they have."""
    deadline, since = time.time() + 20, None
    while time.time() < deadline:
        found = [reader.targets() for reader in pair]
        is_settled = found[0] == found[1] and found[0] != before
        since = (since or time.time()) if is_settled else None
        if since and time.time() - since > 3:
            break
        time.sleep(0.3)
    return found


def compare(pair, bind):
    differs, before = 0, None
    for step, records in STEPS.items():
        if step == 'the server is killed':
            bind.kill()
            before = None
        else:
            bind.zone(records)
            if not bind.process:
                bind.start()
        found = settle(pair, before)
        before = found[0]
        count = [sum(map(len, jobs.values())) for jobs in found]
        failed = [len(reader.failures()) for reader in pair]
        print(f'{step}: {count[0]} and {count[1]} targets; jobs with failed refreshes: {failed[0]} and {failed[1]}')
        print('  ns:', ', '.join(json.loads(target)['__address__'] for target in found[0].get('ns', [])))
        for name in JOBS:
            both = [jobs.get(name, []) for jobs in found]
            if both[0] != both[1]:
                differs += 1
                show_difference(type('Case', (), {'name': f'{step}, {name}'}), both)
    return differs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--perennial', required=True)
    parser.add_argument('--prometheus', required=True)
    parser.add_argument('--inside', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:
        directory = tempfile.mkdtemp(prefix='dns-')
        os.chmod(directory, 0o755)
        with open(f'{directory}/resolv.conf', 'w') as file:
            file.write('nameserver 127.0.0.1\nsearch two.test one.test\n')
        inside = (f'ip link set lo up && mount --bind {directory}/resolv.conf /etc/resolv.conf && '
                  'exec "$0" "$@"')
        return subprocess.call(['unshare', '--net', '--mount', 'sh', '-c', inside, sys.executable, *sys.argv, '--inside', directory])
    directory = options.inside
    with open(f'{directory}/prometheus.yml', 'w') as file:
        file.write(configuration())
    bind = Bind(directory)
    flags = [f'--config.file={directory}/prometheus.yml', '--storage.tsdb.path={place}/data', '--web.listen-address=127.0.0.1:{port}']
    pair = [Reader(name, [program, *flags], directory, {})
            for name, program in (('perennial', options.perennial), ('prometheus', options.prometheus))]
    try:
        return 1 if compare(pair, bind) else 0
    finally:
        bind.kill()
        for reader in pair:
            reader.process.kill()
            reader.process.wait()
        print(f'configuration and logs: {directory}', file=sys.stderr)


if __name__ == '__main__':
    sys.exit(main())
