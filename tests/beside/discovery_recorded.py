#!/usr/bin/env python3
"""Discovery of two readers from the same recorded servers: of each mechanism that has recordings.

    tests/beside/discovery_recorded.py --perennial … --prometheus …     # a Prometheus 3.14
    tests/beside/discovery_recorded.py --perennial … --prometheus … --failures
    tests/beside/discovery_recorded.py --perennial … --vmagent …

Each case of connectors/tests/data/discovery becomes a job, and the servers that it names are played by
tests/data/discovery_server.py, through a proxy. Prints a table of the mechanisms, and each difference in targets and
labels; ends with 1 if there is one. Needs openssl.
"""
import argparse
import base64
import glob
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from urllib.parse import urlsplit

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, '../../connectors/tests/data/discovery')
sys.path.insert(0, os.path.join(HERE, '../data'))
from discovery_server import serve  # noqa: E402

# Their blocks have no proxy: they are asked through the one of the environment, or by another address.
WITHOUT_PROXY = ('gce', 'ovhcloud')
BY_ADDRESS = ('openstack', 'triton')
SERVICE_ACCOUNT = {'type': 'service_account', 'client_email': 'me@p', 'private_key_id': 'k', 'token_uri': 'https://token/sa'}


def empty(action):
    """An answer of AWS' older APIs without items."""
    return f'<{action}Response><{action}Result></{action}Result></{action}Response>'


# What Prometheus asks besides, and we do not: whether keys are good, and versions.
MORE = {
    'ecs': [{'request': 'POST https://ecs.eu-west-2.amazonaws.com/ DescribeClusters', 'body': {'clusters': []}}],
    'elasticache': [{'request': f'POST https://elasticache.eu-west-2.amazonaws.com/ {action}', 'body': empty(action)}
                    for action in ('DescribeCacheClusters', 'DescribeServerlessCaches')],
    'msk': [{'request': 'GET https://kafka.eu-west-2.amazonaws.com/api/v2/clusters', 'body': {'clusterInfoList': []}},
            {'request': 'GET https://kafka.eu-west-2.amazonaws.com/v1/clusters/serverless/nodes', 'body': {'nodeInfoList': []}}],
    'rds': [{'request': 'POST https://rds.eu-west-2.amazonaws.com/ DescribeDBClusters', 'body': empty('DescribeDBClusters')}],
    'openstack': [{'request': 'GET http://neutron:9696/', 'body': {'versions': [{'id': 'v2.0', 'status': 'CURRENT'}]}}],
}
LOGIN = 'https://login.microsoftonline'
MORE['azure'] = [
    {'request': f'GET {LOGIN}.{end}/{path}', 'body': {
        'authorization_endpoint': f'{LOGIN}.{end}/t/oauth2/v2.0/authorize', 'token_endpoint': f'{LOGIN}.{end}/t/oauth2/v2.0/token',
        'issuer': f'{LOGIN}.{end}/t/v2.0', 'tenant_discovery_endpoint': f'{LOGIN}.{end}/t/v2.0/.well-known/openid-configuration',
        'api-version': '1.1', 'metadata': []}}
    for end in ('com', 'us') for path in ('t/v2.0/.well-known/openid-configuration', 'common/discovery/instance')]
# Fields that are always there, without which Prometheus ends.
ALWAYS = {
    'elasticache': [
        ('<Status>available</Status>', '<Status>available</Status><Engine>redis</Engine><FullEngineVersion>7.1</FullEngineVersion>'
                                       '<MajorEngineVersion>7</MajorEngineVersion>'),
        ('</CacheClusterId>', '</CacheClusterId><CacheClusterStatus>available</CacheClusterStatus>')],
    'msk': [('"clusterType": "SERVERLESS"', '"clusterType": "SERVERLESS", "clusterArn": "serverless"')],
    'azure': [('"access_token": "T"', '"access_token": "T", "expires_in": 3600')],
}
# What says that there is no other page must be missing for Prometheus, and not empty.
LAST = ('<Marker/>', '<Marker></Marker>')
# Labels that 3.14 does not have: those of its manual, and of the version after it.
OURS = re.compile('__meta_elasticache_.*_usage_limit_.*_(maximum|minimum|unit)$|__meta_docker_container_image(_id)?$')
TASK = {'availabilityZone': 'z', 'desiredStatus': 'RUNNING', 'lastStatus': 'RUNNING', 'taskDefinitionArn': 'd', 'group': 'g'}
IONOS = {'name': 'n', 'availabilityZone': 'z', 'cpuFamily': 'c', 'vmState': 'RUNNING', 'type': 'ENTERPRISE'}


# What vmagent asks in other words: the same, without the version of the API or without parameters.
VMAGENT = (('/v1.44/', '/'), ('?alt=json&prettyPrint=false&pageToken', '?pageToken'), ('?alt=json&prettyPrint=false', ''))


def in_other_words(answers):
    """The answers, and those that vmagent asks for by another URL."""
    found = list(answers)
    for answer in answers:
        request = answer['request']
        for ours, theirs in VMAGENT:
            request = request.replace(ours, theirs)
        if request != answer['request']:
            found.append({**answer, 'request': request})
    return found


class Case:
    """A block, and what its servers answer."""

    def __init__(self, mechanism, number, config, answers):
        self.mechanism, self.name = mechanism, f'{mechanism}{number}'
        self.config, self.answers = config, answers + MORE.get(mechanism, [])
        for old, new in ALWAYS.get(mechanism, []) + [(mark, '') for mark in LAST]:
            self.answers = json.loads(json.dumps(self.answers).replace(old, new))
        if mechanism == 'ecs':
            for answer in self.answers:
                for task in isinstance(answer['body'], dict) and answer['body'].get('tasks') or []:
                    task.update({**TASK, **task})
        if mechanism == 'ionos':
            for server in self.answers[0]['body']['items'] or []:
                given = {name: value for name, value in server['properties'].items() if value is not None}
                server['properties'] = {**IONOS, **given}
                server['metadata'] = server.get('metadata') or {'state': 'AVAILABLE'}
                server['id'] = server.get('id') or 'i'

    def hosts(self):
        return {urlsplit(answer['request'].split(' ')[1]) for answer in self.answers}


def of_files(has_targets=True):
    """The recorded cases that have targets, or an error instead."""
    for path in sorted(glob.glob(f'{DATA}/*.json')):
        mechanism = os.path.basename(path).removesuffix('.json')
        text = open(path).read().replace('{key}', f'{DATA}/test-key.pem')
        cases = json.loads(text)
        if isinstance(cases, list):
            for number, case in enumerate(cases):
                if case.get('targets' if has_targets else 'error'):
                    yield Case(mechanism, number, case['config'], case['answers'])


def read(path):
    return json.load(open(f'{DATA}/{path}'))


def of_gce():
    pages = read('gce.json')
    list_url = 'GET https://compute.googleapis.com/compute/v1/projects/p/zones/z/instances?alt=json&prettyPrint=false'
    return [Case('gce', 0, "{project: p, zone: z, port: 9100}", [
        {'request': 'POST https://token/sa', 'body': {'access_token': 'T', 'expires_in': 3600, 'token_type': 'Bearer'}},
        {'request': list_url, 'body': pages['first']},
        {'request': list_url + '&pageToken=next', 'body': pages['second']}])]


def of_docker():
    # Both know version 1.44 of the API.
    ping = {'request': 'HEAD http://d:2375/_ping', 'headers': {'api-version': '1.44'}, 'body': ''}

    def answers(**files):
        return [ping] + [{'request': f'GET http://d:2375/v1.44/{path.replace("_", "/")}', 'body': read(f'moby/{name}.json')}
                         for path, name in files.items()]
    host = "host: 'http://d:2375'"
    for number, more in enumerate(['', ', match_first_network: false', ', port: 8888, host_networking_host: h']):
        yield Case('docker', number, f'{{{host}{more}}}', answers(
            containers_json='dockerprom-containers', networks='dockerprom-networks'))
    yield Case('docker', 3, f'{{{host}}}', answers(containers_json='dockeripv6-containers', networks='dockeripv6-networks'))
    swarm = {name: f'swarm-{name}' for name in ('nodes', 'services', 'tasks', 'networks')}
    for number, role in enumerate(['nodes', 'services', 'tasks']):
        yield Case('dockerswarm', number, f'{{{host}, role: {role}}}', answers(**swarm))


def of_others():
    groups = [{'targets': ['a:1', 'b:2'], 'labels': {'__meta_rack': 'r', 'team': 't'}}, {'targets': ['c:3']}]
    yield Case('http', 0, "{url: 'http://list/targets'}", [{'request': 'GET http://list/targets', 'body': groups}])
    kind = 'type.googleapis.com/kuma.observability.v1.MonitoringAssignment'
    first = {'@type': kind, 'mesh': 'm', 'service': 's', 'labels': {'commit-hash': 'c', 'both': 'service'}, 'targets': [
        {'name': 'p-1', 'scheme': 'http', 'address': '10.1.4.32:9090', 'metricsPath': '/custom',
         'labels': {'node_name': 'host1', 'both': 'target'}},
        {'name': 'p-2', 'scheme': 'https', 'address': '10.1.4.33:9090', 'metrics_path': '/other'}]}
    yield Case('kuma', 0, "{server: 'http://kuma:5676', client_id: me}", [
        {'request': 'POST http://kuma:5676/v3/discovery:monitoringassignments?fetch-timeout=2m', 'body': {
            'versionInfo': '1', 'nonce': '1', 'typeUrl': kind, 'resources': [first]}}])


def element(fields):
    """XML of fields, each with a value of its kind: paths with dots are elements inside one another."""
    tree = {}
    for path in fields:
        *outer, last = path.split('.')
        place = tree
        for name in outer:
            place = place.setdefault(name, {})
        is_time = re.search('(?<!Snapshot)(Time|Date)$', last)
        is_flag = re.search('Enabled$|Requested$|Included$|Accessible$|Protection$|Encrypted$|Upgrade$|Snapshot$|Volume$|Available$|'
                            '^MultiAZ$|^MultiTenant$|^CopyTagsToSnapshot$|^CrossAccountClone$', last)
        place[last] = '2024-01-02T03:04:05Z' if is_time else 'true' if is_flag else '7'

    def text(tree):
        return ''.join(f'<{name}>{value if isinstance(value, str) else text(value)}</{name}>' for name, value in tree.items())
    return text(tree)


def of_all_fields():
    """The databases and caches of AWS with every field of our tables."""
    source = open(f'{HERE}/../../connectors/src/discovery/aws/fields.rs').read()
    tables = {name: re.findall('"([A-Za-z.]+)"\\)', rows)
              for name, rows in re.findall(r'const (\w+): &\[.*?\] = &\[(.*?)\n\];', source, re.S)}
    # A list, and a field that all recorded clusters get.
    for field in ('PendingModifiedValues.CacheNodeIdsToRemove', 'CacheClusterStatus'):
        tables['CACHE_CLUSTER'].remove(field)
    xml = {name: element(dict.fromkeys(fields)) for name, fields in tables.items()}
    keys = '{region: eu-west-2, access_key: AK, secret_key: SK}'

    def answer(service, action, result, words=''):
        body = f'<R><{action}Result>{result}</{action}Result></R>'
        return {'request': f'POST https://{service}.eu-west-2.amazonaws.com/ {action} {words}'.strip(), 'body': body}
    yield Case('rds', 1, keys, [
        answer('rds', 'DescribeDBClusters', f'<DBClusters><DBCluster>{xml["RDS_CLUSTER"]}</DBCluster></DBClusters>'),
        answer('rds', 'DescribeDBInstances', f'<DBInstances><DBInstance>{xml["RDS_INSTANCE"]}</DBInstance></DBInstances>')])
    cluster = f'{xml["CACHE_CLUSTER"]}<CacheNodes><CacheNode>{xml["CACHE_NODE"]}</CacheNode></CacheNodes>'
    yield Case('elasticache', 2, keys, [
        answer('elasticache', 'DescribeServerlessCaches', f'<ServerlessCaches><member>{xml["SERVERLESS_CACHE"]}</member></ServerlessCaches>'),
        answer('elasticache', 'DescribeCacheClusters', f'<CacheClusters><CacheCluster>{cluster}</CacheCluster></CacheClusters>'),
        answer('elasticache', 'ListTagsForResource', '<TagList/>')])


def of_umbrella(cases):
    """The first case of each mechanism of AWS, by aws_sd_configs."""
    roles = ('ec2', 'ecs', 'elasticache', 'lightsail', 'msk', 'rds')
    for case in cases:
        if case.name in [f'{role}0' for role in roles]:
            block = case.config.replace('{', f'{{role: {case.mechanism}, ', 1)
            yield Case('aws', f'_{case.mechanism}', block, case.answers)


def of_oracle_machine():
    """An instance of Oracle's cloud that asks as itself."""
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip('=')
    token = f'{part({"alg": "RS256"})}.{part({"exp": 4102444800})}.x'
    certificate = open(f'{DATA}/oci-instance.pem').read()
    metadata = {'instance/region': 'phx', 'identity/cert.pem': certificate, 'identity/intermediate.pem': certificate,
                'identity/key.pem': open(f'{DATA}/test-key.pem').read()}
    compute = 'GET https://iaas.us-phoenix-1.oraclecloud.com/20160918'
    tenancy = 'ocid1.tenancy.oc1..ten'
    instance = {'id': 'i-1', 'compartmentId': tenancy, 'displayName': 'n', 'lifecycleState': 'RUNNING', 'shape': 's', 'region': 'phx',
                'definedTags': {'ns': {'n': 1.0, 'big': 1e21, 'small': 1.5, 'whole': 7, 'flag': True, 'list': [1]}}}
    yield Case('oci', '_machine', '{region: eu-frankfurt-1, auth: instance_principal}', [
        *({'request': f'GET http://169.254.169.254/opc/v2/{path} oracle', 'body': text}
          for path, text in metadata.items()),
        {'request': f'POST https://auth.us-phoenix-1.oraclecloud.com/v1/x509 keyId="{tenancy}/fed-x509-sha256/', 'body': {'token': token}},
        {'request': f'GET https://identity.us-phoenix-1.oci.oraclecloud.com/20160918/compartments?compartmentId={tenancy} ST$', 'body': []},
        {'request': f'{compute}/instances?compartmentId={tenancy} ST$', 'body': [instance]},
        {'request': f'{compute}/vnicAttachments?instanceId=i-1', 'body': [{
            'vnicId': 'v-1', 'lifecycleState': 'ATTACHED', 'instanceId': 'i-1', 'compartmentId': tenancy}]},
        {'request': f'{compute}/vnics/v-1', 'body': {'id': 'v-1', 'isPrimary': True, 'privateIp': '10.0.0.9', 'ipv6Addresses': []}}])


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def certificates(directory, cases):
    """A certificate for all hosts that are asked over TLS, and its authority."""
    hosts = sorted({host.hostname for case in cases for host in case.hosts() if host.scheme == 'https'})
    with open(f'{directory}/names', 'w') as file:
        file.write('subjectAltName=' + ','.join(f'DNS:{host}' for host in hosts) + '\n')
    key = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
    for command in (f'req {key} -x509 -keyout ca.key -out ca.pem -days 2 -subj /CN=ca',
                    f'req {key} -keyout s.key -out s.csr -subj /CN=s',
                    'x509 -req -in s.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out s.pem -days 2 -extfile names'):
        subprocess.run(['openssl', *command.split(' ')], cwd=directory, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(f'{directory}/s.pem', f'{directory}/s.key')
    return tls


def job(case, tls, directory):
    """Starts the servers of a case; its job."""
    block = case.config.removesuffix('}')
    comma = '' if block == '{' else ', '
    if case.mechanism in BY_ADDRESS:
        port = free_port()
        text = json.dumps([case.answers, block])
        for host in case.hosts():
            text = text.replace(f'{host.scheme}://{host.netloc}', f'http://127.0.0.1:{port}')
        is_tls = case.mechanism == 'triton'
        if is_tls:
            text = text.replace('endpoint: monitor, port: 443', f'endpoint: 127.0.0.1, port: {port}')
        answers, block = json.loads(text)
        if is_tls and 'tls_config' not in block:
            block += ', tls_config: {insecure_skip_verify: true}'
        serve(answers, tls, port, is_tls)
    elif case.mechanism not in WITHOUT_PROXY:
        port = serve(case.answers, tls)
        block += f"{comma}proxy_url: 'http://127.0.0.1:{port}'"
        if 'tls_config' not in block and any(host.scheme == 'https' for host in case.hosts()):
            block += f', tls_config: {{ca_file: {directory}/ca.pem}}'
    # Without the rule, targets whose labels are the same afterwards would be one.
    unique = 'relabel_configs: [{action: labelmap, regex: __meta_(.+)}]'
    return f'- job_name: {case.name}\n  {unique}\n  {case.mechanism}_sd_configs: [{block}}}]\n'


class Reader:
    """A server that discovers."""

    def __init__(self, name, command, directory, variables):
        self.name = name
        self.port = free_port()
        place = f'{directory}/{name}'
        os.makedirs(place)
        log = open(f'{place}/log', 'wb')
        command = [part.format(place=place, port=self.port) for part in command]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **variables})

    def targets(self):
        """By job, the discovered labels of its targets, sorted."""
        try:
            with urllib.request.urlopen(f'http://127.0.0.1:{self.port}/api/v1/targets', timeout=10) as answer:
                data = json.load(answer)['data']
        except OSError as error:
            if self.process.poll() is not None:
                raise SystemExit(f'{self.name} has ended: {error}')
            return {}
        jobs = {}
        for target in data['activeTargets'] + data['droppedTargets']:
            labels = target['discoveredLabels']
            own = {name: value for name, value in labels.items()
                   if value and not OURS.match(name) and (name.startswith('__meta_') or not name.startswith('__') and name != 'job'
                                 or name in ('__address__', '__scheme__', '__metrics_path__'))}
            jobs.setdefault(labels['job'], []).append(json.dumps(own, sort_keys=True))
        return {name: sorted(set(targets)) for name, targets in jobs.items()}

    def failures(self):
        """By job, whether refreshes have failed. Some mechanisms of AWS have no job there: by mechanism."""
        try:
            with urllib.request.urlopen(f'http://127.0.0.1:{self.port}/metrics', timeout=10) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return set()
        lines = [line for line in lines if line.startswith('prometheus_sd_refresh_failures_total{')]
        names = [re.search('config="(.*?)"', line)[1] or re.search('mechanism="(.*?)"', line)[1] for line in lines]
        return {name for name, line in zip(names, lines) if float(line.split(' ')[-1]) > 0}


def readers(options, directory, variables):
    config = f'{directory}/prometheus.yml'
    flags = [f'--config.file={config}', '--storage.tsdb.path={place}/data', '--web.listen-address=127.0.0.1:{port}']
    all_readers = [Reader('perennial', [options.perennial, *flags], directory, variables)]
    if options.prometheus:
        all_readers.append(Reader('prometheus', [options.prometheus, *flags], directory, variables))
    if options.vmagent:
        all_readers.append(Reader('vmagent', [
            options.vmagent, f'-promscrape.config={config}', '-httpListenAddr=127.0.0.1:{port}', '-promscrape.config.strictParse=false',
            '-remoteWrite.url=http://127.0.0.1:1/', '-remoteWrite.tmpDataPath={place}/data', '-promscrape.dropOriginalLabels=false'],
            directory, variables))
    return all_readers


def show_difference(case, found):
    ours, theirs = found
    for name, some, other in (('ours', ours, theirs), ('theirs', theirs, ours)):
        for target in some:
            if target not in other:
                print(f'  {case.name}, only {name}: {target}')


def compare(cases, pair, patience):
    """Waits until both have the same. Returns the names of the cases that differ."""
    deadline = time.time() + patience
    while True:
        ours, theirs = (reader.targets() for reader in pair)
        differ = [case for case in cases if not ours.get(case.name) or ours.get(case.name) != theirs.get(case.name)]
        if not differ or time.time() > deadline:
            break
        time.sleep(1)
    print('| mechanism | cases | targets | labels | |\n|---|---|---|---|---|')
    for mechanism in dict.fromkeys(case.mechanism for case in cases):
        own = [case for case in cases if case.mechanism == mechanism]
        targets = [json.loads(target) for case in own for target in ours.get(case.name, [])]
        bad = [case.name for case in own if case in differ]
        verdict = 'equal' if not bad else 'DIFFERENT: ' + ', '.join(bad)
        print(f'| {mechanism} | {len(own)} | {len(targets)} | {sum(map(len, targets))} | {verdict} |')
    for case in differ:
        show_difference(case, [ours.get(case.name, []), theirs.get(case.name, [])])
    return differ


def compare_failures(cases, pair, patience):
    """Each case is a refresh that fails. Returns the names of those that do in one only."""
    deadline = time.time() + patience
    while True:
        both = [reader.failures() for reader in pair]
        differ = [case.name for case in cases
                  if any(case.name not in failed and case.mechanism not in failed for failed in both)]
        if not differ or time.time() > deadline:
            break
        time.sleep(1)
    print(f'{len(cases)} refreshes; of these have not failed in one: {differ}')
    return differ


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--perennial', required=True)
    parser.add_argument('--prometheus')
    parser.add_argument('--vmagent')
    parser.add_argument('--without', default='', help='mechanisms that the other does not have, with commas between them')
    parser.add_argument('--failures', action='store_true', help='the cases that are errors: both count them')
    parser.add_argument('--only', default='', help='some mechanisms')
    parser.add_argument('--patience', type=int, default=200, help='seconds')
    options = parser.parse_args()
    directory = tempfile.mkdtemp(prefix='discovery-')
    if options.failures:
        cases = [*of_files(False)]
    else:
        cases = [*of_files(), *of_gce(), *of_docker(), *of_others(), *of_all_fields(), *of_oracle_machine()]
    cases += of_umbrella(cases)
    cases = [case for case in cases if case.mechanism not in options.without.split(',')]
    if options.only:
        cases = [case for case in cases if case.mechanism in options.only.split(',')]
    if options.vmagent:
        for case in cases:
            case.answers = in_other_words(case.answers)
    tls = certificates(directory, cases)
    jobs = [job(case, tls, directory) for case in cases]
    with open(f'{directory}/prometheus.yml', 'w') as file:
        file.write('global: {scrape_interval: 1h}\nscrape_configs:\n' + ''.join(jobs))
    account = f'{directory}/account.json'
    with open(account, 'w') as file:
        json.dump({**SERVICE_ACCOUNT, 'private_key': open(f'{DATA}/test-key.pem').read()}, file)
    # Azure's tokens are got without the options of the block, too.
    shared = [answer for case in cases if case.mechanism in (*WITHOUT_PROXY, 'azure') for answer in case.answers]
    proxy = f'http://127.0.0.1:{serve(shared, tls)}'
    variables = {'HTTPS_PROXY': proxy, 'HTTP_PROXY': proxy, 'SSL_CERT_FILE': f'{directory}/ca.pem',
                 'GOOGLE_APPLICATION_CREDENTIALS': account}
    # It makes every discovery of AWS fail in Prometheus.
    os.environ.pop('AWS_CA_BUNDLE', None)
    pair = readers(options, directory, variables)
    try:
        judge = compare_failures if options.failures else compare
        return 1 if judge(cases, pair, options.patience) else 0
    finally:
        for reader in pair:
            reader.process.kill()
            reader.process.wait()
        print(f'configuration and logs: {directory}', file=sys.stderr)


if __name__ == '__main__':
    sys.exit(main())
