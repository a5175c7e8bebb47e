// Tables: sticky head, sorting by any column, only the rows in sight are in the document when there are many.
import type { ComponentChildren } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { csvCell } from './format/labels';

/** A column of rows of type T. */
export interface Column<T> {
  /** The head, and the name in CSV. */
  name: string;
  title?: string;
  numeric?: boolean;
  /** What rows are sorted by; absent: the text. */
  sort?(row: T): number | string;
  text(row: T): string;
  cell?(row: T): ComponentChildren;
  class?: string;
}

interface Props<T> {
  rows: T[];
  columns: Column<T>[];
  rowKey(row: T): string;
  /** Index of the first sorting column, negative −1−n for descending; undefined: the order given. */
  sorted?: number;
  onHover?(row: T | null): void;
  onRow?(row: T, event: MouseEvent): void;
  rowClass?(row: T): string;
  class?: string;
  caption: string;
}

interface Sorting { name: string; descending: boolean }

const SIGN = { none: '', ascending: ' ▴', descending: ' ▾' };

function sortingOf<T>(columns: Column<T>[], sorted: number | undefined): Sorting | undefined {
  if (sorted === undefined) return undefined;
  const column = columns[sorted < 0 ? -1 - sorted : sorted];
  return column && { name: column.name, descending: sorted < 0 };
}

/** How long rows keep their places while the values that they are sorted by move, ms. */
const HOLD_MS = 10_000;

/**
 * Keeps rows at their places while what they are sorted by moves: a list that changes its order with every sample cannot
 * be read. `sorted` is their order now, and taken if `by` is another one, if many rows are new, or after `hold`
 * milliseconds unless `stands`. New rows come last; with `newFirst` first.
 */
export function useHeldOrder<T>(sorted: T[], keyOf: (row: T) => string, by: string, { hold, stands = () => false, newFirst = false }: { hold: number; stands?: () => boolean; newFirst?: boolean }): T[] {
  const held = useRef({ by: '', at: 0, ranks: new Map<string, number>() });
  return useMemo(() => {
    const { ranks } = held.current;
    const rows = sorted.map((row) => ({ row, rank: ranks.get(keyOf(row)) ?? -1 }));
    const fresh = rows.filter(({ rank }) => rank < 0);
    const at = performance.now();
    if (held.current.by !== by || fresh.length > ranks.size / 4 || (at - held.current.at >= hold && !stands())) {
      held.current = { by, at, ranks: new Map(sorted.map((row, i) => [keyOf(row), i])) };
      return sorted;
    }
    const known = rows.filter(({ rank }) => rank >= 0).sort((a, b) => a.rank - b.rank);
    return (newFirst ? [...fresh, ...known] : [...known, ...fresh]).map(({ row }) => row);
  }, [sorted, by]);
}

const VIRTUAL_FROM = 200;
const AROUND = 12;

/** Rows in the order of a column; equal ones stay. */
export function sortRows<T>(rows: T[], column: Column<T>, descending: boolean): T[] {
  const keyed = rows.map((row) => ({ row, key: column.sort ? column.sort(row) : column.text(row) }));
  const sign = descending ? -1 : 1;
  const order = (a: number | string, b: number | string): number => {
    if (typeof a === 'number' && typeof b === 'number') {
      // NaN last, whichever way.
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) ? (Number.isNaN(b) ? 0 : 1) : -1;
      return sign * (a - b);
    }
    return sign * (String(a) < String(b) ? -1 : String(a) > String(b) ? 1 : 0);
  };
  return keyed.sort((a, b) => order(a.key, b.key)).map(({ row }) => row);
}

/** The table as CSV. */
export function toCsv<T>(rows: T[], columns: Column<T>[]): string {
  const lines = [columns.map((c) => csvCell(c.name)).join(','), ...rows.map((row) => columns.map((c) => csvCell(c.text(row))).join(','))];
  return lines.join('\r\n') + '\r\n';
}

/** Offers a text as a file. */
export function download(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const anchor = document.createElement('a');
  anchor.href = url;
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function titleOf<T>({ title, numeric }: Column<T>, isSorting: boolean): string | undefined {
  if (!isSorting || !numeric) return title;
  return `${title === undefined ? '' : `${title}; `}sorted every ${HOLD_MS / 1000} s, not while the pointer is on the rows`;
}

export function DataTable<T>(props: Props<T>) {
  const { rows, columns, rowKey } = props;
  // By name: columns may come and go while the reader's order stays.
  const [sort, setSort] = useState<Sorting | undefined>(() => sortingOf(columns, props.sorted));
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(400);
  const [rowHeight, setRowHeight] = useState(24);
  const virtual = rows.length > VIRTUAL_FROM;
  const sorted = useMemo(() => {
    const column = columns.find((c) => c.name === sort?.name);
    return column && sort ? sortRows(rows, column, sort.descending) : rows;
  }, [rows, columns, sort]);
  const underPointer = useRef(false);
  const isLookedAt = () => underPointer.current || box.current?.querySelector('tr.r:focus-within') != null;
  const held = useHeldOrder(sorted, rowKey, `${sort?.name} ${sort?.descending}`, { hold: HOLD_MS, stands: isLookedAt });
  // Without a sorting column the order is that of the list.
  const order = sort ? held : rows;
  useEffect(() => {
    if (!virtual || !box.current) return;
    setHeight(box.current.clientHeight);
    setRowHeight(box.current.querySelector('tbody tr.r')?.getBoundingClientRect().height ?? 24);
  }, [virtual]);
  const first = virtual ? Math.max(0, Math.min(Math.floor(top / rowHeight) - AROUND, order.length - 1)) : 0;
  const last = virtual ? Math.min(order.length, Math.ceil((top + height) / rowHeight) + AROUND) : order.length;
  const press = ({ name, numeric }: Column<T>) => {
    // Numbers begin with the greatest.
    const first = numeric === true;
    setSort({ name, descending: sort?.name === name && sort.descending === first ? !first : first });
  };
  const state = (column: Column<T>) => (sort?.name !== column.name ? 'none' : sort.descending ? 'descending' : 'ascending');
  return (
    <div class={`scroll ${virtual ? 'virtual' : ''} ${props.class ?? ''}`} ref={box} onMouseEnter={() => (underPointer.current = true)} onMouseLeave={() => (underPointer.current = false)} tabIndex={virtual || props.class === 'legend' ? 0 : -1}
      onScroll={virtual ? (e) => setTop(e.currentTarget.scrollTop) : undefined} role="region" aria-label={props.caption}>
      <table aria-rowcount={order.length + 1}>
        <caption class="hide">{props.caption}</caption>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column.name} class={`${column.numeric ? 'num' : ''} ${column.class ?? ''}`} title={titleOf(column, state(column) !== 'none')}
                aria-sort={state(column)} scope="col">
                <button type="button" onClick={() => press(column)}>{column.name}{SIGN[state(column)]}</button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {first > 0 && <tr style={{ height: `${first * rowHeight}px` }}><td colSpan={columns.length} /></tr>}
          {order.slice(first, last).map((row) => (
            <tr key={rowKey(row)} class={`r ${props.onRow ? 'link' : ''} ${props.rowClass?.(row) ?? ''}`}
              onMouseEnter={props.onHover ? () => props.onHover!(row) : undefined} onMouseLeave={props.onHover ? () => props.onHover!(null) : undefined}
              onClick={props.onRow ? (e) => props.onRow!(row, e) : undefined}>
              {columns.map((column) => (
                <td key={column.name} data-name={column.name} class={`${column.numeric ? 'num' : ''} ${column.class ?? ''}`} title={column.cell ? undefined : column.text(row)}>
                  {column.cell ? column.cell(row) : column.text(row)}
                </td>
              ))}
            </tr>
          ))}
          {last < order.length && <tr style={{ height: `${(order.length - last) * rowHeight}px` }}><td colSpan={columns.length} /></tr>}
        </tbody>
      </table>
    </div>
  );
}
