"""The objects that discovery.py makes in a Kubernetes API server and in Consul, and how it changes them.

All are ours. Each step is what happens between two looks at the targets; `kubernetes.json` and `consul.json` beside the
recordings say what the targets are after each.
"""
MERGE = 'application/merge-patch+json'


def thing(kind, version, name, namespace=None, labels=None, annotations=None, owner=None, **rest):
    metadata = {'name': name, 'labels': labels or {}, 'annotations': annotations or {}}
    if namespace:
        metadata['namespace'] = namespace
    if owner:
        owner_kind, owner_version, owner_name = owner
        metadata['ownerReferences'] = [{'apiVersion': owner_version, 'kind': owner_kind, 'name': owner_name,
                                        'uid': '0b6f3c1e-6a3e-4d3f-9a57-0123456789ab', 'controller': True}]
    return {'kind': kind, 'apiVersion': version, 'metadata': metadata, **rest}


def node(name, address, labels, others=()):
    addresses = [{'type': 'InternalIP', 'address': address}, {'type': 'Hostname', 'address': name}, *others]
    conditions = [{'type': 'Ready', 'status': 'True'}, {'type': 'MemoryPressure', 'status': 'False'}]
    return thing('Node', 'v1', name, labels=labels, annotations={'example.org/rack': 'r-7'},
                 spec={'providerID': f'ours://cell/{name}'},
                 status={'addresses': addresses, 'conditions': conditions,
                         'daemonEndpoints': {'kubeletEndpoint': {'Port': 10250}}})


def port(number, name=None, protocol='TCP'):
    return {'containerPort': number, 'protocol': protocol, **({'name': name} if name else {})}


def running(ip, host, containers, ready='True', phase='Running', init=()):
    def state(name):
        return {'name': name, 'image': 'i', 'imageID': 'i', 'ready': True, 'restartCount': 0,
                'containerID': f'containerd://{name}-1'}
    return {'phase': phase, 'podIP': ip, 'podIPs': [{'ip': ip}], 'hostIP': host,
            'conditions': [{'type': 'Ready', 'status': ready}],
            'containerStatuses': [state(name) for name in containers],
            'initContainerStatuses': [state(name) for name in init]}


WEB = [{'name': 'app', 'image': 'example.org/app:1', 'ports': [port(8080, 'http'), port(9090, 'admin'), port(53, protocol='UDP')]},
       {'name': 'log', 'image': 'example.org/log:2'}]
INIT = [{'name': 'setup', 'image': 'example.org/setup:3'},
        {'name': 'proxy', 'image': 'example.org/proxy:4', 'restartPolicy': 'Always', 'ports': [port(15090, 'envoy')]}]
WEB_SET = ('ReplicaSet', 'apps/v1', 'web-7d4')
SHOP = '/api/v1/namespaces/shop'
TOOLS = '/api/v1/namespaces/tools'
SLICES = '/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices'
INGRESSES = '/apis/networking.k8s.io/v1/namespaces/shop/ingresses'


def web_pod(name, host):
    return thing('Pod', 'v1', name, 'shop', {'app': 'web', 'app.kubernetes.io/part-of': 'shop'},
                 {'prometheus.io/scrape': 'true', 'prometheus.io/port': '8080'}, WEB_SET,
                 spec={'nodeName': host, 'containers': WEB, 'initContainers': INIT})


def plain_pod(name, namespace, container, owner=None):
    return thing('Pod', 'v1', name, namespace, {'app': name}, owner=owner,
                 spec={'nodeName': 'node-1', 'restartPolicy': 'Never', 'containers': [container]})


def template(labels):
    return {'metadata': {'labels': labels}, 'spec': {'restartPolicy': 'Never', 'containers': [{'name': 'c', 'image': 'i'}]}}


def address(pod, ip, **more):
    return {'targetRef': {'kind': 'Pod', 'namespace': 'shop', 'name': pod}, **more, **ip}


def endpoints(ready, not_ready):
    return {'subsets': [{'addresses': ready, 'notReadyAddresses': not_ready,
                         'ports': [{'name': 'http', 'port': 8080, 'protocol': 'TCP'}]}]}


A = address('web-a', {'ip': '10.1.0.1'}, nodeName='node-1', hostname='a')
B = address('web-b', {'ip': '10.1.0.2'}, nodeName='node-2')


def sliced(ready):
    def conditions(value):
        return {'conditions': {'ready': value, 'serving': value, 'terminating': False}}
    return [address('web-a', {'addresses': ['10.1.0.1']}, nodeName='node-1', hostname='a', zone='z1', **conditions(True)),
            address('web-b', {'addresses': ['10.1.0.2']}, nodeName='node-2', **conditions(ready))]


def status_of(pods, name, status):
    return ('PATCH', f'{pods}/{name}/status', MERGE, {'status': status})


def create(path, body):
    return ('POST', path, 'application/json', body)


RULES = [{'host': 'a.shop.example', 'http': {'paths': [
            {'path': path, 'pathType': 'Prefix', 'backend': {'service': {'name': 'web', 'port': {'number': 80}}}}
            for path in ('/', '/admin')]}},
         {'host': 'plain.example'}]

# Each entry is a step: requests, which are made one after the other.
KUBERNETES = [
    [
        create('/api/v1/namespaces', thing('Namespace', 'v1', 'shop', labels={'team': 'checkout'},
                                           annotations={'example.org/mail': 'shop@example.org'})),
        create('/api/v1/namespaces', thing('Namespace', 'v1', 'tools')),
        create('/api/v1/nodes', node('node-1', '192.0.2.11', {'topology.kubernetes.io/zone': 'z1'},
                                     [{'type': 'ExternalIP', 'address': '198.51.100.11'}])),
        create('/api/v1/nodes', node('node-2', '2001:db8::12', {})),
        create('/apis/apps/v1/namespaces/shop/replicasets', thing(
            'ReplicaSet', 'apps/v1', 'web-7d4', 'shop', owner=('Deployment', 'apps/v1', 'web'),
            spec={'selector': {'matchLabels': {'app': 'web'}}, 'template': {
                'metadata': {'labels': {'app': 'web'}}, 'spec': {'containers': [{'name': 'c', 'image': 'i'}]}}})),
        create('/apis/batch/v1/namespaces/tools/jobs', thing(
            'Job', 'batch/v1', 'backup-1', 'tools', owner=('CronJob', 'batch/v1', 'backup'),
            spec={'template': template({'app': 'backup'})})),
        create(f'{SHOP}/pods', web_pod('web-a', 'node-1')),
        status_of(f'{SHOP}/pods', 'web-a', running('10.1.0.1', '192.0.2.11', ['app', 'log'], init=['setup', 'proxy'])),
        # Without an address.
        create(f'{SHOP}/pods', web_pod('web-b', 'node-2')),
        create(f'{TOOLS}/pods', plain_pod('backup-1-x', 'tools', {'name': 'c', 'image': 'i'}, ('Job', 'batch/v1', 'backup-1'))),
        status_of(f'{TOOLS}/pods', 'backup-1-x', running('10.1.0.9', '192.0.2.11', ['c'], 'False', 'Succeeded')),
        create(f'{TOOLS}/pods', plain_pod('six', 'tools', {'name': 'c', 'image': 'i', 'ports': [port(80)]})),
        status_of(f'{TOOLS}/pods', 'six', running('2001:db8:1::5', '192.0.2.11', ['c'])),
        create(f'{SHOP}/services', thing('Service', 'v1', 'web', 'shop', {'app': 'web'}, {'prometheus.io/scrape': 'true'}, spec={
            'clusterIP': '10.0.0.50', 'selector': {'app': 'web'}, 'ports': [
                {'name': 'http', 'port': 80, 'targetPort': 8080}, {'name': 'dns', 'port': 53, 'protocol': 'UDP'}]})),
        create(f'{SHOP}/services', thing('Service', 'v1', 'db', 'shop', spec={'clusterIP': 'None', 'ports': [{'port': 5432}]})),
        create(f'{SHOP}/services', thing('Service', 'v1', 'outside', 'shop', spec={
            'type': 'ExternalName', 'externalName': 'example.org', 'ports': [{'port': 443}]})),
        create(f'{SHOP}/services', thing('Service', 'v1', 'gate', 'shop', spec={
            'type': 'LoadBalancer', 'clusterIP': '10.0.0.51', 'ports': [{'port': 8443}]})),
        ('PATCH', f'{SHOP}/services/gate/status', MERGE, {'status': {'loadBalancer': {
            'ingress': [{'ip': '203.0.113.5'}, {'hostname': 'h'}, {'ip': '203.0.113.6'}]}}}),
        create(f'{SHOP}/endpoints', thing('Endpoints', 'v1', 'web', 'shop', **endpoints([A], [B]))),
        create(SLICES, thing('EndpointSlice', 'discovery.k8s.io/v1', 'web-s1', 'shop', {'kubernetes.io/service-name': 'web'},
                             addressType='IPv4', endpoints=sliced(False), ports=[
                                 {'name': 'http', 'port': 8080, 'protocol': 'TCP', 'appProtocol': 'http'}])),
        create(INGRESSES, thing('Ingress', 'networking.k8s.io/v1', 'web-in', 'shop', {'edge': 'yes'}, spec={
            'ingressClassName': 'nginx', 'tls': [{'hosts': ['*.shop.example']}], 'rules': RULES})),
    ],
    # 1: the pod without an address gets one.
    [status_of(f'{SHOP}/pods', 'web-b', running('10.1.0.2', '2001:db8::12', ['app', 'log'], init=['setup', 'proxy']))],
    # 2: annotations and labels change.
    [
        ('PATCH', f'{SHOP}/pods/web-a', MERGE, {'metadata': {'annotations': {'prometheus.io/port': '9090'}}}),
        ('PATCH', '/api/v1/nodes/node-1', MERGE, {'metadata': {'labels': {'topology.kubernetes.io/zone': 'z9'}}}),
        ('PATCH', '/api/v1/namespaces/shop', MERGE, {'metadata': {'labels': {'team': None, 'tier': 'one'}}}),
        ('PATCH', f'{SHOP}/services/web', MERGE, {'metadata': {'labels': {'version': 'v2'}}}),
    ],
    # 3: the second pod becomes ready.
    [
        ('PATCH', f'{SHOP}/endpoints/web', MERGE, endpoints([A, B], [])),
        ('PATCH', f'{SLICES}/web-s1', MERGE, {'endpoints': sliced(True)}),
    ],
    # 4: its node is lost, and so it leaves the selection of its phase.
    [status_of(f'{SHOP}/pods', 'web-b', {'phase': 'Unknown'})],
    # 5: it is to end, and stays until its node says that it has.
    [('DELETE', f'{SHOP}/pods/web-b', 'application/json', {'gracePeriodSeconds': 30})],
    # 6: it has; and an ingress, a service and a node are deleted.
    [
        ('DELETE', f'{SHOP}/pods/web-b', 'application/json', {'gracePeriodSeconds': 0}),
        ('DELETE', f'{INGRESSES}/web-in', 'application/json', {}),
        ('DELETE', f'{SHOP}/services/db', 'application/json', {}),
        ('DELETE', '/api/v1/nodes/node-2', 'application/json', {}),
    ],
]
# After the server has ended all watches.
KUBERNETES_RESUMED = [
    create(f'{SHOP}/pods', web_pod('web-c', 'node-1')),
    status_of(f'{SHOP}/pods', 'web-c', running('10.1.0.3', '192.0.2.11', ['app', 'log'])),
]
# After the server was started again and has forgotten the versions from before.
KUBERNETES_FORGOTTEN = [
    ('DELETE', f'{SHOP}/pods/web-a', 'application/json', {'gracePeriodSeconds': 0}),
    create(f'{TOOLS}/pods', plain_pod('fresh', 'tools', {'name': 'c', 'image': 'i', 'ports': [port(81)]})),
    status_of(f'{TOOLS}/pods', 'fresh', running('10.1.0.4', '192.0.2.11', ['c'])),
]
# Of a server that sends lists in pages: after the first page, which has this pod, and after the lists.
KUBERNETES_BETWEEN_PAGES = [('DELETE', f'{TOOLS}/pods/backup-1-x', 'application/json', {'gracePeriodSeconds': 0})]
KUBERNETES_PAGES = [
    ('DELETE', f'{TOOLS}/pods/fresh', 'application/json', {'gracePeriodSeconds': 0}),
    ('DELETE', f'{SHOP}/services/outside', 'application/json', {}),
]


def touch(step):
    """Changes what refers to pods: only then Prometheus looks at them again."""
    annotated = {'metadata': {'annotations': {'example.org/step': str(step)}}}
    return [('PATCH', path, MERGE, annotated) for path in (f'{SHOP}/endpoints/web', f'{SLICES}/web-s1')]


def instance(name, number, port, **more):
    return {'ID': f'{name}-{number}', 'Service': name, 'Port': port, **more}


NODE_A = {'Node': 'node-a', 'Address': '192.0.2.21', 'TaggedAddresses': {'lan': '192.0.2.21', 'wan-1': '198.51.100.21'},
          'NodeMeta': {'rack_name': 'r7', 'env': 'prod'}}
NODE_B = {'Node': 'node-b', 'Address': '2001:db8::22', 'NodeMeta': {'env': 'test'}}
WEB_1 = instance('web', 1, 8080, Tags=['http', 'v1'], Meta={'version': '1.0', 'team-name': 'shop'}, Address='10.2.0.1')
WEB_2 = instance('web', 2, 8080, Tags=['http'])


def check(node_name, name, status):
    return {'Node': node_name, 'CheckID': f'service:{name}', 'Name': name, 'ServiceID': name, 'Status': status}


def register(node_of, service, *checks):
    return ('PUT', '/v1/catalog/register', 'application/json', {
        **node_of, 'SkipNodeUpdate': False, 'Service': service, 'Checks': list(checks)})


CONSUL = [
    [
        register(NODE_A, WEB_1, check('node-a', 'web-1', 'passing')),
        register(NODE_A, instance('db', 1, 5432)),
    ],
    # 1: a second instance, on a node of its own.
    [register(NODE_B, WEB_2, check('node-b', 'web-2', 'warning'))],
    # 2: a check fails.
    [register(NODE_A, WEB_1, check('node-a', 'web-1', 'critical'))],
    # 3: a service of another name.
    [register(NODE_A, instance('cache', 1, 6379, Tags=['v1']))],
    # 4: a service goes, and so does an instance.
    [
        ('PUT', '/v1/catalog/deregister', 'application/json', {'Node': 'node-a', 'ServiceID': 'db-1'}),
        ('PUT', '/v1/catalog/deregister', 'application/json', {'Node': 'node-a', 'ServiceID': 'web-1'}),
    ],
]
def member(host, port, status='ALIVE', others=''):
    return (f'{{"serviceEndpoint":{{"host":"{host}","port":{port}}},"additionalEndpoints":{{{others}}},"status":"{status}","shard":3}}')


# Commands of ZooKeeper's client, step by step.
ZOOKEEPER = [
    [
        'create /nerve x', 'create /nerve/web', """create /nerve/web/one '{"host":"10.3.0.1","port":80,"name":"web"}'""",
        'create /nerve/bad no-json', 'create /sets',
        f"""create /sets/a '{member('10.3.1.1', 9000, others='"http-admin":{"host":"10.3.1.2","port":9001}')}'""",
    ],
    # 1: other nodes, and other data.
    [
        """create /nerve/web/two '{"host":"2001:db8::3","port":81,"name":"web"}'""",
        f"""create /sets/b '{member('10.3.1.3', 9000)}'""", f"""set /sets/a '{member('10.3.1.1', 9000, 'STOPPING')}'""",
    ],
    # 2: nodes go, one with what is below it.
    ['deleteall /nerve/web', 'delete /sets/b', """create /nerve/other '{"host":"10.3.0.9","port":82,"name":"o"}'"""],
]
# After the server was killed and has come again.
ZOOKEEPER_AGAIN = ['delete /nerve/other', """create /nerve/late '{"host":"10.3.0.10","port":83,"name":"l"}'"""]

# After a restart that begins with nothing, and so with small indices.
CONSUL_AGAIN = [register(NODE_A, instance('web', 7, 8087, Tags=['http']))]
