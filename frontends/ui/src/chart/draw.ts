// Draws a chart on a canvas: axes, lines or stacks, thresholds, the live edge. No library: of a chart library only
// the axes would be used, because thousands of live points need a layer of their own.
import type { Unit } from '../format/numbers';
import { niceStep, ticks } from '../format/numbers';
import { timeTicks, zoneName, type Zone } from '../format/time';
import { compare } from '../promql/ast';
import { COLORS, domain, stack, type Series, type Store } from './store';

/** The colours of the theme, read from the style sheet. */
export interface Colors { series: string[]; text: string; grid: string; line: string; live: string; warn: string; err: string; bg: string; tint: string }

/** How a chart is drawn. */
export interface Look {
  unit: Unit;
  stacked: boolean;
  zero: boolean;
  zone: Zone;
  threshold: { op: string; value: number } | null;
  /** The frontier to mark; 0: none. */
  liveEdge: number;
  behind: boolean;
  /** The key of the series to emphasise. */
  focus: string | null;
}

/** Where the picture lies, in CSS pixels, and which values it shows. */
export interface Frame { left: number; right: number; top: number; bottom: number; from: number; to: number; min: number; max: number }

/** Reads the tokens of the theme from an element. */
export function readColors(element: Element): Colors {
  const style = getComputedStyle(element);
  const token = (name: string) => style.getPropertyValue(name).trim();
  return {
    series: Array.from({ length: COLORS }, (_, i) => token(`--s${i}`)),
    text: token('--text-3'), grid: token('--grid'), line: token('--line'), live: token('--live'), warn: token('--warn'), err: token('--err'),
    bg: token('--bg'), tint: token('--err-tint'),
  };
}

const DASHES: number[][] = [[], [6, 3], [2, 3]];
/** Up to this many series each has a colour and a dash. */
export const FEW = 24;
/** The colour of the emphasised one of many. */
export const FOCUS_COLOR = 1;

/** The pixel of a time. */
export function xOf(frame: Frame, t: number): number {
  return frame.left + ((t - frame.from) / (frame.to - frame.from)) * (frame.right - frame.left);
}

/** The pixel of a value; infinite ones lie at the edge. */
export function yOf(frame: Frame, value: number): number {
  if (value === Infinity) return frame.top;
  if (value === -Infinity) return frame.bottom;
  return frame.bottom - ((value - frame.min) / (frame.max - frame.min)) * (frame.bottom - frame.top);
}

/** The values of the y axis: from a little below the least to a little above the greatest. */
export function yRange(found: { min: number; max: number } | null, look: Pick<Look, 'stacked' | 'zero' | 'threshold'>): { min: number; max: number } {
  if (!found) return { min: 0, max: 1 };
  let { min, max } = found;
  const limit = look.threshold?.value;
  if (limit !== undefined && Number.isFinite(limit)) {
    // A threshold far away must not flatten the lines.
    const span = Math.max(max - min, Math.abs(max) * 0.1, 1e-12);
    if (limit >= min - 4 * span && limit <= max + 4 * span) {
      min = Math.min(min, limit);
      max = Math.max(max, limit);
    }
  }
  if (look.zero || look.stacked || (min >= 0 && max > 3 * min)) {
    min = Math.min(0, min);
    max = Math.max(0, max);
  }
  if (min === max) {
    const around = min === 0 ? 1 : Math.abs(min) * 0.1;
    return { min: min - (min === 0 ? 0 : around), max: max + around };
  }
  // The upper edge lies on a round value, so that it moves seldom.
  const step = niceStep((max - min) / 10);
  const top = Math.ceil((max + (max - min) * 0.02) / step) * step;
  const bottom = min === 0 ? 0 : Math.floor((min - (max - min) * 0.02) / step) * step;
  return { min: bottom, max: top };
}

/** Draws the chart and says where things lie. */
export function drawChart(canvas: HTMLCanvasElement, store: Store, shown: Series[], look: Look, colors: Colors): Frame {
  const ratio = devicePixelRatio;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const c = canvas.getContext('2d')!;
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  c.font = '11.5px system-ui, sans-serif';
  const range = yRange(domain(store, shown, look.stacked), look);
  const axis = ticks(range.min, range.max, look.unit, Math.max(2, Math.min(6, Math.floor(height / 36))));
  const labelWidth = Math.max(...axis.labels.map((l) => c.measureText(l).width), axis.unit === '' ? 0 : c.measureText(axis.unit).width);
  const frame: Frame = {
    left: Math.ceil(labelWidth) + 10, right: width - 10, top: axis.unit === '' ? 10 : 20, bottom: height - 20,
    from: store.time(store.length - 1) - store.window, to: store.time(store.length - 1), min: range.min, max: range.max,
  };
  drawAxes(c, frame, axis, look, colors);
  c.save();
  c.beginPath();
  c.rect(frame.left, frame.top - 1, frame.right - frame.left, frame.bottom - frame.top + 2);
  c.clip();
  if (look.threshold) shadeThreshold(c, store, shown, frame, look.threshold, colors);
  if (look.stacked) drawStack(c, store, shown, frame, colors, look.focus);
  else drawLines(c, store, shown, frame, colors, look.focus);
  if (look.threshold) drawThreshold(c, frame, look.threshold, colors);
  drawLost(c, store, frame, colors);
  c.restore();
  if (look.liveEdge > 0) drawEdge(c, frame, look.behind ? colors.warn : colors.live);
  return frame;
}

function drawAxes(c: CanvasRenderingContext2D, frame: Frame, axis: ReturnType<typeof ticks>, look: Look, colors: Colors): void {
  c.lineWidth = 1;
  c.fillStyle = colors.text;
  c.textBaseline = 'middle';
  c.textAlign = 'right';
  axis.values.forEach((value, i) => {
    const y = Math.round(yOf(frame, value)) + 0.5;
    c.strokeStyle = value === 0 ? colors.line : colors.grid;
    line(c, frame.left, y, frame.right, y);
    c.fillText(axis.labels[i]!, frame.left - 6, y);
  });
  if (axis.unit !== '') {
    c.textAlign = 'left';
    c.fillText(axis.unit, 0, 8);
  }
  c.textBaseline = 'top';
  const found = timeTicks(frame.from, frame.to, look.zone, Math.max(2, Math.floor((frame.right - frame.left) / 84)));
  c.strokeStyle = colors.grid;
  found.forEach(({ t, label }) => {
    const x = Math.round(xOf(frame, t)) + 0.5;
    c.strokeStyle = colors.grid;
    line(c, x, frame.top, x, frame.bottom);
    const half = c.measureText(label).width / 2;
    c.textAlign = 'center';
    c.fillText(label, Math.min(Math.max(x, frame.left + half), frame.right - half), frame.bottom + 5);
  });
  if (zoneName(frame.to, look.zone) !== 'UTC') {
    c.textAlign = 'left';
    c.fillText(zoneName(frame.to, look.zone), 0, frame.bottom + 5);
  }
}

function line(c: CanvasRenderingContext2D, x0: number, y0: number, x1: number, y1: number): void {
  c.beginPath();
  c.moveTo(x0, y0);
  c.lineTo(x1, y1);
  c.stroke();
}

/** Adds the line of a series to the path; a step without a value breaks it. Returns lone points. */
function trace(c: CanvasRenderingContext2D, store: Store, series: Series, frame: Frame): [number, number][] {
  const lone: [number, number][] = [];
  const { values } = series;
  const scale = (frame.right - frame.left) / (frame.to - frame.from);
  const start = frame.left + (store.t0 - frame.from) * scale;
  const perStep = store.step * scale;
  let drawn = false;
  // One step before the picture, so that lines enter it from the side.
  for (let i = Math.max(0, store.first - 1); i < store.length; i++) {
    const value = values[i]!;
    if (Number.isNaN(value)) {
      drawn = false;
      continue;
    }
    const x = start + i * perStep;
    const y = yOf(frame, value);
    if (drawn) c.lineTo(x, y);
    else {
      c.moveTo(x, y);
      if (i + 1 >= store.length || Number.isNaN(values[i + 1]!)) lone.push([x, y]);
    }
    drawn = true;
  }
  return lone;
}

function drawLines(c: CanvasRenderingContext2D, store: Store, shown: Series[], frame: Frame, colors: Colors, focus: string | null): void {
  const few = shown.length <= FEW;
  c.lineJoin = 'round';
  const used = new Map<number, number>();
  for (const series of shown) {
    const nth = used.get(series.color) ?? 0;
    used.set(series.color, nth + 1);
    if (series.key === focus) continue;
    c.globalAlpha = focus !== null ? (few ? 0.35 : 0.12) : few ? 1 : Math.min(0.6, Math.max(0.15, 40 / shown.length));
    c.lineWidth = few ? 1.5 : 1;
    c.setLineDash(few ? DASHES[nth % DASHES.length]! : []);
    // Hundreds of lines in eight colours are brown: one hue shows where they are dense.
    strokeSeries(c, store, series, frame, colors.series[few ? series.color : 0]!);
  }
  const emphasised = shown.find((s) => s.key === focus);
  c.globalAlpha = 1;
  c.setLineDash([]);
  if (!emphasised) return;
  c.lineWidth = 2.5;
  strokeSeries(c, store, emphasised, frame, few ? colors.series[emphasised.color]! : colors.series[FOCUS_COLOR]!);
}

function strokeSeries(c: CanvasRenderingContext2D, store: Store, series: Series, frame: Frame, color: string): void {
  c.strokeStyle = color;
  c.fillStyle = color;
  c.beginPath();
  const lone = trace(c, store, series, frame);
  c.stroke();
  for (const [x, y] of lone) c.fillRect(x - 1.5, y - 1.5, 3, 3);
}

function drawStack(c: CanvasRenderingContext2D, store: Store, shown: Series[], frame: Frame, colors: Colors, focus: string | null): void {
  const order = stackOrder(store, shown);
  const tops = new Map<number, number[]>();
  for (let i = store.first; i < store.length; i++) tops.set(i, stack(order.map((s) => s.values[i]!)));
  for (let n = order.length - 1; n >= 0; n--) {
    const series = order[n]!;
    c.fillStyle = colors.series[series.color]!;
    c.globalAlpha = focus === null || focus === series.key ? 0.75 : 0.25;
    const top = (i: number) => tops.get(i)?.[n] ?? NaN;
    // An area for each stretch without a gap: across a gap it would show values that nobody measured.
    for (let i = store.first; i < store.length; i++) {
      if (!Number.isFinite(top(i))) continue;
      let last = i;
      while (Number.isFinite(top(last + 1))) last++;
      fillStretch(c, store, series, frame, top, i, last);
      i = last;
    }
  }
  c.globalAlpha = 1;
}

/** Fills the area of a series between its values at the steps `from` to `to` and those below it. */
function fillStretch(c: CanvasRenderingContext2D, store: Store, series: Series, frame: Frame, top: (i: number) => number, from: number, to: number): void {
  const bottom = (i: number) => yOf(frame, top(i) - series.values[i]!);
  if (from === to) {
    const x = xOf(frame, store.time(from));
    const y = yOf(frame, top(from));
    c.fillRect(x - 1, Math.min(y, bottom(from)), 2, Math.abs(bottom(from) - y));
    return;
  }
  c.beginPath();
  for (let i = from; i <= to; i++) c.lineTo(xOf(frame, store.time(i)), yOf(frame, top(i)));
  for (let i = to; i >= from; i--) c.lineTo(xOf(frame, store.time(i)), bottom(i));
  c.fill();
}

/** The series in the order in which they are stacked: the greatest mean lowest. */
export function stackOrder(store: Store, shown: Series[]): Series[] {
  const mean = new Map(shown.map((s) => [s.key, store.summary(s).avg || 0]));
  return [...shown].sort((a, b) => mean.get(b.key)! - mean.get(a.key)! || (a.key < b.key ? -1 : 1));
}

/** Tints what satisfies the comparison, in the stretches where any series does. */
function shadeThreshold(c: CanvasRenderingContext2D, store: Store, shown: Series[], frame: Frame, limit: { op: string; value: number }, colors: Colors): void {
  c.fillStyle = colors.tint;
  const y = Math.min(Math.max(yOf(frame, limit.value), frame.top), frame.bottom);
  const above = limit.op.startsWith('>');
  const below = limit.op.startsWith('<');
  const top = below ? y : frame.top;
  const bottom = above ? y : frame.bottom;
  let from = -1;
  for (let i = store.first; i <= store.length; i++) {
    const holds = i < store.length && shown.some((s) => !Number.isNaN(s.values[i]!) && compare(s.values[i]!, limit.op, limit.value));
    if (holds && from < 0) from = i;
    if (!holds && from >= 0) {
      const x0 = xOf(frame, store.time(from) - store.step / 2);
      const x1 = xOf(frame, store.time(i - 1) + store.step / 2);
      c.fillRect(x0, top, x1 - x0, bottom - top);
      from = -1;
    }
  }
}

/** A dashed line at the threshold. */
function drawThreshold(c: CanvasRenderingContext2D, frame: Frame, limit: { op: string; value: number }, colors: Colors): void {
  const y = yOf(frame, limit.value);
  if (y < frame.top || y > frame.bottom) return;
  c.strokeStyle = colors.err;
  c.fillStyle = colors.err;
  c.lineWidth = 1;
  c.setLineDash([5, 4]);
  line(c, frame.left, y, frame.right, y);
  c.setLineDash([]);
  c.textAlign = 'left';
  c.textBaseline = y < frame.top + 16 ? 'top' : 'bottom';
  c.fillText(`${limit.op} ${limit.value}`, frame.left + 4, y < frame.top + 16 ? y + 2 : y - 2);
}

/** Hatches the stretches that were lost and are not asked again yet. */
function drawLost(c: CanvasRenderingContext2D, store: Store, frame: Frame, colors: Colors): void {
  c.strokeStyle = colors.line;
  c.lineWidth = 1;
  for (const { from, to } of store.lost) {
    const x0 = xOf(frame, from);
    const x1 = Math.max(xOf(frame, to), x0 + 4);
    for (let x = x0; x < x1; x += 6) line(c, x, frame.bottom, Math.min(x + 12, x1), frame.top);
  }
}

function drawEdge(c: CanvasRenderingContext2D, frame: Frame, color: string): void {
  c.strokeStyle = color;
  c.fillStyle = color;
  c.lineWidth = 1;
  line(c, Math.round(frame.right) - 0.5, frame.top, Math.round(frame.right) - 0.5, frame.bottom);
  c.beginPath();
  c.arc(Math.round(frame.right) - 0.5, frame.top, 3, 0, 2 * Math.PI);
  c.fill();
}
