// Live views: every query whose answer is kept current, and what each costs.
import { useMemo } from 'preact/hooks';
import { formatSpan, formatValue } from '../format/numbers';
import { useApi } from '../hooks';
import { heard, now, type Heard } from '../live';
import { href, route, setParam } from '../router';
import { DataTable, type Column } from '../table';
import type { View, Views as ViewsData } from '../types';
import { FindBox, Problem, QueryLink, matches, unix, useSearch } from './common';

/** How often views are asked while the server cannot tell that they changed, ms. */
const AGAIN_MS = 1000;

const COLUMNS: Column<View>[] = [
  { name: 'id', sort: (v) => Number(v.id.replace(/\D/g, '')), text: (v) => v.id, cell: (v) => <a href={href(`/views/${v.id}`)} data-page="1">{v.id}</a> },
  {
    name: 'name', text: (v) => v.name,
    cell: (v) => <><span class={v.health === 'err' ? 'err' : v.health === 'ok' ? 'ok' : 'warn'} title={v.health}>{v.health === 'err' ? '✖' : v.health === 'ok' ? '✔' : '◌'}</span> <a href={href(`/views/${v.id}`)} data-page="1" class="wrap">{v.name || v.plan.split('\n')[0]}</a>{v.lastError && v.health === 'err' ? <div class="err wrap">{v.lastError}</div> : null}</>,
    class: 'wrap',
  },
  { name: 'kind', text: (v) => (v.standing ? v.kind : 'scheduled'), class: 'narrow-hide' },
  { name: 'taps', title: 'who reads it now', numeric: true, sort: (v) => v.taps, text: (v) => String(v.taps) },
  { name: 'rows', numeric: true, sort: (v) => v.rows, text: (v) => String(v.rows) },
  { name: 'touched', title: 'rows that the latest tick looked at', numeric: true, class: 'narrow-hide', sort: (v) => v.rowsTouched ?? -1, text: (v) => String(v.rowsTouched ?? '') },
  { name: 'CPU', title: 'since it was installed', numeric: true, class: 'narrow-hide', sort: (v) => v.cpuSeconds ?? -1, text: (v) => String(v.cpuSeconds ?? ''), cell: (v) => (v.cpuSeconds === undefined ? '' : formatValue(v.cpuSeconds, 'seconds', 3)) },
  {
    name: 'own state', title: 'bytes that removing it would free', numeric: true, class: 'narrow-hide', sort: (v) => (v.stateBytes ? v.stateBytes.total - v.stateBytes.shared : -1), text: (v) => String(v.stateBytes ? v.stateBytes.total - v.stateBytes.shared : ''),
    cell: (v) => (v.stateBytes ? formatValue(Math.max(0, v.stateBytes.total - v.stateBytes.shared), 'bytes', 3) : ''),
  },
  { name: 'lag', title: 'since the time as of which it is complete', numeric: true, sort: (v) => -unix(v.frontier), text: (v) => v.frontier ?? '', cell: (v) => (v.frontier ? formatSpan(now.value - unix(v.frontier)) : '') },
];

export function Views() {
  const id = /^\/views\/(.+)$/.exec(route.value.path)?.[1];
  if (id !== undefined) return <Detail id={decodeURIComponent(id)} />;
  return route.value.params.get('tab') === 'subscriptions' ? <Subscriptions /> : <List />;
}

function Tabs({ subscriptions }: { subscriptions: boolean }) {
  return (
    <span class="group" role="group" aria-label="View">
      <button type="button" aria-pressed={!subscriptions} onClick={() => setParam('tab', '')}>All</button>
      <button type="button" aria-pressed={subscriptions} onClick={() => setParam('tab', 'subscriptions')}>Subscriptions</button>
    </span>
  );
}

const MINE: Column<Heard>[] = [
  {
    name: 'query', class: 'wrap', text: (h) => h.query, cell: (h) => (h.language === 'topic' ? <>the list of {h.query}</> : h.language === 'sql'
      ? <a href={href(`/sql?${new URLSearchParams({ q: h.query, every: 'live' }).toString()}`)} data-page="1"><code class="wrap">{h.query}</code></a>
      : <QueryLink expr={h.query}><code class="wrap">{h.query}</code></QueryLink>),
  },
  { name: 'kept current', text: (h) => (h.language === 'topic' ? 'when it changes' : h.standing ? 'with every sample' : 'asked once a second') },
  { name: 'messages', numeric: true, sort: (h) => h.messages, text: (h) => String(h.messages) },
  { name: 'received', numeric: true, sort: (h) => h.size, text: (h) => String(h.size), cell: (h) => formatValue(h.size, 'bytes', 3) },
  { name: 'lost', title: 'how often changes were dropped because this tab was slow', numeric: true, sort: (h) => h.lost, text: (h) => String(h.lost), cell: (h) => <span class={h.lost > 0 ? 'err' : ''}>{h.lost}</span> },
  { name: 'complete', numeric: true, class: 'narrow-hide', sort: (h) => h.frontier, text: (h) => String(h.frontier), cell: (h) => (h.frontier === 0 ? '' : `${formatSpan(now.value - h.frontier)} ago`) },
];

/** Who reads live answers: this tab, and how many others share a view. */
function Subscriptions() {
  const loaded = useApi<ViewsData>('views', {}, { topic: 'views', every: AGAIN_MS });
  const [filter] = useSearch();
  void now.value;
  const mine = heard().filter((h) => matches(filter, h.query, [])).map((h) => ({ ...h }));
  const read = (loaded.data?.views ?? []).filter((v) => v.taps > 0 && matches(filter, `${v.id} ${v.name} ${v.plan}`, []));
  return (
    <>
      <div class="head">
        <h1>Live views</h1>
        <Tabs subscriptions />
        <span class="grow" />
        <FindBox label="Filter queries" />
      </div>
      <Problem of={loaded} />
      <h2>Of this tab</h2>
      <DataTable class="stacked" rows={mine} columns={MINE} rowKey={(h) => h.id} caption="Live queries of this tab" />
      <h2>Views that somebody reads</h2>
      {read.length === 0 ? <div class="box">None.</div> : <DataTable class="stacked" rows={read} columns={COLUMNS} rowKey={(v) => v.id} caption="Views that somebody reads" />}
      <p class="dim">Readers of other tabs and programs are counted, not named. <QueryLink expr="perennial_subscriptions">Subscriptions over time</QueryLink></p>
    </>
  );
}

function List() {
  const loaded = useApi<ViewsData>('views', {}, { topic: 'views', every: AGAIN_MS });
  const [filter] = useSearch();
  const views = loaded.data?.views ?? [];
  const shown = useMemo(() => views.filter((v) => matches(filter, `${v.id} ${v.name} ${v.kind} ${v.plan}`, [])), [views, filter]);
  const cpu = views.reduce((n, v) => n + (v.cpuSeconds ?? 0), 0);
  return (
    <>
      <div class="head">
        <h1>Live views</h1>
        <Tabs subscriptions={false} />
        <span class="dim">{loaded.data?.total ?? 0} views · {views.filter((v) => !v.standing).length} scheduled · {formatValue(cpu, 'seconds', 3)} of CPU</span>
        <span class="grow" />
        <FindBox label="Filter views" />
      </div>
      <Problem of={loaded} />
      <DataTable class="stacked" rows={shown} columns={COLUMNS} rowKey={(v) => v.id} caption="Live views" />
      <p class="dim">A view is a query whose answer is kept current: a rule, the condition of an alert, a saved query, or what somebody watches. Equal queries share one.</p>
    </>
  );
}

function Detail({ id }: { id: string }) {
  const loaded = useApi<View | { view: View }>(`views/${encodeURIComponent(id)}`, {}, { topic: 'views', every: AGAIN_MS });
  const data = loaded.data;
  const view = data === null ? null : 'view' in data ? data.view : data;
  return (
    <>
      <div class="head"><h1>View {id}</h1><a href={href('/views')} data-page="1">all views</a></div>
      <Problem of={loaded} />
      {view && <ViewDetail view={view} />}
    </>
  );
}

function ViewDetail({ view }: { view: View }) {
  const expression = view.query ?? (view.kind === 'continuous' && /[({]/.test(view.name) ? view.name : null);
  const facts: [string, string][] = [
    ['name', view.name], ['kind', view.standing ? `${view.kind}, standing` : 'scheduled: evaluated from history'],
    ['health', view.health], ['rows', String(view.rows)], ['readers', String(view.taps)],
    ['complete as of', view.frontier ?? 'not yet'], ['last change', view.lastChange ?? 'never'],
    ['rows touched', String(view.rowsTouched ?? '')], ['CPU', view.cpuSeconds === undefined ? '' : formatValue(view.cpuSeconds, 'seconds', 3)],
    ['state', view.stateBytes ? `${formatValue(view.stateBytes.total, 'bytes', 3)}, of which ${formatValue(view.stateBytes.shared, 'bytes', 3)} shared` : ''],
    ['steps', view.localSteps && view.gatherSteps ? `${view.localSteps.total} per shard (${view.localSteps.shared} shared), ${view.gatherSteps.total} at worker ${view.worker ?? 0} (${view.gatherSteps.shared} shared)` : ''],
  ];
  return (
    <>
      {view.lastError !== '' && <div class="box err"><pre>{view.lastError}</pre></div>}
      {expression !== null && <p><QueryLink expr={expression}>Draw it</QueryLink></p>}
      <dl class="kv">{facts.filter(([, v]) => v !== '').map(([k, v]) => [<dt key={`${k}t`}>{k}</dt>, <dd key={k}>{v}</dd>])}</dl>
      <h2>Dataflow</h2>
      <div class="box"><pre>{view.physicalPlan ?? view.plan}</pre></div>
      {view.rings && view.rings.length > 0 && (
        <>
          <h2>Samples in memory</h2>
          <table>
            <thead><tr><th scope="col">selector</th><th scope="col" class="num">reach</th><th scope="col" class="num">series</th><th scope="col" class="num">bytes</th><th scope="col" class="num">readers</th></tr></thead>
            <tbody>{view.rings.map((r) => <tr key={r.selector}><td class="wrap"><code>{r.selector}</code></td><td class="num">{formatSpan(r.reach)}</td><td class="num">{r.series}</td><td class="num">{formatValue(r.bytes, 'bytes', 3)}</td><td class="num">{r.readers}</td></tr>)}</tbody>
          </table>
        </>
      )}
      {view.leaves && view.leaves.length > 0 && (
        <>
          <h2>Windows</h2>
          <table>
            <thead><tr><th scope="col">step</th><th scope="col">maintained</th><th scope="col">due</th></tr></thead>
            <tbody>{view.leaves.map((l) => <tr key={l.step}><td class="wrap"><code>{l.step}</code></td><td class="wrap">{l.maintenance}</td><td>{l.nextDue ?? 'when a sample comes'}</td></tr>)}</tbody>
          </table>
        </>
      )}
    </>
  );
}
