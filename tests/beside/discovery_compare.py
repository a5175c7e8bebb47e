"""Has Perennial and Prometheus discover on the same servers for discovery.py, and prints where they differ."""
import json
import os
import subprocess
import time
import urllib.request

import discovery_objects as objects
from discovery_servers import TOKEN, change

# By name: a block of kubernetes_sd_configs. {} is how the server is reached.
KUBERNETES_JOBS = {
    'node': 'role: node',
    'pod': 'role: pod, attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}',
    'pod of old': 'role: pod, attach_metadata: {node: true}',
    'selected': "role: pod, selectors: [{role: pod, label: 'app=web', field: 'status.phase=Running'}]",
    'two namespaces': 'role: pod, namespaces: {names: [tools, shop]}',
    'service': 'role: service, attach_metadata: {namespace: true}',
    'service of old': 'role: service',
    'endpoints': 'role: endpoints, attach_metadata: {node: true}',
    'endpointslice': 'role: endpointslice, attach_metadata: {node: true}',
    'ingress': 'role: ingress',
}
CONSUL_JOBS = {
    'consul': '',
    'consul filter': """, filter: 'ServiceName != "consul"'""",
    'consul tags': ', tags: [http], node_meta: {env: prod}',
    'consul services': ', services: [web, cache], allow_stale: false',
    'consul healthy': ', health_filter: "Checks.Status != critical"',
}


ZOOKEEPER_JOBS = {'nerve': '/nerve', 'serverset': '/sets'}


def configuration(cluster, agent_url, zookeeper, jobs):
    lines = ['global: {scrape_interval: 1h}', 'scrape_configs:']
    # Without it targets whose labels are the same afterwards would be one, with the labels of the first or the last.
    unique = 'relabel_configs: [{action: labelmap, regex: __meta_(.+)}]'
    access = ''
    if cluster:
        access = (f'api_server: {cluster.base}, authorization: {{credentials: {TOKEN}}}, '
                  f'tls_config: {{ca_file: {cluster.certificate}, server_name: kubernetes.default.svc}}')
    for name in jobs:
        if name in KUBERNETES_JOBS:
            lines.append(f'- {{job_name: {name}, kubernetes_sd_configs: [{{{KUBERNETES_JOBS[name]}, {access}}}], {unique}}}')
        elif name in ZOOKEEPER_JOBS:
            lines.append(f"- {{job_name: {name}, {name}_sd_configs: [{{servers: ['{zookeeper.address}'], paths: [{ZOOKEEPER_JOBS[name]}]}}], {unique}}}")
        else:
            server = agent_url.removeprefix('http://')
            lines.append(f"- {{job_name: {name}, consul_sd_configs: [{{server: '{server}'{CONSUL_JOBS[name]}}}], {unique}}}")
    return '\n'.join(lines) + '\n'


# What Prometheus 3.14 does not have: the addresses of a load balancer in its status.
OURS = ('__meta_kubernetes_service_loadbalancer_ip',)


class Reader:
    """A server that discovers."""

    def __init__(self, name, program, directory, port, text):
        self.name, self.url = name, f'http://127.0.0.1:{port}'
        place = os.path.join(directory, name)
        os.makedirs(place)
        self.config = os.path.join(place, 'prometheus.yml')
        with open(self.config, 'w') as file:
            file.write(text)
        log = open(os.path.join(place, 'log'), 'wb')
        self.process = subprocess.Popen(
            [program, f'--config.file={self.config}', f'--storage.tsdb.path={place}/data',
             f'--web.listen-address=127.0.0.1:{port}'], stdout=log, stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def targets(self):
        """By job, the discovered labels of its targets, sorted."""
        try:
            with urllib.request.urlopen(f'{self.url}/api/v1/targets', timeout=5) as answer:
                data = json.load(answer)['data']
        except OSError:
            return {}
        jobs = {}
        for target in data['activeTargets'] + data['droppedTargets']:
            labels = target['discoveredLabels']
            meta = {name: value for name, value in labels.items()
                    if value and name not in OURS
                    and (name.startswith('__meta_') or name in ('__address__', 'instance'))}
            jobs.setdefault(labels['job'], []).append(json.dumps(meta, sort_keys=True))
        return {job: sorted(set(targets)) for job, targets in jobs.items()}


def settled(readers, patience):
    """What each has when both have the same, or after some time."""
    deadline = time.time() + patience
    while True:
        found = [reader.targets() for reader in readers]
        if found[0] == found[1] or time.time() > deadline:
            return found
        time.sleep(0.5)


def compare_step(place, readers, jobs, patience=25, must_have=False):
    # A change takes a moment, and both may still agree on what was before it.
    time.sleep(8)
    found = settled(readers, patience)
    different = 0
    for job in jobs:
        ours, theirs = (each.get(job, []) for each in found)
        labels = sum(len(json.loads(target)) for target in ours)
        # At the start each job has some, or its server is not reached by either.
        if ours == theirs and (ours or not must_have):
            print(f'{place}, {job}: {len(ours)} targets with {labels} labels are equal', flush=True)
            continue
        different += 1
        print(f'{place}, {job}: DIFFERENT', flush=True)
        for reader, some, other in ((readers[0], ours, theirs), (readers[1], theirs, ours)):
            for target in some:
                if target not in other:
                    print(f'  only {reader.name}: {target}', flush=True)
    return different


def compare(options, directory, cluster, agent, agent_url, zookeeper, forget):
    jobs = (list(KUBERNETES_JOBS) if cluster else []) + (list(CONSUL_JOBS) if agent else [])
    jobs += list(ZOOKEEPER_JOBS) if zookeeper else []
    if options.jobs:
        jobs = [job for job in jobs if job in options.jobs.split(',')]
    text = configuration(cluster, agent_url, zookeeper, jobs)
    if zookeeper:
        # A path that does not exist is an error of both.
        zookeeper.run(objects.ZOOKEEPER[0])
    readers = [Reader('perennial', options.perennial, directory, options.port + 20, text),
               Reader('prometheus', options.prometheus, directory, options.port + 21, text)]
    different = 0
    try:
        kubernetes = objects.KUBERNETES + [objects.KUBERNETES_RESUMED] if cluster else []
        consul_steps = objects.CONSUL if agent else []
        zookeeper_steps = objects.ZOOKEEPER if zookeeper else []
        for step in range(max(len(kubernetes), len(consul_steps), len(zookeeper_steps))):
            if 0 < step < len(zookeeper_steps):
                zookeeper.run(zookeeper_steps[step])
            if step < len(kubernetes):
                change(cluster.base, kubernetes[step])
                time.sleep(1)
                change(cluster.base, objects.touch(step))
            if step < len(consul_steps):
                change(agent_url, consul_steps[step])
            different += compare_step(f'step {step}', readers, jobs, must_have=step == 0)
        if cluster:
            forget(cluster)
            change(cluster.base, objects.touch('again'))
        if agent:
            agent.kill()
            agent.start()
            change(agent_url, objects.CONSUL_AGAIN)
        if zookeeper:
            zookeeper.kill()
            zookeeper.start()
            zookeeper.run(objects.ZOOKEEPER_AGAIN)
        different += compare_step('after the restart', readers, jobs, 180)
    finally:
        for reader in readers:
            reader.kill()
    print(f'{different} comparisons differ')
    return 1 if different else 0
