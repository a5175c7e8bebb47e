// Status of the server: what runs, its flags, its configuration, the Alertmanagers.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { ApiError } from '../api';
import { changedLines, type ChangedLine } from '../format/lines';
import { formatSpan, formatValue, type Unit } from '../format/numbers';
import { dateTime } from '../format/time';
import { useApi } from '../hooks';
import { now } from '../live';
import { href } from '../router';
import { server, zone } from '../settings';
import { toast } from '../toast';
import type { AlertHistoryData, PendingConfig } from '../types';
import { FindBox, Problem, QueryLink, ReadAt, matches, unix, useSearch } from './common';

interface Runtime {
  startTime: string; CWD: string; hostname: string; serverTime: string; reloadConfigSuccess: boolean; lastConfigTime: string; corruptionCount: number;
  goroutineCount: number; GOMAXPROCS: number; GOMEMLIMIT: number; storageRetention: string;
}

/** A family of `/api/v1/status/self_metrics`: one number, or one for each set of labels. */
interface Family { name: string; metric: { label: { name: string; value: string }[]; gauge?: { value: number | string }; counter?: { value: number | string } }[] }

/** How often numbers of the server itself are asked, ms: no list tells that they changed. */
const AGAIN_MS = 5000;

/** What the server holds: metrics, what they are, and their units. */
const HELD: [string, string, Unit][] = [
  ['process_resident_memory_bytes', 'Memory', 'bytes'], ['prometheus_tsdb_head_series', 'Series in the head', ''], ['prometheus_tsdb_blocks_loaded', 'Blocks', ''],
  ['prometheus_tsdb_storage_blocks_bytes', 'Bytes of blocks', 'bytes'], ['perennial_wal_bytes_total', 'Written to the log', 'bytes'], ['perennial_wal_unsynced_seconds', 'Log not synced for', 'seconds'],
  ['perennial_subscription_buffer_bytes', 'Waiting for subscribers', 'bytes'],
];

function held(families: Family[] | null, name: string, unit: Unit): string {
  const metric = families?.find((f) => f.name === name)?.metric[0];
  return metric ? formatValue(Number((metric.gauge ?? metric.counter)?.value ?? 0), unit, 3) : '…';
}

export function Status() {
  const runtime = useApi<Runtime>('status/runtimeinfo', {}, { topic: 'status', every: 5000 });
  const build = useApi<Record<string, string>>('status/buildinfo');
  const notifications = useApi<{ text: string; date: string; active: boolean }[]>('notifications', {}, { topic: 'notifications', every: 10_000 });
  const memory = useApi<Family[]>('status/self_metrics', { metric_name_pattern: HELD.map(([name]) => name).join('|') }, { every: AGAIN_MS });
  const r = runtime.data;
  const facts: [string, string][] = r ? [
    ['Host', r.hostname], ['Working directory', r.CWD],
    ['Started', `${dateTime(unix(r.startTime), zone.value)} (${formatSpan(now.value - unix(r.startTime))} ago)`],
    ['Configuration loaded', `${dateTime(unix(r.lastConfigTime), zone.value)}, ${r.reloadConfigSuccess ? 'successfully' : 'the last reload failed'}`],
    ['Retention', r.storageRetention], ['Damaged files', String(r.corruptionCount)], ['Threads', String(r.GOMAXPROCS)],
  ] : [];
  return (
    <>
      <div class="head"><h1>Status</h1>{server.lifecycle && <Reload done={runtime.reload} />}</div>
      <Problem of={runtime} />
      {(notifications.data ?? []).filter((n) => n.active).map((n) => <div key={n.text} class="box warn">{n.text} <span class="dim">since {dateTime(unix(n.date), zone.value)}</span></div>)}
      <div class="cards">
        <section>
          <h2>Build</h2>
          <dl class="kv">
            <dt>Perennial</dt><dd>{server.version}</dd>
            {Object.entries(build.data ?? {}).filter(([, v]) => v !== '').map(([k, v]) => [<dt key={`${k}t`}>{k === 'version' ? 'answers as Prometheus' : k}</dt>, <dd key={k}>{v}</dd>])}
          </dl>
        </section>
        <section>
          <h2>Runtime</h2>
          <dl class="kv">{facts.map(([k, v]) => [<dt key={`${k}t`}>{k}</dt>, <dd key={k} class={k === 'Configuration loaded' && !r?.reloadConfigSuccess ? 'err' : ''}>{v}</dd>])}</dl>
        </section>
        <section>
          <h2>Storage and memory</h2>
          <dl class="kv">{HELD.map(([name, text, unit]) => [<dt key={`${name}t`}>{text}</dt>, <dd key={name}><QueryLink expr={name}>{held(memory.data, name, unit)}</QueryLink></dd>])}</dl>
          <p><ReadAt of={memory} every={AGAIN_MS} /></p>
        </section>
        <section>
          <h2>More of it</h2>
          <p><QueryLink expr="process_resident_memory_bytes">Memory</QueryLink> · <QueryLink expr="rate(process_cpu_seconds_total[1m])">CPU</QueryLink> · <QueryLink expr="rate(prometheus_tsdb_head_samples_appended_total[1m])">Samples per second</QueryLink> · <QueryLink expr="prometheus_tsdb_head_series">Series</QueryLink></p>
          <p><a href={href('/flags')} data-page="1">Flags</a> · <a href={href('/config')} data-page="1">Configuration</a> · <a href={href('/tsdb-status')} data-page="1">TSDB</a> · <a href={href('/metrics')}>Metrics</a> · <a href={href('/api')}>API</a></p>
        </section>
      </div>
    </>
  );
}

function Reload({ done }: { done(): void }) {
  const [error, setError] = useState('');
  const reload = async () => {
    try {
      const response = await fetch('-/reload', { method: 'POST' });
      if (!response.ok) throw new ApiError('http', await response.text(), response.status);
      setError('');
      toast('The configuration was loaded');
    } catch (e) {
      setError(e instanceof Error ? e.message : String(e));
    }
    done();
  };
  return <><button type="button" onClick={() => void reload()}>Reload the configuration</button>{error !== '' && <div class="box err" style={{ flexBasis: '100%' }}><pre>{error}</pre></div>}</>;
}

export function Flags() {
  const loaded = useApi<Record<string, string>>('status/flags');
  const [filter] = useSearch();
  const rows = Object.entries(loaded.data ?? {}).filter(([name, value]) => matches(filter, `${name} ${value}`, []));
  return (
    <>
      <div class="head"><h1>Flags</h1><span class="dim">{rows.length}</span><span class="grow" /><FindBox label="Filter flags" /></div>
      <Problem of={loaded} />
      <table>
        <thead><tr><th scope="col">flag</th><th scope="col">value</th></tr></thead>
        <tbody>{rows.map(([name, value]) => <tr key={name}><td class="wrap"><code>--{name}</code></td><td class="wrap"><code>{value}</code></td></tr>)}</tbody>
      </table>
    </>
  );
}

/** How often the files on the disk are read again, ms: they are parsed each time. */
const PENDING_MS = 15_000;

/** What a reload would change. */
function Pending({ of, at }: { of: PendingConfig; at: number }) {
  const lines = useMemo(() => changedLines(of.yaml.split('\n'), of.pending.split('\n')), [of]);
  if (of.error !== '') return <div class="box err" role="alert"><p>The files on the disk cannot be loaded: a reload would fail, and what is in force would stay.</p><pre>{of.error}</pre></div>;
  const groups = (['added', 'changed', 'removed'] as const).filter((kind) => of.ruleGroups[kind].length > 0);
  if (lines.length === 0 && groups.length === 0) return <p class="dim">The files on the disk say the same, <ReadAt of={{ at }} every={PENDING_MS} />.</p>;
  const differing = lines.filter((l) => l.sign !== ' ').length;
  return (
    <>
      <h2 class="warn">On the disk, not in force{differing > 0 ? `: ${differing} ${differing === 1 ? 'line' : 'lines'}` : ''}</h2>
      <p><ReadAt of={{ at }} every={PENDING_MS} /></p>
      {groups.map((kind) => <p key={kind}>Rule groups {kind}: {of.ruleGroups[kind].map((name) => <code key={name} class="wrap">{name.replace(';', ' ')} </code>)}</p>)}
      {lines.length > 0 && <Difference lines={lines} label="What a reload would change" />}
    </>
  );
}

function Difference({ lines, label }: { lines: ChangedLine[]; label: string }) {
  return (
    <div class="box scroll mono" tabIndex={0} role="region" aria-label={label}>
      {lines.map((c, i) => <div key={i} class={c.sign === '+' ? 'ok' : c.sign === '-' ? 'err' : 'dim'} style={{ whiteSpace: 'pre' }}>{c.sign} {c.text}</div>)}
    </div>
  );
}

export function Config() {
  const loaded = useApi<{ yaml: string }>('status/config');
  const [filter] = useSearch();
  const lines = useMemo(() => (loaded.data?.yaml ?? '').split('\n'), [loaded.data]);
  const found = filter === '' ? 0 : lines.filter((l) => l.toLowerCase().includes(filter.toLowerCase())).length;
  const jobs = lines.map((l, i) => ({ i, name: /^\s*- job_name: (.*)$/.exec(l)?.[1] })).filter((j) => j.name);
  // What the server had before the latest reload that this page has seen.
  const [before, setBefore] = useState<string | null>(null);
  const shown = useRef<string | null>(null);
  const runtime = useApi<Runtime>('status/runtimeinfo', {}, { topic: 'status', every: 10_000 });
  const at = runtime.data?.lastConfigTime;
  useEffect(() => {
    if (at !== undefined) loaded.reload();
  }, [at]);
  useEffect(() => {
    const yaml = loaded.data?.yaml;
    if (yaml === undefined) return;
    if (shown.current !== null && shown.current !== yaml) setBefore(shown.current);
    shown.current = yaml;
  }, [loaded.data]);
  const changes = useMemo(() => (before === null ? [] : changedLines(before.split('\n'), lines)), [before, lines]);
  const pending = useApi<PendingConfig>('status/config', { pending: '1' }, { every: PENDING_MS });
  const reload = () => {
    loaded.reload();
    pending.reload();
  };
  useEffect(() => {
    if (at !== undefined) pending.reload();
  }, [at]);
  const copy = () => navigator.clipboard?.writeText(loaded.data?.yaml ?? '').then(() => toast('Copied'), () => undefined);
  return (
    <>
      <div class="head">
        <h1>Configuration</h1>
        {server.lifecycle && <Reload done={reload} />}
        <button type="button" onClick={() => void copy()}>Copy</button>
        <span class="grow" />
        {jobs.length > 1 && (
          <select aria-label="Go to a job" value="" onChange={(e) => document.getElementById(`line-${e.currentTarget.value}`)?.scrollIntoView({ block: 'center' })}>
            <option value="">go to a job</option>
            {jobs.map((j) => <option key={j.i} value={j.i}>{j.name}</option>)}
          </select>
        )}
        {filter !== '' && <span class="dim">{found} lines</span>}
        <FindBox label="Mark lines" />
      </div>
      <Problem of={loaded} />
      {runtime.data && <p class="dim">In force since {dateTime(unix(runtime.data.lastConfigTime), zone.value)}. {runtime.data.reloadConfigSuccess ? '' : <b class="err">The last reload failed: what is on the disk is not in force.</b>}</p>}
      {pending.data && <Pending of={pending.data} at={pending.at} />}
      {changes.length > 0 && (
        <>
          <h2>What the reload changed</h2>
          <Difference lines={changes} label="What the reload changed" />
        </>
      )}
      <div class="box scroll lines mono" tabIndex={0} role="region" aria-label="Configuration">
        {lines.map((line, i) => [
          <span key={`n${i}`} id={`line-${i}`} class="no">{i + 1}</span>,
          <span key={i} style={{ whiteSpace: 'pre', background: filter !== '' && line.toLowerCase().includes(filter.toLowerCase()) ? 'var(--warn-tint)' : '' }}>{line}</span>,
        ])}
      </div>
    </>
  );
}

const SENT: [string, string][] = [
  ['prometheus_notifications_queue_length', 'waiting'], ['prometheus_notifications_sent_total', 'sent'], ['prometheus_notifications_errors_total', 'not delivered'],
  ['prometheus_notifications_dropped_total', 'dropped'],
];
/** Changes of alerts that are looked at for the latest answers. */
const LATEST = 200;

export function Alertmanagers() {
  const loaded = useApi<{ activeAlertmanagers: { url: string }[]; droppedAlertmanagers: { url: string }[] }>('alertmanagers', {}, { topic: 'alertmanagers', every: 10_000 });
  const metrics = useApi<Family[]>('status/self_metrics', { metric_name_pattern: SENT.map(([name]) => name).join('|') }, { every: AGAIN_MS });
  const history = useApi<AlertHistoryData>('alerts/history', { limit: LATEST }, { topic: 'history', every: AGAIN_MS });
  const active = loaded.data?.activeAlertmanagers ?? [];
  const dropped = loaded.data?.droppedAlertmanagers ?? [];
  const count = (url: string, name: string) => {
    const metric = metrics.data?.find((f) => f.name === name)?.metric.find((m) => m.label.some((l) => l.name === 'alertmanager' && l.value === url));
    return metric ? Number((metric.gauge ?? metric.counter)?.value ?? 0) : null;
  };
  // The newest changes come first.
  const answered = (url: string) => (history.data?.transitions ?? []).flatMap((t) => t.sent).filter((s) => s.alertmanager === url).sort((a, b) => b.at - a.at)[0];
  return (
    <>
      <div class="head"><h1>Alertmanagers</h1>{active.length > 0 && <><span class="dim">numbers:</span><ReadAt of={metrics} every={AGAIN_MS} /></>}</div>
      <Problem of={loaded} />
      {loaded.data && active.length + dropped.length === 0 && <div class="box">Alerts are sent nowhere. <code>alerting.alertmanagers</code> in the configuration says where to.</div>}
      {active.map((a) => {
        const last = answered(a.url);
        return (
          <div key={a.url} class="item">
            <div class="line">
              <span class={last && !last.ok ? 'err' : 'ok'}>{last && !last.ok ? '✖ active, but refuses' : '✔ active'}</span><span class="name wrap">{a.url}</span><span class="grow" />
              {SENT.map(([name, text]) => ({ text, n: count(a.url, name) })).filter(({ n }) => n !== null).map(({ text, n }) => <span key={text} class={`num ${text !== 'sent' && n! > 0 ? 'warn' : 'dim'}`}>{text} {n}</span>)}
              {last && <span class={last.ok ? 'dim' : 'err wrap'}>{last.ok ? `accepted ${formatSpan(now.value - last.at)} ago` : `${formatSpan(now.value - last.at)} ago: ${last.error}`}</span>}
            </div>
          </div>
        );
      })}
      {dropped.map((a) => <div key={a.url} class="item"><div class="line"><span class="warn">✖ dropped</span><span class="wrap">{a.url}</span></div></div>)}
      <p><QueryLink expr="rate(prometheus_notifications_sent_total[5m])">Notifications sent</QueryLink> · <QueryLink expr="prometheus_notifications_queue_length">Queue</QueryLink> · <QueryLink expr="increase(prometheus_notifications_errors_total[1h])">Errors of the last hour</QueryLink></p>
    </>
  );
}
