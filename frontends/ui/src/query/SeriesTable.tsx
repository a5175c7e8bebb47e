// The table below a chart: the same rows in the same colours, with what the picture shows as numbers.
import { useMemo, useState } from 'preact/hooks';
import { Swatch } from '../chart/Chart';
import { FEW, colorLabels, type Coloring, type Paint } from '../chart/paint';
import type { Series, Store, Summary } from '../chart/store';
import { commonLabels, labelNames, selector, type Labels } from '../format/labels';
import { change, formatDuration, formatValue, type Unit } from '../format/numbers';
import { matches } from '../pages/common';
import { DataTable, type Column } from '../table';

interface Row { series: Series; summary: Summary; now: number }

interface Props {
  store: Store;
  version: number;
  unit: Unit;
  hidden: ReadonlySet<string>;
  paint: Paint;
  /** The values some time ago, and how long ago, seconds. */
  before: Store | null;
  compare: number;
  /** Whether the whole table is shown, or only some rows below a chart. */
  whole: boolean;
  focus(key: string | null): void;
  toggle(key: string, alone: boolean): void;
  /** Absent: there is no expression to sum. */
  sumBy?: ((label: string) => void) | undefined;
  showAll(): void;
  coloring: Coloring;
  setColoring(coloring: Coloring): void;
  focused: string | null;
}

/** Lists with more rows have a box to search in them. */
const SEARCHED_FROM = 12;

/** The labels that tell the series apart, and those that all have. */
export function splitLabels(sets: Labels[]): { names: string[]; common: Labels } {
  // One series needs no columns to be told apart.
  if (sets.length === 1) return { names: [], common: sets[0]! };
  const common = commonLabels(sets);
  return { names: labelNames(sets, common), common };
}

/** How a series is called where there is little room: by the labels that tell it apart. */
export function shortName(series: Series, names: string[]): string {
  const own = names.filter((n) => series.labels[n] !== undefined);
  if (own.length === 0) return selector(series.labels);
  if (own.length === 1 && own[0] !== '__name__') return `${own[0]}=${series.labels[own[0]!]}`;
  return selector(Object.fromEntries(own.map((n) => [n, series.labels[n]!])));
}

export function rowsOf(store: Store): Row[] {
  return [...store.series.values()].map((series) => ({ series, summary: store.summary(series), now: store.nowValue(series) }));
}

interface ColumnOptions { names: string[]; unit: Unit; before: Store | null; compare: number; paint?: Paint; sumBy?: ((label: string) => void) | undefined; toggle?(key: string): void }

export function columnsOf({ names, unit, before, compare, paint, sumBy, toggle }: ColumnOptions): Column<Row>[] {
  const labels: Column<Row>[] = names.map((name) => ({
    name: name === '__name__' ? 'metric' : name, text: ({ series }) => series.labels[name] ?? '',
    ...(sumBy && name !== '__name__' ? { title: `double click: sum by (${name})` } : {}),
  }));
  const number = (name: string, title: string, value: (row: Row) => number): Column<Row> => ({
    name, title, numeric: true, ...(name === 'max' ? {} : { class: 'narrow-hide' }), sort: value, text: (row) => (Number.isNaN(value(row)) && name !== 'now' ? '' : String(value(row))),
    cell: (row) => (Number.isNaN(value(row)) && name !== 'now' ? '' : <span title={String(value(row))}>{formatValue(value(row), unit)}</span>),
  });
  const now: Column<Row> = {
    name: 'now', title: 'the value as of which the answer is complete', numeric: true, sort: (row) => row.now,
    text: (row) => row.series.now ?? (row.series.nowHistogram ? JSON.stringify(row.series.nowHistogram) : ''),
    cell: (row) => {
      if (row.series.nowHistogram) return <span title={JSON.stringify(row.series.nowHistogram)}>{`${formatValue(Number(row.series.nowHistogram.count))} × ⌀ ${formatValue(row.now, unit)}`}</span>;
      return row.series.now === null ? <span class="dim">–</span> : <span title={row.series.now}>{formatValue(row.now, unit)}</span>;
    },
  };
  const share = (row: Row) => {
    const earlier = before?.series.get(row.series.key);
    return before && earlier ? change(row.now, before.valueAt(earlier, row.summary.at)) : NaN;
  };
  const delta: Column<Row> = {
    name: `Δ${formatDuration(compare)}`, title: 'against the value then', numeric: true, sort: share, text: (row) => (Number.isNaN(share(row)) ? '' : String(share(row))),
    cell: (row) => (Number.isNaN(share(row)) ? '' : `${share(row) >= 0 ? '+' : '−'}${formatValue(Math.abs(share(row)), 'ratio', 3)}`),
  };
  const swatch = ({ series }: Row) => <Swatch color={paint?.get(series.key) ?? series.color} />;
  return [
    {
      name: '●', title: 'colour in the chart', text: () => '',
      cell: (row) => (toggle ? <button type="button" class="plain" aria-label={`Only ${selector(row.series.labels)}`} onClick={(e) => (e.stopPropagation(), toggle(row.series.key))}>{swatch(row)}</button> : swatch(row)),
    },
    ...labels, now, ...(before ? [delta] : []),
    number('min', 'least value in the picture', (row) => row.summary.min),
    number('max', 'greatest value in the picture', (row) => row.summary.max),
    number('avg', 'mean of the values in the picture', (row) => row.summary.avg),
  ];
}

export function SeriesTable(props: Props) {
  const { store, unit, before, compare, paint, hidden } = props;
  const [find, setFind] = useState('');
  const count = store.series.size;
  const { names, common } = useMemo(() => splitLabels([...store.series.values()].map((s) => s.labels)), [store, count]);
  const columns = useMemo(() => columnsOf({ names, unit, before, compare, paint, sumBy: props.sumBy, toggle: (key) => props.toggle(key, true) }), [names, unit, paint, before, props.toggle]);
  const rows = useMemo(() => {
    const all = rowsOf(store);
    return find === '' ? all : all.filter(({ series }) => matches(find, selector(series.labels), [series.labels]));
  }, [store, props.version, find]);
  const nowAt = columns.findIndex((c) => c.name === 'now');
  const commonNames = Object.keys(common);
  const nan = [...store.series.values()].filter((s) => s.nan).length;
  const infinite = [...store.series.values()].filter((s) => s.infinite).length;
  return (
    <>
      {(commonNames.length > 0 || nan + infinite > 0) && (
        <div class="common" style={{ padding: '0 8px' }}>
          {commonNames.length > 0 && <span title="labels that all series have">{count > 1 ? 'common: ' : ''}{selector(common)} </span>}
          {nan > 0 && <span class="warn">· {nan} series with NaN </span>}
          {infinite > 0 && <span class="warn">· {infinite} series with ±Inf (at the edge) </span>}
        </div>
      )}
      {(count > SEARCHED_FROM || hidden.size > 0) && (
        <div class="legend-tools">
          {count > SEARCHED_FROM && <input type="search" aria-label="Find series" placeholder={`Find among ${count} series`} value={find} onInput={(e) => setFind(e.currentTarget.value)} />}
          {find !== '' && <span class="dim">{rows.length} found</span>}
          {count > FEW && <ColorBy series={[...store.series.values()]} names={names} coloring={props.coloring} set={props.setColoring} />}
          {hidden.size > 0 && <button type="button" onClick={props.showAll}>Show all ({hidden.size} hidden)</button>}
          <span class="grow" />
          <span class="dim narrow-hide">click: only this one · Ctrl-click: hide{props.sumBy ? ' · double click a label: sum by it' : ''}</span>
        </div>
      )}
      <div onDblClick={(e) => {
        const head = (e.target as Element).closest('th');
        const name = head?.textContent?.replace(/ [▴▾]$/, '') ?? '';
        if (head && names.includes(name)) props.sumBy?.(name);
      }}>
        <DataTable rows={rows} columns={columns} rowKey={(r) => r.series.key} sorted={-1 - nowAt} class={props.whole ? '' : 'legend'}
          caption="Series and their values" onHover={(r) => props.focus(r?.series.key ?? null)}
          onRow={(r, e) => props.toggle(r.series.key, !(e.ctrlKey || e.metaKey))}
          rowClass={(r) => `${hidden.has(r.series.key) ? 'off' : ''} ${props.focused === r.series.key ? 'on' : ''}`} />
      </div>
    </>
  );
}

/** What decides the colours of many series. */
function ColorBy({ series, names, coloring, set }: { series: Series[]; names: string[]; coloring: Coloring; set(coloring: Coloring): void }) {
  const labels = useMemo(() => colorLabels(series, names), [series.length, names]);
  return (
    <select aria-label="Colour by" value={coloring} onChange={(e) => set(e.currentTarget.value)}>
      <option value="rank">colour by rank</option>
      <option value="series">colour by series</option>
      {labels.map((name) => <option key={name} value={`label:${name}`}>colour by {name}</option>)}
    </select>
  );
}
