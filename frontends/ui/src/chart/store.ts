// The values that a chart and its table show: one column per series on a grid of steps. History comes from
// query_range, what follows from a subscription. Rule: the value at step T is that of the last message with t ≤ T.
import { hash, labelKey, type Labels } from '../format/labels';
import { parseValue } from '../format/numbers';
import type { HistogramValue, RangeSeries } from '../types';
import type { Row } from '../live';

/** One series. A step without a value is NaN, and so is a value NaN: `nan` says whether there is any. */
export interface Series {
  key: string;
  labels: Labels;
  values: Float64Array;
  /** The current value, as the server wrote it; null: the series has none now. */
  now: string | null;
  nowHistogram: HistogramValue | null;
  /** The histogram of each step; null: the series never had one. */
  histograms: (HistogramValue | undefined)[] | null;
  /** Index into the palette. */
  color: number;
  nan: boolean;
  infinite: boolean;
}

/** Count, least, greatest and mean of the values that are shown. */
export interface Summary { count: number; min: number; max: number; avg: number; last: number; /** The time of the last one. */ at: number }

/** Colours of the palette. */
export const COLORS = 8;

/** The number that stands for a native histogram in a line chart: its mean. */
export function meanOf(histogram: HistogramValue): number {
  return parseValue(histogram.sum) / parseValue(histogram.count);
}

/** The series of one query. Times are Unix seconds, all steps `step` apart. */
export class Store {
  /** The time of index 0. */
  t0: number;
  /** Steps that are known. */
  length = 0;
  readonly series = new Map<string, Series>();
  /** Time of the newest message, 0 before the first. */
  liveAt = 0;
  /** Grows with every change. */
  version = 0;
  /** Grows when what a chart draws changes: a message within a step changes the table only. */
  pictures = 0;
  /** Grows when steps change that were drawn before. */
  rewrites = 0;
  /** Stretches whose changes were lost, until they are asked again. */
  readonly lost: { from: number; to: number }[] = [];
  /** Steps whose messages did not know all samples yet; null: none. History knows better. */
  unsettled: { from: number; to: number } | null = null;
  private capacity: number;
  private readonly used = new Set<number>();

  constructor(readonly step: number, start: number, readonly window: number) {
    this.t0 = start;
    this.capacity = Math.ceil(window / step) * 2 + 64;
  }

  /** The time of the last step that is known. */
  get end(): number {
    return this.t0 + (this.length - 1) * this.step;
  }

  /** The time of a step. */
  time(index: number): number {
    return this.t0 + index * this.step;
  }

  /** The series of a label set; a new one has no values. */
  private at(labels: Labels): Series {
    const key = labelKey(labels);
    let found = this.series.get(key);
    if (!found) {
      const values = new Float64Array(this.capacity).fill(NaN);
      found = { key, labels, values, now: null, nowHistogram: null, histograms: null, color: this.pickColor(key), nan: false, infinite: false };
      this.series.set(key, found);
    }
    return found;
  }

  /** A hash of the labels decides, so that a reload shows the same colours; while there are few, the next free one. */
  private pickColor(key: string): number {
    let color = hash(key) % COLORS;
    if (this.series.size < COLORS) while (this.used.has(color)) color = (color + 1) % COLORS;
    this.used.add(color);
    return color;
  }

  private put(series: Series, index: number, value: number): void {
    series.values[index] = value;
    if (Number.isNaN(value)) series.nan = true;
    else if (!Number.isFinite(value)) series.infinite = true;
  }

  private putHistogram(series: Series, index: number, histogram: HistogramValue): void {
    series.histograms ??= [];
    series.histograms[index] = histogram;
    this.put(series, index, meanOf(histogram));
  }

  /** Sets the steps from `from` to `to` to what a range query answered for them. */
  setRange(from: number, to: number, answer: RangeSeries[]): void {
    const first = this.index(from);
    const last = this.index(to);
    this.reserve(last);
    const known = { length: this.length, size: this.series.size };
    const before = new Map([...this.series.values()].map((s) => [s, s.values.slice(Math.max(first, 0), last + 1)]));
    for (const series of this.series.values()) {
      series.values.fill(NaN, Math.max(first, 0), last + 1);
      series.histograms?.fill(undefined, Math.max(first, 0), last + 1);
    }
    const sorted = answer.map((s) => ({ s, key: labelKey(s.metric) })).sort((a, b) => (a.key < b.key ? -1 : 1));
    const shift = this.t0;
    for (const { s } of sorted) {
      const series = this.at(s.metric);
      for (const [t, text] of s.values ?? []) this.put(series, Math.round((t - shift) / this.step), parseValue(text));
      for (const [t, histogram] of s.histograms ?? []) this.putHistogram(series, Math.round((t - shift) / this.step), histogram);
      const end = s.values?.at(-1);
      const endHistogram = s.histograms?.at(-1);
      if (this.liveAt === 0) {
        series.now = end && Math.abs(end[0] - to) < this.step / 2 ? end[1] : null;
        series.nowHistogram = endHistogram && Math.abs(endHistogram[0] - to) < this.step / 2 ? endHistogram[1] : null;
      }
    }
    this.length = Math.max(this.length, last - Math.round((shift - this.t0) / this.step) + 1);
    this.version++;
    // What history says as the picture does is no reason to draw it anew.
    const isSame = ([series, values]: [Series, Float64Array]) => series.histograms === null && values.every((v, i) => Object.is(v, series.values[Math.max(first, 0) + i]));
    if (known.length === this.length && known.size === this.series.size && [...before].every(isSame)) return;
    this.pictures++;
    this.rewrites++;
  }

  /** The changes of this stretch did not come. */
  lose(from: number, to: number): void {
    this.lost.push({ from, to });
    this.pictures++;
  }

  /** History has said what was lost. */
  found(stretches: { from: number; to: number }[]): void {
    for (const one of stretches) this.lost.splice(this.lost.indexOf(one), 1);
    if (stretches.length > 0) this.pictures++;
  }

  private index(t: number): number {
    return Math.round((t - this.t0) / this.step);
  }

  /** Makes room for the step `index`. */
  private reserve(index: number): void {
    if (index < this.capacity) return;
    this.capacity = index + Math.ceil(this.window / this.step) + 64;
    for (const series of this.series.values()) {
      const grown = new Float64Array(this.capacity).fill(NaN);
      grown.set(series.values);
      series.values = grown;
    }
  }

  /** Drops steps that lie more than half a window before the picture. */
  private trim(): void {
    const keep = Math.ceil(this.window / this.step) + 2;
    if (this.length < keep * 1.5 + 32) return;
    const drop = this.length - keep;
    for (const [key, series] of this.series) {
      series.values.copyWithin(0, drop, this.length);
      series.values.fill(NaN, this.length - drop);
      series.histograms?.splice(0, drop);
      const empty = series.now === null && series.nowHistogram === null && series.values.subarray(0, keep).every(Number.isNaN);
      if (empty) this.series.delete(key);
    }
    this.t0 += drop * this.step;
    this.length -= drop;
  }

  /** The whole answer at `t`. The steps between the last one known and `t` stay empty: see `missing`. */
  snapshot(t: number, rows: Row[]): void {
    for (const series of this.series.values()) {
      series.now = null;
      series.nowHistogram = null;
    }
    for (const row of rows) this.setNow(row);
    this.liveAt = t;
    this.version++;
  }

  private setNow(row: Row): void {
    const series = this.at(row.labels);
    series.now = row.value ?? null;
    series.nowHistogram = row.histogram ?? null;
  }

  /** The steps up to `t` that neither history nor a message has said; null: none. */
  missing(t: number): { from: number; to: number } | null {
    const to = Math.floor((t + 1e-6) / this.step) * this.step;
    const from = this.end + this.step;
    return to < from - this.step / 2 ? null : { from, to };
  }

  /** What changed at `t`; it holds from `since` on. */
  delta(t: number, upsert: Row[], remove: Labels[], since = t): void {
    this.commit(t, false);
    this.unsettleSteps(since, t);
    for (const row of upsert) this.setNow(row);
    for (const labels of remove) {
      const series = this.series.get(labelKey(labels));
      if (!series) continue;
      series.now = null;
      series.nowHistogram = null;
    }
    this.progress(t);
  }

  /** The steps from `from` on and before `to` are unsettled, as far as there are any. */
  unsettleSteps(from: number, to: number): void {
    const first = this.t0 + Math.max(0, Math.ceil((from - 1e-6 - this.t0) / this.step)) * this.step;
    const last = Math.min(this.end, this.t0 + Math.ceil((to - 1e-6 - this.t0) / this.step - 1) * this.step);
    if (first > last + this.step / 2) return;
    this.unsettled = { from: Math.min(first, this.unsettled?.from ?? first), to: Math.max(last, this.unsettled?.to ?? last) };
  }

  /** The answer is complete as of `t`. */
  progress(t: number): void {
    this.commit(t, true);
    this.liveAt = t;
    this.version++;
  }

  /** Writes the present values to all steps before `t`, and to `t` itself if `inclusive`. */
  private commit(t: number, inclusive: boolean): void {
    for (;;) {
      const next = this.end + this.step;
      if (inclusive ? next > t + 1e-6 : next >= t - 1e-6) break;
      this.reserve(this.length);
      for (const series of this.series.values()) {
        if (series.now !== null) this.put(series, this.length, parseValue(series.now));
        else if (series.nowHistogram) this.putHistogram(series, this.length, series.nowHistogram);
        else series.values[this.length] = NaN;
      }
      this.length++;
      this.pictures++;
    }
    this.trim();
  }

  /** The first index of the picture. */
  get first(): number {
    return Math.max(0, this.length - Math.floor(this.window / this.step) - 1);
  }

  /** What the table says of a series. */
  summary(series: Series): Summary {
    let count = 0;
    let sum = 0;
    let min = Infinity;
    let max = -Infinity;
    let last = NaN;
    let at = NaN;
    for (let i = this.first; i < this.length; i++) {
      const value = series.values[i]!;
      if (Number.isNaN(value)) continue;
      count++;
      sum += value;
      last = value;
      at = this.time(i);
      if (value < min) min = value;
      if (value > max) max = value;
    }
    return { count, min: count ? min : NaN, max: count ? max : NaN, avg: count ? sum / count : NaN, last, at };
  }

  /** The value at a time; NaN: none. */
  valueAt(series: Series, t: number): number {
    const index = this.index(t);
    return index >= 0 && index < this.length ? series.values[index]! : NaN;
  }

  /** The present value as a number; NaN: none. */
  nowValue(series: Series): number {
    if (series.nowHistogram) return meanOf(series.nowHistogram);
    return series.now === null ? NaN : parseValue(series.now);
  }
}

/** Sums of stacked series at one step: the top of each, in the order given. Missing values count as nothing. */
export function stack(values: number[]): number[] {
  let up = 0;
  let down = 0;
  return values.map((value) => {
    if (Number.isNaN(value)) return NaN;
    if (value >= 0) return (up += value);
    return (down += value);
  });
}

/** The range of values of the picture; null: no value is finite. */
export function domain(store: Store, shown: Series[], stacked: boolean): { min: number; max: number } | null {
  const { min, max } = stacked ? domainOfStack(store, shown) : domainOfLines(store, shown);
  return min <= max ? { min, max } : null;
}

function domainOfLines(store: Store, shown: Series[]): { min: number; max: number } {
  let min = Infinity;
  let max = -Infinity;
  const { first, length } = store;
  // Series by series: their values lie side by side in memory.
  for (const { values } of shown) {
    for (let i = first; i < length; i++) {
      const value = values[i]!;
      if (value < min && value > -Infinity) min = value;
      if (value > max && value < Infinity) max = value;
    }
  }
  return { min, max };
}

function domainOfStack(store: Store, shown: Series[]): { min: number; max: number } {
  let min = Infinity;
  let max = -Infinity;
  for (let i = store.first; i < store.length; i++) {
    let up = 0;
    let down = 0;
    for (const series of shown) {
      const value = series.values[i]!;
      if (!Number.isFinite(value)) continue;
      if (value >= 0) up += value;
      else down += value;
    }
    min = Math.min(min, down);
    max = Math.max(max, up);
  }
  return { min, max };
}
