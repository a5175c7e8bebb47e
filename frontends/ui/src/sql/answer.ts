// The answer of a statement: cells as text, and its rows as lines of a chart.
import { Store } from '../chart/store';
import { labelKey, type Labels } from '../format/labels';
import { parseValue } from '../format/numbers';
import type { RangeSeries } from '../types';

/** A column of an answer; `type` is PostgreSQL's name. */
export interface SqlColumn { name: string; type: string }
/** A cell: a number that JSON cannot write is a text, and so is a time. */
export type Cell = string | number | boolean | null;
export interface SqlAnswer { columns: SqlColumn[]; rows: Cell[][] }

/** Whether a column holds numbers. */
export function isNumeric(column: SqlColumn): boolean {
  return /^(int|float|numeric)/.test(column.type);
}

/** Whether a column holds times. */
export function isTime(column: SqlColumn): boolean {
  return column.type.startsWith('timestamp') || column.type === 'date';
}

/** A cell as a number; NaN: it has none. */
export function numberOf(cell: Cell | undefined): number {
  if (typeof cell === 'number') return cell;
  return typeof cell === 'string' && cell !== '' ? parseValue(cell) : NaN;
}

/** A cell as text; NULL is "". */
export function textOf(cell: Cell | undefined): string {
  return cell === null || cell === undefined ? '' : String(cell);
}

/** Lines beyond this many are not drawn. */
export const LINES_MAX = 2000;
const STEPS_MAX = 11_000;

interface Line { labels: Labels; points: [number, number][] }

/** The rows as lines: one for each combination of its texts and each column of numbers. */
function linesOf(answer: SqlAnswer, time: number, numbers: number[]): Line[] {
  const texts = answer.columns.map((c, i) => ({ c, i })).filter(({ c }) => !isNumeric(c) && !isTime(c));
  const lines = new Map<string, Line>();
  for (const row of answer.rows) {
    const t = Date.parse(textOf(row[time])) / 1000;
    if (Number.isNaN(t)) continue;
    for (const n of numbers) {
      const labels: Labels = Object.fromEntries(texts.map(({ c, i }) => [c.name, textOf(row[i])]).filter(([, v]) => v !== ''));
      if (numbers.length > 1 || texts.length === 0) labels['__name__'] = answer.columns[n]!.name;
      const key = labelKey(labels);
      let line = lines.get(key);
      if (!line) {
        if (lines.size >= LINES_MAX) continue;
        line = { labels, points: [] };
        lines.set(key, line);
      }
      line.points.push([t, numberOf(row[n])]);
    }
  }
  for (const line of lines.values()) line.points.sort((a, b) => a[0] - b[0]);
  return [...lines.values()];
}

/** The usual distance of two points of a line, seconds; 0: no line has two. */
function usualStep(lines: Line[]): number {
  const distances = lines.flatMap(({ points }) => points.slice(1).map((p, i) => p[0] - points[i]![0]).filter((d) => d > 0));
  return distances.sort((a, b) => a - b)[distances.length >> 1] ?? 0;
}

/** The lines of an answer on a grid of steps; null: it has no times, no numbers, or only one time. */
export function storeOf(answer: SqlAnswer): Store | null {
  const time = answer.columns.findIndex(isTime);
  const numbers = answer.columns.map((_, i) => i).filter((i) => isNumeric(answer.columns[i]!));
  if (time < 0 || numbers.length === 0) return null;
  const lines = linesOf(answer, time, numbers);
  let from = Infinity;
  let to = -Infinity;
  for (const { points } of lines) {
    from = Math.min(from, points[0]?.[0] ?? Infinity);
    to = Math.max(to, points.at(-1)?.[0] ?? -Infinity);
  }
  const usual = usualStep(lines);
  if (!(to > from) || usual === 0) return null;
  const step = Math.max(usual, (to - from) / STEPS_MAX);
  const at = (t: number) => from + Math.round((t - from) / step) * step;
  const end = from + Math.ceil((to - from) / step - 1e-6) * step;
  const store = new Store(step, from, end - from);
  store.setRange(from, end, lines.map(({ labels, points }): RangeSeries => {
    const values: [number, string][] = [];
    points.forEach(([t, value], i) => {
      const before = points[i - 1];
      // Times that jitter may leave a step out; that is no gap.
      if (before && t - before[0] < 1.9 * step && at(t) - at(before[0]) > 1.5 * step) values.push([at(t) - step, String(before[1])]);
      values.push([at(t), value === Infinity ? '+Inf' : value === -Infinity ? '-Inf' : String(value)]);
    });
    return { metric: labels, values };
  }));
  return store;
}

/** The rows of a statement that stands: equal ones are counted, and have no order. */
export class LiveRows {
  private readonly counts = new Map<string, { cells: Cell[]; n: number }>();

  constructor(readonly columns: SqlColumn[]) {}

  /** All rows anew. */
  reset(changes: { row: Record<string, Cell>; diff: number }[]): void {
    this.counts.clear();
    this.change(changes);
  }

  /** Rows that come and go. */
  change(changes: { row: Record<string, Cell>; diff: number }[]): void {
    for (const { row, diff } of changes) {
      const cells = this.columns.map((c) => row[c.name] ?? null);
      const key = JSON.stringify(cells);
      const n = (this.counts.get(key)?.n ?? 0) + diff;
      if (n === 0) this.counts.delete(key);
      else this.counts.set(key, { cells, n });
    }
  }

  /** The rows as they are now. */
  answer(): SqlAnswer {
    const rows = [...this.counts.values()].flatMap(({ cells, n }) => Array.from({ length: Math.max(0, n) }, () => cells));
    return { columns: this.columns, rows };
  }
}
