// The first page of an agent: what it is, and what its remote write does.
import { formatValue } from '../format/numbers';
import { useApi } from '../hooks';
import { href } from '../router';
import { Problem } from './common';

interface Reading { value: number }
interface Family { name: string; metric: { label: { name: string; value: string }[]; counter?: Reading; gauge?: Reading }[] }

/** What is shown of each receiver: a metric and its name here. */
const SHOWN: [string, string][] = [
  ['prometheus_remote_storage_samples_total', 'Samples sent'],
  ['prometheus_remote_storage_samples_pending', 'Samples waiting in memory'],
  ['perennial_remote_storage_queue_behind_records', 'Records of the log still to read'],
  ['prometheus_remote_storage_samples_failed_total', 'Samples refused'],
  ['prometheus_remote_storage_shards', 'Requests at a time'],
];

export function Agent() {
  const metrics = useApi<Family[]>('status/self_metrics', { metric_name_pattern: SHOWN.map(([name]) => name).join('|') }, { every: 5000 });
  const receivers = new Map<string, Map<string, string>>();
  for (const family of metrics.data ?? []) {
    const shown = SHOWN.find(([name]) => name === family.name);
    if (!shown) continue;
    for (const metric of family.metric) {
      const url = metric.label.find((l) => l.name === 'url')?.value ?? '';
      const values = receivers.get(url) ?? new Map<string, string>();
      values.set(shown[1], formatValue((metric.counter ?? metric.gauge)?.value ?? 0));
      receivers.set(url, values);
    }
  }
  return (
    <>
      <div class="head"><h1>Agent</h1></div>
      <div class="box">
        <p>This server runs as an agent: it scrapes targets and sends their samples by remote write. Queries, rules and alerts are where the samples go.</p>
        <p><a href={href('/targets')} data-page="1">Targets</a> · <a href={href('/service-discovery')} data-page="1">Service discovery</a> · <a href={href('/status')} data-page="1">Status</a> · <a href={href('/metrics')}>Metrics</a></p>
      </div>
      <Problem of={metrics} />
      <div class="cards">
        {[...receivers].map(([url, values]) => (
          <section key={url}>
            <h2>{url}</h2>
            <dl class="kv">{SHOWN.map(([, name]) => values.has(name) && [<dt key={`${name}t`}>{name}</dt>, <dd key={name}>{values.get(name)}</dd>])}</dl>
          </section>
        ))}
      </div>
      {metrics.data && receivers.size === 0 && <div class="box warn">Nothing is sent: the configuration has no <code>remote_write</code>.</div>}
    </>
  );
}
