// The first page of an agent: what it is, whether its targets are up, and what its remote write does.
import { formatSpan, formatValue } from '../format/numbers';
import { dateTime } from '../format/time';
import { useApi } from '../hooks';
import { now } from '../live';
import { href } from '../router';
import { zone } from '../settings';
import type { Targets } from '../types';
import { Problem, ReadAt } from './common';

interface Reading { value: number | string }
interface Family { name: string; metric: { label: { name: string; value: string }[]; counter?: Reading; gauge?: Reading }[] }

/** What is shown of each receiver: a metric and its name here. Prometheus' counter of samples has those of failed requests, too. */
const SHOWN: [string, string][] = [
  ['prometheus_remote_storage_samples_total', 'Samples in requests, each time they were tried'],
  ['prometheus_remote_storage_samples_retried_total', 'of these in requests that are tried again'],
  ['prometheus_remote_storage_samples_failed_total', 'Samples refused'],
  ['prometheus_remote_storage_samples_pending', 'Samples waiting in memory'],
  ['perennial_remote_storage_queue_behind_records', 'Records of the log still to read'],
  ['prometheus_remote_storage_shards', 'Requests at a time'],
];
const NEWEST = 'prometheus_remote_storage_queue_highest_timestamp_seconds';
const SENT = 'prometheus_remote_storage_queue_highest_sent_timestamp_seconds';
const AGAIN_MS = 5000;
/** A receiver that lacks more than this is said to be behind, seconds. */
const BEHIND_SECONDS = 30;

/** The numbers of each receiver, by its address. */
function receiversOf(families: Family[]): Map<string, Map<string, number>> {
  const receivers = new Map<string, Map<string, number>>();
  for (const family of families) {
    for (const metric of family.metric) {
      const url = metric.label.find((l) => l.name === 'url')?.value ?? '';
      const values = receivers.get(url) ?? new Map<string, number>();
      values.set(family.name, Number((metric.counter ?? metric.gauge)?.value ?? 0));
      receivers.set(url, values);
    }
  }
  return receivers;
}

/** Whether samples arrive, and how late. */
function Arrival({ values }: { values: Map<string, number> }) {
  const sent = values.get(SENT) ?? 0;
  const newest = values.get(NEWEST) ?? 0;
  if (newest === 0) return <span class="dim">◌ nothing to send yet</span>;
  if (sent === 0) return <span class="err">✖ no sample has been accepted since the start</span>;
  const late = Math.max(0, newest - sent);
  if (late > BEHIND_SECONDS) return <span class="warn">▲ {formatSpan(late)} behind: accepted up to {dateTime(sent, zone.value)}</span>;
  return <span class="ok">✔ accepted up to {formatSpan(Math.max(0, now.value - sent))} ago</span>;
}

function TargetCounts() {
  const loaded = useApi<Targets>('targets', { state: 'active' }, { every: AGAIN_MS });
  const all = loaded.data?.activeTargets ?? [];
  const down = all.filter((t) => t.health === 'down').length;
  if (!loaded.data) return <Problem of={loaded} />;
  return (
    <p>
      <a href={href('/targets')} data-page="1">{all.length} {all.length === 1 ? 'target' : 'targets'}</a>{' '}
      {down > 0 ? <a class="err" href={href('/targets?state=down')} data-page="1">✖ {down} down</a> : all.length > 0 && <span class="ok">✔ none is down</span>}
    </p>
  );
}

export function Agent() {
  const wanted = [...SHOWN.map(([name]) => name), NEWEST, SENT];
  const metrics = useApi<Family[]>('status/self_metrics', { metric_name_pattern: wanted.join('|') }, { every: AGAIN_MS });
  const receivers = receiversOf(metrics.data ?? []);
  return (
    <>
      <div class="head"><h1>Agent</h1></div>
      <div class="box">
        <p>This server runs as an agent: it scrapes targets and sends their samples by remote write. Queries, rules and alerts are where the samples go.</p>
        <TargetCounts />
        <p><a href={href('/service-discovery')} data-page="1">Service discovery</a> · <a href={href('/status')} data-page="1">Status</a> · <a href={href('/config')} data-page="1">Configuration</a> · <a href={href('/metrics')}>Metrics</a></p>
      </div>
      <Problem of={metrics} />
      <div class="cards">
        {[...receivers].map(([url, values]) => (
          <section key={url}>
            <h2 class="wrap">{url}</h2>
            <p><Arrival values={values} /></p>
            <dl class="kv">{SHOWN.map(([name, text]) => values.has(name) && [<dt key={`${name}t`}>{text}</dt>, <dd key={name}>{formatValue(values.get(name)!)}</dd>])}</dl>
          </section>
        ))}
      </div>
      {receivers.size > 0 && <p><ReadAt of={metrics} every={AGAIN_MS} /></p>}
      {metrics.data && receivers.size === 0 && <div class="box warn">Nothing is sent: the configuration has no <code>remote_write</code>.</div>}
    </>
  );
}
