// Histograms over time as cells: native ones, and classic ones, whose series differ by the label `le`.
import { parseValue } from '../format/numbers';
import type { HistogramValue } from '../types';
import type { Series, Store } from './store';

/** A bucket at one step. The first one of a classic histogram has no lower bound, the last one no upper bound. */
export interface Bucket { lower: number; upper: number; count: number }

/** Buckets by step, in the order of their bounds. */
export interface Heat {
  /** For each step of the picture from `first` on. */
  columns: Bucket[][];
  first: number;
  /** The greatest count of a bucket. */
  most: number;
  /** The least and the greatest finite bound above zero of a bucket that has observations. */
  min: number;
  max: number;
  /** Whether there are observations in a bucket without a lower, or an upper, bound. */
  openBelow: boolean;
  openAbove: boolean;
}

/** Whether the series are the buckets of classic histograms. */
export function isClassic(shown: Series[]): boolean {
  return shown.length > 2 && shown.every((s) => s.labels['le'] !== undefined && !Number.isNaN(parseValue(s.labels['le'])));
}

/** Whether all series have native histograms. */
export function isNative(shown: Series[]): boolean {
  return shown.length > 0 && shown.every((s) => s.histograms !== null || s.nowHistogram !== null);
}

/** The buckets of a histogram of the API. */
export function bucketsOf(histogram: HistogramValue): Bucket[] {
  return (histogram.buckets ?? []).map(([, lower, upper, count]) => ({ lower: parseValue(lower), upper: parseValue(upper), count: parseValue(count) }));
}

/** Buckets with the same bounds as one, in the order of their bounds. */
export function merge(lists: Bucket[][]): Bucket[] {
  const found = new Map<string, Bucket>();
  for (const list of lists) {
    for (const bucket of list) {
      const key = `${bucket.lower},${bucket.upper}`;
      const known = found.get(key);
      if (known) known.count += bucket.count;
      else found.set(key, { ...bucket });
    }
  }
  return [...found.values()].sort((a, b) => a.lower - b.lower || a.upper - b.upper);
}

/** Cumulative counts by upper bound as buckets. Counts that go down count as none. */
export function classicBuckets(cumulative: Map<number, number>): Bucket[] {
  const bounds = [...cumulative.keys()].sort((a, b) => a - b);
  let before = 0;
  let lower = -Infinity;
  return bounds.map((upper) => {
    const total = cumulative.get(upper)!;
    const bucket = { lower, upper, count: Math.max(0, total - before) };
    before = Math.max(before, total);
    lower = upper;
    return bucket;
  });
}

/** The cells of a picture; null: there is nothing to draw. */
export function heatOf(store: Store, shown: Series[]): Heat | null {
  const classic = isClassic(shown);
  const heat: Heat = { columns: [], first: store.first, most: 0, min: Infinity, max: 0, openBelow: false, openAbove: false };
  for (let i = store.first; i < store.length; i++) {
    let column: Bucket[];
    if (classic) {
      const cumulative = new Map<number, number>();
      for (const series of shown) {
        const value = series.values[i]!;
        const upper = parseValue(series.labels['le']!);
        if (!Number.isNaN(value)) cumulative.set(upper, (cumulative.get(upper) ?? 0) + value);
      }
      column = classicBuckets(cumulative);
    } else {
      column = merge(shown.map((s) => s.histograms?.[i]).filter((h) => h !== undefined).map(bucketsOf));
    }
    for (const { lower, upper, count } of column) {
      if (count <= 0) continue;
      heat.most = Math.max(heat.most, count);
      heat.openBelow ||= lower <= 0;
      heat.openAbove ||= !Number.isFinite(upper);
      for (const bound of [lower, upper]) {
        if (!Number.isFinite(bound) || bound <= 0) continue;
        heat.min = Math.min(heat.min, bound);
        heat.max = Math.max(heat.max, bound);
      }
    }
    heat.columns.push(column);
  }
  return heat.most > 0 && heat.max > 0 ? heat : null;
}

/** The value below which a share `q` of the observations lies; NaN: there are none. Between the bounds of a bucket
 * the observations are taken to lie evenly on a logarithmic axis, as the axis of the picture is. */
export function quantile(buckets: Bucket[], q: number): number {
  const total = buckets.reduce((n, b) => n + b.count, 0);
  if (total <= 0) return NaN;
  let rest = q * total;
  for (const { lower, upper, count } of buckets) {
    if (rest > count) {
      rest -= count;
      continue;
    }
    if (!Number.isFinite(upper)) return lower;
    if (!Number.isFinite(lower) || lower <= 0 || upper <= 0) return upper;
    return lower * (upper / lower) ** (count === 0 ? 1 : rest / count);
  }
  return buckets.at(-1)?.upper ?? NaN;
}
