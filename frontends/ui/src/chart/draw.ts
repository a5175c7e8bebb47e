// Draws a chart on three canvases: axes; lines, stacks or cells; and what moves with the pointer. No library: of a
// chart library only the axes would be used, because thousands of live points need a layer of their own.
import type { Unit } from '../format/numbers';
import { logTicks, niceStep, ticks, type Ticks } from '../format/numbers';
import { clockTime, timeTicks, zoneName, type Zone } from '../format/time';
import { compare } from '../promql/ast';
import type { Heat } from './heat';
import { FEW, RANKS, type Paint } from './paint';
import { COLORS, stack, type Series, type Store } from './store';

/** The colours of the theme, read from the style sheet. */
export interface Colors { series: string[]; text: string; grid: string; line: string; live: string; warn: string; err: string; bg: string; tint: string; heat: [string, string] }

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
  /** The values some time ago, moved to the present; null: they are not compared. */
  before: Store | null;
  /** How values on the axis are written; without it, by the unit. */
  label?: (value: number) => string;
  /** How many values the axis has; 0 or nothing: by its height. */
  ticks?: number;
}

/** Where the picture lies, in CSS pixels, and which values it shows. */
export interface Frame { left: number; right: number; top: number; bottom: number; from: number; to: number; min: number; max: number; log: boolean }

/** Reads the tokens of the theme from an element. */
export function readColors(element: Element): Colors {
  const style = getComputedStyle(element);
  const token = (name: string) => style.getPropertyValue(name).trim();
  return {
    series: Array.from({ length: COLORS + RANKS }, (_, i) => token(`--s${i}`)),
    text: token('--text-3'), grid: token('--grid'), line: token('--line'), live: token('--live'), warn: token('--warn'), err: token('--err'),
    bg: token('--bg'), tint: token('--err-tint'), heat: [token('--heat-0'), token('--heat-1')],
  };
}

const DASHES: number[][] = [[], [6, 3], [2, 3]];
/** Values of another day are dashed. */
const BEFORE_DASH = [3, 4];

/** The pixel of a time. */
export function xOf(frame: Frame, t: number): number {
  return frame.left + ((t - frame.from) / (frame.to - frame.from)) * (frame.right - frame.left);
}

/** The pixel of a value; infinite ones lie at the edge. */
export function yOf(frame: Frame, value: number): number {
  if (value === Infinity) return frame.top;
  if (value === -Infinity) return frame.bottom;
  if (frame.log) {
    if (value <= frame.min) return frame.bottom;
    return frame.bottom - (Math.log(value / frame.min) / Math.log(frame.max / frame.min)) * (frame.bottom - frame.top);
  }
  return frame.bottom - ((value - frame.min) / (frame.max - frame.min)) * (frame.bottom - frame.top);
}

/** The value at a pixel. */
export function valueAt(frame: Frame, y: number): number {
  const share = (frame.bottom - y) / (frame.bottom - frame.top);
  return frame.log ? frame.min * (frame.max / frame.min) ** share : frame.min + share * (frame.max - frame.min);
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

/** How long a range of values that is no longer needed stays, seconds: so the picture is seldom drawn anew. */
const SHRINK_AFTER = 30;

/** The range of the y axis, and since when a smaller one would do. */
export interface YScale { min: number; max: number; roomySince: number }

/** The next range: it grows at once and shrinks after a while. `now` is in seconds. */
export function nextScale(before: YScale | null, wanted: { min: number; max: number }, now: number): YScale {
  const fits = before !== null && wanted.min >= before.min && wanted.max <= before.max;
  if (!fits || (wanted.min === before.min && wanted.max === before.max)) return { ...wanted, roomySince: 0 };
  // Four times too large is another picture: a zoom, or a peak that left it.
  if (before.max - before.min > 4 * (wanted.max - wanted.min)) return { ...wanted, roomySince: 0 };
  const since = before.roomySince === 0 ? now : before.roomySince;
  return now - since >= SHRINK_AFTER ? { ...wanted, roomySince: 0 } : { min: before.min, max: before.max, roomySince: since };
}

/** The context of a canvas with the size that the style sheet gives it; a canvas of another size is emptied. */
export function contextOf(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const ratio = devicePixelRatio;
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const c = canvas.getContext('2d')!;
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.font = '11.5px system-ui, sans-serif';
  return c;
}

/** Draws the axes, and the tint where a comparison holds; says where things lie. */
export function drawGrid(canvas: HTMLCanvasElement, store: Store, shown: Series[], look: Look, scale: { min: number; max: number }, heat: Heat | null, colors: Colors): Frame {
  const c = contextOf(canvas);
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  c.clearRect(0, 0, width, height);
  const count = look.ticks || Math.max(2, Math.min(6, Math.floor(height / 36)));
  const axis = heat ? logTicks(scale.min, scale.max, look.unit, count) : ticks(scale.min, scale.max, look.unit, count);
  if (look.label) axis.labels = axis.values.map(look.label);
  const labelWidth = Math.max(...axis.labels.map((l) => c.measureText(l).width), axis.unit === '' ? 0 : c.measureText(axis.unit).width);
  const frame: Frame = {
    left: Math.ceil(labelWidth) + 10, right: width - 10, top: 20, bottom: height - 20,
    from: store.time(store.length - 1) - store.window, to: store.time(store.length - 1), min: scale.min, max: scale.max, log: heat !== null,
  };
  drawAxes(c, frame, axis, look, colors);
  if (look.threshold) shadeThreshold(c, store, shown, frame, look.threshold, colors);
  return frame;
}

/** What lies on the canvas of lines, so that new steps can be added to it. */
export interface DrawnPicture { frame: Frame; key: string; shown: Series[]; rewrites: number; paint: Paint; /** Device pixels by which it lies too far right. */ rest: number }

/** Steps that come at once and are more than this are drawn with all others. */
const SCROLL_STEPS = 20;

/** Draws the lines. If only steps were added, what is there moves left and the newest stretch is added. */
export function drawPicture(canvas: HTMLCanvasElement, drawn: DrawnPicture | null, store: Store, shown: Series[], frame: Frame, look: Look, heat: Heat | null, paint: Paint, key: string, colors: Colors): DrawnPicture {
  const plain = heat === null && !look.stacked && look.before === null && store.lost.length === 0;
  if (plain && drawn && drawn.key === key && drawn.shown === shown && drawn.rewrites === store.rewrites && sameScale(drawn.frame, frame)) {
    const steps = Math.round((frame.to - drawn.frame.to) / store.step);
    if (steps === 0) return drawn;
    if (steps > 0 && steps <= SCROLL_STEPS) return { ...drawn, frame, rest: scroll(canvas, drawn, store, shown, frame, steps, colors) };
  }
  const c = contextOf(canvas);
  c.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  c.save();
  clip(c, frame, frame.left);
  if (heat) drawHeat(c, store, heat, frame, colors);
  else if (look.stacked) drawStack(c, store, shown, frame, paint, colors);
  else drawLines(c, store, shown, frame, look.before, paint, colors);
  drawLost(c, store, frame, colors);
  c.restore();
  return { frame, key, shown, rewrites: store.rewrites, paint, rest: 0 };
}

function sameScale(a: Frame, b: Frame): boolean {
  return a.min === b.min && a.max === b.max && a.left === b.left && a.right === b.right && a.top === b.top && a.bottom === b.bottom && a.log === b.log
    && Math.abs(a.to - a.from - (b.to - b.from)) < 1e-6;
}

function clip(c: CanvasRenderingContext2D, frame: Frame, from: number): void {
  c.beginPath();
  c.rect(from, frame.top - 1, frame.right - from, frame.bottom - frame.top + 2);
  c.clip();
}

/** Moves the picture left by some steps and draws the newest ones. Returns the part of a pixel that it could not move. */
function scroll(canvas: HTMLCanvasElement, drawn: DrawnPicture, store: Store, shown: Series[], frame: Frame, steps: number, colors: Colors): number {
  const c = contextOf(canvas);
  const ratio = devicePixelRatio;
  const exact = (steps * store.step * (frame.right - frame.left) * ratio) / (frame.to - frame.from) + drawn.rest;
  const whole = Math.round(exact);
  c.setTransform(1, 0, 0, 1, 0, 0);
  c.globalCompositeOperation = 'copy';
  c.drawImage(canvas, -whole, 0);
  c.globalCompositeOperation = 'source-over';
  c.clearRect(0, 0, frame.left * ratio, canvas.height);
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.save();
  // At a whole pixel: half a pixel drawn twice would be seen. One more than was moved, because the picture may have ended
  // within a pixel, and from a step before, so that the lines come from the side: else the join is seen.
  const from = frame.right - (whole + 1) / ratio;
  c.clearRect(from, 0, frame.right - from, canvas.clientHeight);
  clip(c, frame, from);
  drawLines(c, store, shown, frame, null, drawn.paint, colors, Math.max(0, store.length - 2 - steps));
  c.restore();
  return exact - whole;
}

function drawAxes(c: CanvasRenderingContext2D, frame: Frame, axis: Ticks, look: Look, colors: Colors): void {
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
function trace(c: CanvasRenderingContext2D, store: Store, series: Series, frame: Frame, from: number): [number, number][] {
  const lone: [number, number][] = [];
  const { values } = series;
  const scale = (frame.right - frame.left) / (frame.to - frame.from);
  const start = frame.left + (store.t0 - frame.from) * scale;
  const perStep = store.step * scale;
  let drawn = false;
  for (let i = from; i < store.length; i++) {
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

function drawLines(c: CanvasRenderingContext2D, store: Store, shown: Series[], frame: Frame, before: Store | null, paint: Paint, colors: Colors, from?: number): void {
  const few = shown.length <= FEW;
  // One step before the picture, so that lines enter it from the side.
  const first = from ?? Math.max(0, store.first - 1);
  c.lineJoin = 'round';
  const used = new Map<number, number>();
  c.lineWidth = few ? 1.5 : 1;
  // Thinner the more there are: where lines are dense the colour grows.
  c.globalAlpha = few ? 1 : Math.min(0.85, Math.max(0.3, 120 / shown.length));
  for (const series of shown) {
    const color = paint.get(series.key) ?? series.color;
    const nth = used.get(color) ?? 0;
    used.set(color, nth + 1);
    const earlier = before?.series.get(series.key);
    if (before && earlier && few) {
      c.save();
      c.setLineDash(BEFORE_DASH);
      c.globalAlpha = 0.65;
      c.lineWidth = 1;
      strokeSeries(c, before, earlier, frame, colors.series[color]!, 0);
      c.restore();
    }
    c.setLineDash(few ? DASHES[nth % DASHES.length]! : []);
    strokeSeries(c, store, series, frame, colors.series[color]!, first);
  }
  c.globalAlpha = 1;
  c.setLineDash([]);
}

/** Draws one series above all others. */
export function drawFocus(c: CanvasRenderingContext2D, store: Store, series: Series, frame: Frame, color: string, colors: Colors): void {
  c.save();
  clip(c, frame, frame.left);
  c.lineJoin = 'round';
  const first = Math.max(0, store.first - 1);
  c.lineWidth = 5;
  strokeSeries(c, store, series, frame, colors.bg, first);
  c.lineWidth = 2.5;
  strokeSeries(c, store, series, frame, color, first);
  c.restore();
}

function strokeSeries(c: CanvasRenderingContext2D, store: Store, series: Series, frame: Frame, color: string, first: number): void {
  c.strokeStyle = color;
  c.fillStyle = color;
  c.beginPath();
  const lone = trace(c, store, series, frame, first);
  c.stroke();
  for (const [x, y] of lone) c.fillRect(x - 1.5, y - 1.5, 3, 3);
}

function drawStack(c: CanvasRenderingContext2D, store: Store, shown: Series[], frame: Frame, paint: Paint, colors: Colors): void {
  const order = stackOrder(store, shown);
  const tops = new Map<number, number[]>();
  for (let i = store.first; i < store.length; i++) tops.set(i, stack(order.map((s) => s.values[i]!)));
  for (let n = order.length - 1; n >= 0; n--) {
    const series = order[n]!;
    const top = (i: number) => tops.get(i)?.[n] ?? NaN;
    c.fillStyle = colors.series[paint.get(series.key) ?? series.color]!;
    c.globalAlpha = 0.75;
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

/** The cells of histograms: darker the more observations, on a logarithmic scale. */
function drawHeat(c: CanvasRenderingContext2D, store: Store, heat: Heat, frame: Frame, colors: Colors): void {
  // At whole pixels: half ones would be seams.
  const edge = (t: number) => Math.round(xOf(frame, t));
  heat.columns.forEach((column, i) => {
    const right = edge(store.time(heat.first + i));
    const left = edge(store.time(heat.first + i - 1));
    for (const { lower, upper, count } of column) {
      if (count <= 0) continue;
      const top = Number.isFinite(upper) ? Math.round(yOf(frame, upper)) : frame.top;
      const bottom = lower > 0 ? Math.round(yOf(frame, lower)) : frame.bottom;
      c.fillStyle = heatColor(count / heat.most, colors);
      c.fillRect(left, top, Math.max(1, right - left), Math.max(1, bottom - top));
    }
  });
}

const HEAT_STEPS = 12;
/** How much of the scale of colours small counts have. */
const HEAT_SPREAD = 60;

/** The colour of a share of the greatest count. */
export function heatColor(share: number, colors: Colors): string {
  const level = Math.ceil((Math.log1p(share * HEAT_SPREAD) / Math.log1p(HEAT_SPREAD)) * HEAT_STEPS) / HEAT_STEPS;
  const channel = (color: string, at: number) => parseInt(color.slice(1 + 2 * at, 3 + 2 * at), 16);
  const [from, to] = colors.heat;
  return `rgb(${[0, 1, 2].map((i) => Math.round(channel(from, i) + (channel(to, i) - channel(from, i)) * level)).join(',')})`;
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
export function drawThreshold(c: CanvasRenderingContext2D, frame: Frame, limit: { op: string; value: number }, colors: Colors): void {
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

/** The line at the newest step, with the time as of which the picture is complete. */
export function drawEdge(c: CanvasRenderingContext2D, frame: Frame, at: number, behind: boolean, zone: Zone, colors: Colors): void {
  const x = Math.round(frame.right) - 0.5;
  c.strokeStyle = c.fillStyle = behind ? colors.warn : colors.live;
  c.lineWidth = 1;
  line(c, x, frame.top, x, frame.bottom);
  c.beginPath();
  c.arc(x, frame.top, 3, 0, 2 * Math.PI);
  c.fill();
  c.textAlign = 'right';
  c.textBaseline = 'middle';
  c.fillText(`complete to ${clockTime(at, zone)}`, frame.right - 2, frame.top - 10);
}
