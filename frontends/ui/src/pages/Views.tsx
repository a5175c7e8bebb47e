// Live views: every query whose answer is kept current, and what each costs.
import { useMemo } from 'preact/hooks';
import { formatSpan, formatValue } from '../format/numbers';
import { clockTime, dateTime } from '../format/time';
import { useApi } from '../hooks';
import { href, route } from '../router';
import { zone } from '../settings';
import { DataTable } from '../table';
import type { View, Views as ViewsData } from '../types';
import { FindBox, Problem, QueryLink, matches, unix, useSearch } from './common';
import { Dataflow } from './Dataflow';
import { Subscriptions } from './Subscriptions';
import { AGAIN_MS, COLUMNS, Tabs } from './view_table';

export function Views() {
  const id = /^\/views\/(.+)$/.exec(route.value.path)?.[1];
  if (id !== undefined) return <Detail id={decodeURIComponent(id)} />;
  return route.value.params.get('tab') === 'subscriptions' ? <Subscriptions /> : <List />;
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
    ['complete as of', view.frontier ? dateTime(unix(view.frontier), zone.value) : 'not yet'], ['last change', view.lastChange ? dateTime(unix(view.lastChange), zone.value) : 'never'],
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
      <Dataflow view={view} />
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
            <tbody>{view.leaves.map((l) => <tr key={l.step}><td class="wrap"><code>{l.step}</code></td><td class="wrap">{l.maintenance}</td><td>{l.nextDue ? clockTime(unix(l.nextDue), zone.value, true) : 'when a sample comes'}</td></tr>)}</tbody>
          </table>
        </>
      )}
    </>
  );
}
