// Queries: which run, with a way to stop one; what the recent ones took; and which of those that stand cost most.
import { useEffect, useRef, useState } from 'preact/hooks';
import { call } from '../api';
import { formatSpan, formatValue } from '../format/numbers';
import { clockTime } from '../format/time';
import { useApi } from '../hooks';
import { now, paused } from '../live';
import { href } from '../router';
import { server, zone } from '../settings';
import { DataTable, type Column } from '../table';
import type { ActiveQuery, QueryList, TopQuery, View, Views } from '../types';
import { Problem, QueryLink, ReadAt } from './common';

/** A family of `/api/v1/status/self_metrics`. */
interface Family {
  name: string;
  metric: { label: { name: string; value: string }[]; gauge?: Value; counter?: Value; summary?: { sampleCount: string; sampleSum: number | string; quantile: { quantile: number; value: number | string }[] } }[];
}
interface Value { value: number | string }

const PATTERN = 'prometheus_engine_.*|perennial_subscri.*|perennial_query_.*';
const AGAIN_MS = 2000;

function valueOf(families: Family[], name: string): number {
  const first = families.find((f) => f.name === name)?.metric[0];
  return Number(first?.gauge?.value ?? first?.counter?.value ?? NaN);
}

/** Growth a second between the first answer and this one. */
function useRate(value: number): number {
  const first = useRef<{ value: number; t: number } | null>(null);
  if (Number.isFinite(value) && first.current === null) first.current = { value, t: now.peek() };
  const seconds = now.value - (first.current?.t ?? now.value);
  return seconds < 1 ? NaN : (value - first.current!.value) / seconds;
}

interface Cost { view: View; perMinute: number }

const COLUMNS: Column<Cost>[] = [
  { name: 'view', class: 'wrap', text: ({ view }) => view.name || view.plan, cell: ({ view }) => <a class="wrap" href={href(`/views/${view.id}`)} data-page="1">{view.name || view.plan.split('\n')[0]}</a> },
  { name: 'kind', class: 'narrow-hide', text: ({ view }) => (view.standing ? view.kind : 'scheduled') },
  { name: 'CPU a minute', title: 'since this page was opened', numeric: true, sort: (c) => c.perMinute, text: (c) => String(c.perMinute), cell: (c) => formatValue(c.perMinute, 'seconds', 3) },
  { name: 'CPU', title: 'since it was installed', numeric: true, sort: ({ view }) => view.cpuSeconds ?? 0, text: ({ view }) => String(view.cpuSeconds ?? ''), cell: ({ view }) => formatValue(view.cpuSeconds ?? 0, 'seconds', 3) },
  { name: 'rows', numeric: true, class: 'narrow-hide', sort: ({ view }) => view.rows, text: ({ view }) => String(view.rows) },
  { name: 'readers', numeric: true, class: 'narrow-hide', sort: ({ view }) => view.taps, text: ({ view }) => String(view.taps) },
];

const TOP = 20;

function useCosts(views: View[]): Cost[] {
  const first = useRef(new Map<string, { cpu: number; t: number }>());
  const [costs, setCosts] = useState<Cost[]>([]);
  useEffect(() => {
    const t = now.peek();
    setCosts(views.map((view) => {
      const cpu = view.cpuSeconds ?? 0;
      const before = first.current.get(view.id) ?? { cpu, t };
      first.current.set(view.id, before);
      return { view, perMinute: t - before.t < 1 ? 0 : (60 * (cpu - before.cpu)) / (t - before.t) };
    }).sort((a, b) => b.perMinute - a.perMinute || (b.view.cpuSeconds ?? 0) - (a.view.cpuSeconds ?? 0)).slice(0, TOP));
  }, [views]);
  return costs;
}

const SLICES: Record<string, string> = { inner_eval: 'evaluating', prepare_time: 'parsing and planning', queue_time: 'waiting for a turn', result_sort: 'sorting' };
const NONE: View[] = [];

const KINDS: Record<string, string> = { instant: 'instant', range: 'range', sql: 'SQL', rule_test: 'test of a rule' };

/** A query that runs, with a button that stops it. */
function Active({ query, again }: { query: ActiveQuery; again(): void }) {
  const [asked, setAsked] = useState(false);
  const [error, setError] = useState('');
  const stop = async () => {
    setAsked(false);
    try {
      await call(`status/queries/${query.id}`, {}, undefined, 'DELETE');
    } catch (e) {
      setError(e instanceof Error ? e.message : String(e));
    }
    again();
  };
  const share = query.limitSamples > 0 ? Math.round((100 * query.samples) / query.limitSamples) : 0;
  return (
    <tr>
      <td class="num">{formatSpan(query.elapsedSeconds)}</td>
      <td>{KINDS[query.kind] ?? query.kind}</td>
      <td class="num" title={`${query.limitSamples} samples may be in memory`}>{formatValue(query.samples, '', 3)}{share > 0 ? ` (${share} %)` : ''}</td>
      <td>{query.client}</td>
      <td class="wrap"><QueryLink expr={query.query}><code class="wrap">{query.query}</code></QueryLink>{error !== '' && <div class="err" role="alert">{error}</div>}</td>
      <td>
        {query.state === 'stopping' && <span class="warn">stops</span>}
        {query.state !== 'stopping' && !asked && <button type="button" disabled={!server.admin} title={server.admin ? 'Stop this query' : 'needs --web.enable-admin-api'} onClick={() => setAsked(true)}>Stop…</button>}
        {query.state !== 'stopping' && asked && <><button type="button" class="main" onClick={() => void stop()}>Stop it</button> <button type="button" onClick={() => setAsked(false)}>Keep it</button></>}
      </td>
    </tr>
  );
}

const TOP_COLUMNS: Column<TopQuery>[] = [
  { name: 'query', class: 'wrap', text: (q) => q.query, cell: (q) => <><QueryLink expr={q.query}><code class="wrap">{q.query}</code></QueryLink>{q.lastError !== '' && <div class="err wrap">{q.lastError}</div>}</> },
  { name: 'all', title: 'all together', numeric: true, sort: (q) => q.seconds, text: (q) => String(q.seconds), cell: (q) => formatValue(q.seconds, 'seconds', 3) },
  { name: 'times', numeric: true, sort: (q) => q.count, text: (q) => String(q.count) },
  { name: 'longest', numeric: true, sort: (q) => q.maxSeconds, text: (q) => String(q.maxSeconds), cell: (q) => formatValue(q.maxSeconds, 'seconds', 3) },
  { name: 'samples', numeric: true, class: 'narrow-hide', sort: (q) => q.samples, text: (q) => String(q.samples), cell: (q) => formatValue(q.samples, '', 3) },
  { name: 'last', class: 'narrow-hide', sort: (q) => q.lastAt, text: (q) => String(q.lastAt), cell: (q) => clockTime(q.lastAt, zone.value) },
];

/** What runs, and what the recent ones took. */
function Running() {
  const loaded = useApi<QueryList>('status/queries', { window: '1h', limit: TOP }, { topic: 'queries', every: AGAIN_MS });
  const active = loaded.data?.active ?? [];
  const runs = active.length > 0;
  useEffect(() => {
    // What a query has read so far is no change of the list.
    const timer = runs ? setInterval(() => !document.hidden && !paused.value && loaded.reload(), AGAIN_MS) : undefined;
    return () => clearInterval(timer);
  }, [runs]);
  const top = loaded.data?.top ?? [];
  return (
    <>
      <h2>Active <span class="badge">{active.length}</span></h2>
      <Problem of={loaded} />
      {loaded.data && active.length === 0 && <p class="dim">No query runs now.</p>}
      {active.length > 0 && (
        <table class="stacked">
          <thead><tr><th scope="col" class="num">for</th><th scope="col">kind</th><th scope="col" class="num">samples</th><th scope="col">client</th><th scope="col">query</th><th scope="col" /></tr></thead>
          <tbody>{active.map((query) => <Active key={query.id} query={query} again={loaded.reload} />)}</tbody>
        </table>
      )}
      <h2>Top of the last hour</h2>
      {loaded.data && top.length === 0 && <p class="dim">No query has ended yet.</p>}
      {top.length > 0 && <DataTable class="stacked" rows={top} columns={TOP_COLUMNS} rowKey={(q) => q.query} sorted={-2} caption="Queries by the time they took" />}
    </>
  );
}

export function Queries() {
  const loaded = useApi<Family[]>('status/self_metrics', { metric_name_pattern: PATTERN }, { every: AGAIN_MS });
  const views = useApi<Views>('views', {}, { topic: 'views', every: 5000, atMost: 5000 });
  const costs = useCosts(views.data?.views ?? NONE);
  const families = loaded.data ?? [];
  const running = valueOf(families, 'prometheus_engine_queries');
  const most = valueOf(families, 'prometheus_engine_queries_concurrent_max');
  const durations = families.find((f) => f.name === 'prometheus_engine_query_duration_seconds')?.metric ?? [];
  const answered = Number(durations.find((m) => m.label.some((l) => l.value === 'inner_eval'))?.summary?.sampleCount ?? NaN);
  const perSecond = useRate(answered);
  const samples = useRate(valueOf(families, 'prometheus_engine_query_samples_total'));
  const full = running >= most;
  const facts: [string, string, boolean][] = [
    ['run or wait now', `${formatValue(running)} of ${formatValue(most)}`, full],
    ['a second', Number.isNaN(perSecond) ? '…' : formatValue(perSecond, '', 3), false],
    ['samples a second', Number.isNaN(samples) ? '…' : formatValue(samples, '', 3), false],
    ['live subscriptions', formatValue(valueOf(families, 'perennial_subscriptions')), false],
    ['views that they share', formatValue(valueOf(families, 'perennial_subscribed_views')), false],
  ];
  return (
    <>
      <div class="head"><h1>Queries</h1><span class="dim">counts and durations:</span><ReadAt of={loaded} every={AGAIN_MS} /></div>
      <Problem of={loaded} />
      <div class="cards">
        <section>
          <h2>From history</h2>
          <dl class="kv">{facts.map(([name, value, bad]) => [<dt key={`${name}t`}>{name}</dt>, <dd key={name} class={bad ? 'err' : ''}>{value}</dd>])}</dl>
          <p class="dim"><QueryLink expr="rate(prometheus_engine_query_duration_seconds_count[1m])">Over time</QueryLink></p>
        </section>
        <section>
          <h2>How long the last 512 took</h2>
          <table>
            <thead><tr><th scope="col">part</th><th scope="col" class="num">median</th><th scope="col" class="num">90 %</th><th scope="col" class="num">99 %</th></tr></thead>
            <tbody>
              {durations.map((m) => {
                const slice = m.label.find((l) => l.name === 'slice')?.value ?? '';
                const at = (q: number) => m.summary?.quantile.find((x) => x.quantile === q)?.value;
                return <tr key={slice}><td>{SLICES[slice] ?? slice}</td>{[0.5, 0.9, 0.99].map((q) => <td key={q} class="num">{Number.isFinite(Number(at(q))) ? formatValue(Number(at(q)), 'seconds', 3) : '–'}</td>)}</tr>;
              })}
            </tbody>
          </table>
        </section>
      </div>
      <Running />
      <h2>Kept current: the {TOP} that cost most</h2>
      <Problem of={views} />
      {views.data && costs.length === 0 && <div class="box">No query is kept current.</div>}
      {costs.length > 0 && <DataTable class="stacked" rows={costs} columns={COLUMNS} rowKey={(c) => c.view.id} sorted={-3} caption="Views by cost" />}
    </>
  );
}
