// Cardinality: which metrics and labels make the series that match. Every row narrows, and each step says the
// expression that it stands for.
import { useMemo, useRef, useState } from 'preact/hooks';
import { labelName, quote } from '../format/labels';
import { useApi, useRows } from '../hooks';
import { gone, type Row } from '../live';
import { go, route, setParam } from '../router';
import { DataTable, type Column } from '../table';
import { NoSeries, Problem, QueryLink, queryPath } from './common';
import { Vanished } from './Vanished';

interface Count { name: string; series: number }

/** The selector of all series. */
const ALL = '{__name__!=""}';
const SHOWN = 50;
const AGAIN_MS = 15_000;

function counts(rows: Row[] | null, label: string): Count[] {
  return (rows ?? []).map((row) => ({ name: row.labels[label] ?? '', series: Number(row.value ?? 0) }));
}

/** A selector narrowed by one more label. */
export function narrow(selector: string, label: string, value: string): string {
  const inside = selector.replace(/^\{|\}$/g, '').trim();
  const more = `${labelName(label)}=${quote(value)}`;
  return `{${inside === '' || inside === '__name__!=""' ? more : `${inside}, ${more}`}}`;
}

export function Cardinality() {
  const match = route.value.params.get('match') || ALL;
  const focus = route.value.params.get('focus') ?? '';
  const vanished = route.value.params.get('tab') === 'vanished';
  const [text, setText] = useState(match);
  const total = useRows(`count(${match})`, AGAIN_MS);
  const metrics = useRows(`topk(${SHOWN}, count by (__name__) (${match}))`, AGAIN_MS);
  const names = useApi<string[]>('labels', { 'match[]': [match], limit: 500 });
  const query = focus === '' ? null : `topk(${SHOWN}, count by (${labelName(focus)}) (${match}))`;
  const values = useRows(query, AGAIN_MS);
  const distinct = useRows(focus === '' ? null : `count(count by (${labelName(focus)}) (${match}))`, AGAIN_MS);
  const series = Number(total.rows?.[0]?.value ?? 0);
  const byMetric = useMemo(() => counts(metrics.rows, '__name__'), [metrics.rows]);
  const byValue = useMemo(() => counts(values.rows, focus), [values.rows, focus]);
  const labels = (names.data ?? []).filter((n) => n !== '__name__');
  const to = (next: string) => {
    setText(next);
    setParam('match', next === ALL ? '' : next);
  };
  const error = [total, metrics, names].find((l) => l.error !== null);
  return (
    <>
      <div class="head">
        <h1>Cardinality</h1>
        {total.rows !== null && <span class="dim">{series} series match now</span>}
        {total.rows !== null && (total.asked === ''
          ? <span class={gone.value ? 'warn' : 'live'}>· {gone.value ? 'waits for the server' : 'live: counted with every sample'}</span>
          : <span class="dim" title={total.asked}>· counted every {AGAIN_MS / 1000} s, because {total.asked}</span>)}
      </div>
      <form class="row" onSubmit={(e) => {
        e.preventDefault();
        to(text);
      }}>
        <input aria-label="Selector" class="find mono grow" value={text} spellcheck={false} onInput={(e) => setText(e.currentTarget.value)} />
        <button type="submit">Count</button>
        <button type="button" onClick={() => to(ALL)}>All</button>
        <button type="button" onClick={() => go(queryPath(match))}>Draw them</button>
      </form>
      {error && <Problem of={error} />}
      <span class="group" role="group" aria-label="View" style={{ marginTop: '8px' }}>
        <button type="button" aria-pressed={!vanished} onClick={() => setParam('tab', '')}>Series now</button>
        <button type="button" aria-pressed={vanished} onClick={() => setParam('tab', 'vanished')}>Vanished</button>
      </span>
      {vanished ? <Vanished match={match} /> : <Present {...{ match, focus, query, series, byMetric, byValue, labels, to }} known={names.data !== null} distinct={distinct.rows?.[0]?.value ?? '…'} none={total.rows !== null && series === 0} />}
    </>
  );
}

interface PresentProps {
  match: string; focus: string; query: string | null; series: number; byMetric: Count[]; byValue: Count[]; labels: string[]; known: boolean; distinct: string; none: boolean; to(match: string): void;
}

function Present({ match, focus, query, series, byMetric, byValue, labels, known, distinct, none, to }: PresentProps) {
  if (none) return match === ALL ? <NoSeries /> : <div class="box">No series matches <code class="wrap">{match}</code> now. <button type="button" onClick={() => to(ALL)}>All series</button></div>;
  return (
    <>
      <h2>Labels</h2>
      <div class="row">
        {labels.map((name) => <button key={name} type="button" aria-pressed={name === focus} onClick={() => setParam('focus', name === focus ? '' : name)}>{name}</button>)}
        {known && labels.length === 0 && <span class="dim">The series have no labels.</span>}
      </div>
      <div class="cards" style={{ marginTop: '12px' }}>
        <Part title="By metric" of="__name__" expr={`topk(${SHOWN}, count by (__name__) (${match}))`} answered={byMetric} total={series} choose={(name) => to(narrow(match, '__name__', name))} />
        {focus !== '' && (
          <Part title={`By ${focus}: ${distinct} values`} of={focus} expr={query!} answered={byValue} total={series} choose={(value) => to(narrow(match, focus, value))} />
        )}
      </div>
    </>
  );
}

/** The list, or the one before it while it is empty because its answer is on its way: the page keeps its height. */
function useLast(list: Count[], of: string): Count[] {
  const last = useRef({ of, list });
  if (last.current.of !== of || list.length > 0) last.current = { of, list };
  return last.current.list;
}

function Part({ title, of, expr, answered, total, choose }: { title: string; of: string; expr: string; answered: Count[]; total: number; choose(name: string): void }) {
  const list = useLast(answered, of);
  const most = Math.max(1, ...list.map((c) => c.series));
  const columns: Column<Count>[] = [
    { name: 'name', text: (c) => c.name, class: 'wrap', cell: (c) => (c.name === '' ? <span class="dim">(without)</span> : <button type="button" class="plain wrap" title="narrow to it" onClick={() => choose(c.name)}>{c.name}</button>) },
    { name: 'series', numeric: true, sort: (c) => c.series, text: (c) => String(c.series) },
    {
      name: 'share', class: 'narrow-hide', sort: (c) => c.series, text: (c) => `${((100 * c.series) / Math.max(total, 1)).toFixed(1)} %`,
      cell: (c) => <><span class="meter" style={{ width: `${Math.max(1, (80 * c.series) / most)}px` }} /> {((100 * c.series) / Math.max(total, 1)).toFixed(1)} %</>,
    },
  ];
  return (
    <section>
      <h2>{title}</h2>
      <DataTable rows={list} columns={columns} rowKey={(c) => c.name} sorted={-2} caption={title} />
      <p class="dim"><QueryLink expr={expr}><code class="wrap">{expr}</code></QueryLink></p>
    </section>
  );
}
