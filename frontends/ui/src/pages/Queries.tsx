// Queries: how many run and how long they take, and which of those that stand cost most.
import { useEffect, useRef, useState } from 'preact/hooks';
import { formatValue } from '../format/numbers';
import { useApi } from '../hooks';
import { now } from '../live';
import { href } from '../router';
import { DataTable, type Column } from '../table';
import type { View, Views } from '../types';
import { Problem, QueryLink } from './common';

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

export function Queries() {
  const loaded = useApi<Family[]>('status/self_metrics', { metric_name_pattern: PATTERN }, AGAIN_MS);
  const views = useApi<Views>('views', {}, 5000);
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
      <div class="head"><h1>Queries</h1></div>
      <Problem of={loaded} />
      <div class="cards">
        <section>
          <h2>From history</h2>
          <dl class="kv">{facts.map(([name, value, bad]) => [<dt key={`${name}t`}>{name}</dt>, <dd key={name} class={bad ? 'err' : ''}>{value}</dd>])}</dl>
          <p class="dim">Which texts run is in the file <code>queries.active</code> of the data directory, and what they took in the query log. <QueryLink expr="rate(prometheus_engine_query_duration_seconds_count[1m])">Over time</QueryLink></p>
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
      <h2>Kept current: the {TOP} that cost most</h2>
      <Problem of={views} />
      {views.data && costs.length === 0 && <div class="box">No query is kept current.</div>}
      {costs.length > 0 && <DataTable class="stacked" rows={costs} columns={COLUMNS} rowKey={(c) => c.view.id} caption="Views by cost" />}
    </>
  );
}
