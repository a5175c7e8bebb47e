// Service discovery: what was found, what relabelling made of it, what it dropped.
import { useState } from 'preact/hooks';
import { useApi } from '../hooks';
import type { Labels } from '../format/labels';
import { route, setParam } from '../router';
import type { Targets } from '../types';
import { FindBox, LabelList, Problem, StateButton, matches, useSearch } from './common';
import { RelabelSteps } from './Targets';

interface DiscoveredTarget { pool: string; discovered: Labels; labels: Labels | null }

const SHOWN = 500;

export function Discovery() {
  const loaded = useApi<Targets>('targets', {}, { topic: 'targets', every: 10_000 });
  const [filter] = useSearch();
  const pool = route.value.params.get('pool') ?? '';
  const state = route.value.params.get('state');
  const found: DiscoveredTarget[] = [
    ...(loaded.data?.droppedTargets ?? []).map((t) => ({ pool: t.scrapePool, discovered: t.discoveredLabels, labels: null })),
    ...(loaded.data?.activeTargets ?? []).map((t) => ({ pool: t.scrapePool, discovered: t.discoveredLabels, labels: t.labels })),
  ];
  const counts = loaded.data?.droppedTargetCounts ?? {};
  const dropped = Object.values(counts).reduce((a, b) => a + b, 0);
  const pools = [...new Set([...found.map((f) => f.pool), ...Object.keys(counts)])].sort();
  const shown = found.filter((f) => (pool === '' || f.pool === pool) && (!state || (state === 'dropped') === (f.labels === null))
    && matches(filter, `${Object.values(f.discovered).join(' ')} ${Object.values(f.labels ?? {}).join(' ')}`, [f.discovered, f.labels ?? {}]));
  return (
    <>
      <div class="head">
        <h1>Service discovery</h1>
        <StateButton name="kept" label="Kept" count={loaded.data?.activeTargets.length ?? 0} kind="ok" />
        <StateButton name="dropped" label="Dropped" count={dropped} kind="warn" />
        <span class="grow" />
        <select aria-label="Scrape pool" value={pool} onChange={(e) => setParam('pool', e.currentTarget.value)}>
          <option value="">all pools</option>
          {pools.map((name) => <option key={name} value={name}>{name}</option>)}
        </select>
        <FindBox label="Filter targets" />
      </div>
      <Problem of={loaded} />
      {loaded.data && found.length === 0 && <div class="box">Nothing was discovered. <code>scrape_configs</code> say where targets are looked for.</div>}
      {pools.filter((name) => shown.some((f) => f.pool === name)).map((name) => (
        <section key={name}>
          <div class="group-head"><h2 style={{ margin: 0 }}>{name}</h2><span class="dim">{found.filter((f) => f.pool === name && f.labels).length} kept, {counts[name] ?? 0} dropped</span></div>
          {shown.filter((f) => f.pool === name).slice(0, SHOWN).map((f) => <FoundItem key={JSON.stringify(f.discovered)} found={f} />)}
        </section>
      ))}
    </>
  );
}

function FoundItem({ found }: { found: DiscoveredTarget }) {
  const [open, setOpen] = useState(false);
  const address = found.discovered['__address__'] ?? '';
  return (
    <details class="item" open={open} onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>
        {found.labels ? <span class="ok">✔ kept</span> : <span class="err">✖ dropped</span>}
        <span class="name">{address}</span>
        {found.labels && <>→ <LabelList labels={found.labels} /></>}
      </summary>
      {open && (
        <div class="body">
          <LabelList labels={found.discovered} />
          <RelabelSteps pool={found.pool} labels={found.discovered} />
        </div>
      )}
    </details>
  );
}
