// The table below a chart: the same rows in the same colours, with what the picture shows as numbers.
import { useMemo } from 'preact/hooks';
import { Swatch } from '../chart/Chart';
import { FEW } from '../chart/draw';
import { COLORS, type Series, type Store, type Summary } from '../chart/store';
import { commonLabels, labelNames, selector, type Labels } from '../format/labels';
import { formatValue, type Unit } from '../format/numbers';
import { DataTable, type Column } from '../table';

interface Row { series: Series; summary: Summary; now: number }

interface Props {
  store: Store;
  version: number;
  unit: Unit;
  hidden: ReadonlySet<string>;
  /** Whether the whole table is shown, or only some rows below a chart. */
  whole: boolean;
  focus(key: string | null): void;
  toggle(key: string, alone: boolean): void;
  sumBy(label: string): void;
  focused: string | null;
}

/** The labels that tell the series apart, and those that all have. */
export function splitLabels(sets: Labels[]): { names: string[]; common: Labels } {
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

export function columnsOf(names: string[], unit: Unit, sumBy?: (label: string) => void, many = false): Column<Row>[] {
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
  return [
    { name: '●', title: 'colour in the chart', text: () => '', cell: ({ series }) => <Swatch color={many ? 0 : series.color % COLORS} /> },
    ...labels, now,
    number('min', 'least value in the picture', (row) => row.summary.min),
    number('max', 'greatest value in the picture', (row) => row.summary.max),
    number('avg', 'mean of the values in the picture', (row) => row.summary.avg),
  ];
}

export function SeriesTable(props: Props) {
  const { store, unit } = props;
  const count = store.series.size;
  const { names, common } = useMemo(() => splitLabels([...store.series.values()].map((s) => s.labels)), [store, count]);
  const columns = useMemo(() => columnsOf(names, unit, props.sumBy, count > FEW), [names, unit, count > FEW]);
  const rows = useMemo(() => rowsOf(store), [store, props.version]);
  const nowAt = columns.findIndex((c) => c.name === 'now');
  const commonNames = Object.keys(common);
  const nan = [...store.series.values()].filter((s) => s.nan).length;
  const infinite = [...store.series.values()].filter((s) => s.infinite).length;
  return (
    <>
      {(commonNames.length > 0 || nan + infinite > 0) && (
        <div class="common" style={{ padding: '0 8px' }}>
          {commonNames.length > 0 && <span title="labels that all series have">common: {selector(common)} </span>}
          {nan > 0 && <span class="warn">· {nan} series with NaN </span>}
          {infinite > 0 && <span class="warn">· {infinite} series with ±Inf (at the edge) </span>}
        </div>
      )}
      <div onDblClick={(e) => {
        const head = (e.target as Element).closest('th');
        const name = head?.textContent?.replace(/ [▴▾]$/, '') ?? '';
        if (head && names.includes(name)) props.sumBy(name);
      }}>
        <DataTable rows={rows} columns={columns} rowKey={(r) => r.series.key} sorted={-1 - nowAt} class={props.whole ? '' : 'legend'}
          caption="Series and their values" onHover={(r) => props.focus(r?.series.key ?? null)}
          onRow={(r, e) => props.toggle(r.series.key, !(e.ctrlKey || e.metaKey))}
          rowClass={(r) => `${props.hidden.has(r.series.key) ? 'off' : ''} ${props.focused === r.series.key ? 'on' : ''}`} />
      </div>
    </>
  );
}
