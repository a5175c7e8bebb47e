// The chart of a panel: redraws when its store changed, shows what is under the pointer, zooms by dragging.
import { signal } from '@preact/signals';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { formatValue } from '../format/numbers';
import { clockTime, dateTime } from '../format/time';
import { link, type Labels } from '../format/labels';
import { noteDrawing } from '../inspect';
import { theme, zone } from '../settings';
import { contextOf, drawEdge, drawFocus, drawGrid, drawPicture, drawThreshold, nextScale, readColors, stackOrder, valueAt, xOf, yOf, yRange, type Colors, type DrawnPicture, type Frame, type Look, type YScale } from './draw';
import { heatOf, quantile, type Bucket, type Heat } from './heat';
import { FEW, type Paint } from './paint';
import { domain, stack, type Series, type Store } from './store';

/** The time under the pointer, shared by all charts of the page; 0: none. */
const cursor = signal(0);

/** An observation that the program marked. */
export interface Exemplar { t: number; value: number; labels: Labels; series: Labels }

interface Props {
  store: Store;
  shown: Series[];
  /** Grows when something of the answer changed. */
  version: number;
  look: Omit<Look, 'zone'>;
  paint: Paint;
  /** Whether histograms are drawn as cells. */
  heat: boolean;
  exemplars: Exemplar[];
  focus: string | null;
  setFocus(key: string | null): void;
  zoom(from: number, to: number): void;
  name(series: Series): string;
}

interface Hover { x: number; y: number; index: number; near: { series: Series; value: number }[]; total: number | null; bucket: Bucket | null; column: Bucket[]; exemplar: Exemplar | null }

const NEIGHBOURS = 6;
const DRAG_PIXELS = 6;
const EXEMPLAR_PIXELS = 7;

export function Chart(props: Props) {
  const { store, shown, look, focus, paint } = props;
  const grid = useRef<HTMLCanvasElement>(null);
  const base = useRef<HTMLCanvasElement>(null);
  const over = useRef<HTMLCanvasElement>(null);
  const frame = useRef<Frame | null>(null);
  const drawn = useRef<DrawnPicture | null>(null);
  const scale = useRef<YScale | null>(null);
  const [hover, setHover] = useState<Hover | null>(null);
  const [size, setSize] = useState(0);
  const [pinned, setPinned] = useState<Exemplar | null>(null);
  const [pictures, setPictures] = useState(0);
  const drag = useRef<number | null>(null);
  /** Where a drag with Shift began: it zooms into values, too. */
  const dragY = useRef<number | null>(null);
  const [values, setValues] = useState<{ min: number; max: number } | null>(null);
  const held = useRef(false);

  useEffect(() => {
    const observer = new ResizeObserver(() => setSize((n) => n + 1));
    observer.observe(base.current!);
    return () => observer.disconnect();
  }, []);

  const themeNow = theme.value;
  const zoneNow = zone.value;
  const heat = useMemo(() => (props.heat ? heatOf(store, shown) : null), [props.heat, store, shown, store.pictures]);
  const { liveEdge, behind, before, ...rest } = look;
  const key = JSON.stringify([rest, themeNow, size]);
  useEffect(() => {
    scale.current = null;
  }, [store, shown, key, heat === null]);
  useEffect(() => {
    if (held.current || store.length === 0) return undefined;
    const id = requestAnimationFrame(() => {
      if (!grid.current || !base.current) return;
      const began = performance.now();
      const colors = readColors(base.current);
      const full = { ...look, zone: zoneNow };
      scale.current = heat ? { ...heatScale(heat), roomySince: 0 } : values ? { ...values, roomySince: 0 } : nextScale(scale.current, yRange(rangeOf(store, shown, before, look.stacked), look), Date.now() / 1000);
      frame.current = drawGrid(grid.current, store, shown, full, scale.current, heat, colors);
      drawn.current = drawPicture(base.current, drawn.current, store, shown, frame.current, full, heat, paint, key, colors);
      noteDrawing(performance.now() - began, props.exemplars.length);
      setPictures((n) => n + 1);
    });
    return () => cancelAnimationFrame(id);
  }, [store, shown, store.pictures, before, before?.pictures, key, zoneNow, heat, paint, values, props.exemplars]);

  const cursorNow = cursor.value;
  useEffect(() => {
    const id = requestAnimationFrame(() => {
      const f = frame.current;
      if (!over.current || !f || store.length === 0) return;
      const c = contextOf(over.current);
      c.clearRect(0, 0, over.current.clientWidth, over.current.clientHeight);
      const colors = readColors(over.current);
      drawOver({ ...props, c, f, colors, hover, heat, cursorTime: cursorNow, drag: drag.current });
      if (liveEdge > 0) drawEdge(c, f, liveEdge, behind, zoneNow, colors);
    });
    return () => cancelAnimationFrame(id);
  }, [hover, cursorNow, pictures, size, focus, liveEdge, behind, props.exemplars, paint]);

  const at = (event: PointerEvent) => {
    const box = base.current!.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const move = (event: PointerEvent) => {
    const f = frame.current;
    if (!f) return;
    const { x, y } = at(event);
    const found = find(props, f, heat, x, y);
    setHover(found);
    cursor.value = found ? store.time(found.index) : 0;
    props.setFocus(found?.near[0]?.series.key ?? null);
  };
  const leave = () => {
    if (drag.current !== null) return;
    setHover(null);
    cursor.value = 0;
    props.setFocus(null);
  };
  const down = (event: PointerEvent) => {
    if (event.button !== 0 || event.pointerType === 'touch') return;
    drag.current = at(event).x;
    dragY.current = event.shiftKey ? at(event).y : null;
    // The picture stands while something is dragged over it.
    held.current = true;
    over.current!.setPointerCapture(event.pointerId);
  };
  const up = (event: PointerEvent) => {
    const from = drag.current;
    drag.current = null;
    held.current = false;
    const f = frame.current;
    if (from === null || !f) return;
    const { x: to, y } = at(event);
    const fromY = dragY.current;
    dragY.current = null;
    if (fromY !== null && Math.abs(y - fromY) >= DRAG_PIXELS) {
      const [a, b] = [valueAt(f, Math.min(Math.max(fromY, f.top), f.bottom)), valueAt(f, Math.min(Math.max(y, f.top), f.bottom))];
      setValues({ min: Math.min(a, b), max: Math.max(a, b) });
    }
    if (Math.abs(to - from) < DRAG_PIXELS) {
      setPinned(hover?.exemplar ?? null);
      return;
    }
    const time = (x: number) => f.from + ((Math.min(Math.max(x, f.left), f.right) - f.left) / (f.right - f.left)) * (f.to - f.from);
    props.zoom(time(Math.min(from, to)), time(Math.max(from, to)));
  };

  const dimmed = focus !== null && !look.stacked && heat === null && shown.length > 1;
  return (
    <>
      <div class="chart">
        <canvas ref={grid} />
        <canvas ref={base} role="img" aria-label={`Chart of ${shown.length} series; the table below has the values`} class={dimmed ? 'dimmed' : ''} />
        <canvas ref={over} onPointerMove={move} onPointerLeave={leave} onPointerDown={down} onPointerUp={up} onDblClick={() => setValues(null)} />
        {values && <button type="button" class="whole" onClick={() => setValues(null)}>All values</button>}
        {hover && (hover.near.length > 0 || hover.bucket || hover.exemplar) && <Tip hover={hover} {...props} width={base.current!.clientWidth} />}
      </div>
      {pinned && <Pinned exemplar={pinned} close={() => setPinned(null)} unit={look.unit} />}
    </>
  );
}

/** The range of all values that are drawn. */
function rangeOf(store: Store, shown: Series[], before: Store | null, stacked: boolean): { min: number; max: number } | null {
  const now = domain(store, shown, stacked);
  if (!before || shown.length > FEW || stacked) return now;
  const then = domain(before, shown.map((s) => before.series.get(s.key)).filter((s) => s !== undefined), false);
  if (!now || !then) return now ?? then;
  return { min: Math.min(now.min, then.min), max: Math.max(now.max, then.max) };
}

/** How far beyond the last bound a bucket without an end reaches. */
const OPEN_END = 2;

/** The axis of cells. */
function heatScale(heat: Heat): { min: number; max: number } {
  const one = heat.min === heat.max;
  return { min: heat.min / (heat.openBelow || one ? OPEN_END : 1), max: heat.max * (heat.openAbove || one ? OPEN_END : 1) };
}

function find(props: Props, f: Frame, heat: Heat | null, x: number, y: number): Hover | null {
  const { store, shown, exemplars } = props;
  if (x < f.left - 8 || x > f.right + 8) return null;
  const t = f.from + ((x - f.left) / (f.right - f.left)) * (f.to - f.from);
  const index = Math.min(store.length - 1, Math.max(store.first, Math.round((t - store.t0) / store.step)));
  const exemplar = exemplars.find((e) => Math.hypot(xOf(f, e.t) - x, yOf(f, clamp(e.value, f)) - y) <= EXEMPLAR_PIXELS) ?? null;
  const found: Hover = { x: xOf(f, store.time(index)), y, index, near: [], total: null, bucket: null, column: [], exemplar };
  if (heat) {
    const value = valueAt(f, y);
    // A cell ends at its step.
    const at = Math.min(store.length - 1, Math.max(store.first, Math.ceil((t - store.t0) / store.step)));
    const column = heat.columns[at - heat.first] ?? [];
    return { ...found, index: at, x: xOf(f, store.time(at)), column, bucket: column.find((b) => value > b.lower && value <= b.upper) ?? null };
  }
  const stacked = props.look.stacked;
  const order = stacked ? stackOrder(store, shown) : shown;
  const tops = stacked ? stack(order.map((s) => s.values[index]!)) : [];
  const all: { series: Series; value: number; distance: number }[] = [];
  let total = 0;
  order.forEach((series, i) => {
    const value = series.values[index]!;
    if (Number.isNaN(value)) return;
    total += value;
    const middle = stacked ? tops[i]! - value / 2 : value;
    all.push({ series, value, distance: Math.abs(yOf(f, middle) - y) });
  });
  all.sort((a, b) => a.distance - b.distance);
  const nearest = all[0]?.series.key;
  found.near = all.slice(0, NEIGHBOURS).sort((a, b) => (a.series.key === nearest ? -1 : b.series.key === nearest ? 1 : b.value - a.value));
  found.total = stacked ? total : null;
  return found;
}

function clamp(value: number, f: Frame): number {
  return Math.min(Math.max(value, f.min), f.max);
}

interface Over extends Omit<Props, 'heat'> { c: CanvasRenderingContext2D; f: Frame; colors: Colors; hover: Hover | null; heat: Heat | null; cursorTime: number; drag: number | null }

const QUANTILES = [0.5, 0.9, 0.99];

function drawOver({ c, f, colors, hover, heat, cursorTime, drag, store, shown, look, focus, paint, exemplars }: Over): void {
  const focused = heat || look.stacked ? undefined : shown.find((s) => s.key === focus);
  const color = (series: Series) => colors.series[paint.get(series.key) ?? series.color]!;
  if (focused && shown.length > 1) drawFocus(c, store, focused, f, color(focused), colors);
  if (look.threshold) drawThreshold(c, f, look.threshold, colors);
  if (heat) drawQuantiles(c, store, heat, f, colors);
  drawExemplars(c, f, exemplars, hover?.exemplar ?? null, colors);
  const x = hover ? hover.x : cursorTime > 0 ? xOf(f, cursorTime) : -1;
  if (x >= f.left && x <= f.right + 1) {
    c.strokeStyle = colors.text;
    c.setLineDash([3, 3]);
    c.beginPath();
    c.moveTo(Math.round(x) + 0.5, f.top);
    c.lineTo(Math.round(x) + 0.5, f.bottom);
    c.stroke();
    c.setLineDash([]);
  }
  const nearest = hover?.near[0];
  if (nearest && hover.total === null) {
    c.fillStyle = color(nearest.series);
    c.strokeStyle = colors.bg;
    c.lineWidth = 2;
    c.beginPath();
    c.arc(hover.x, yOf(f, nearest.value), 4.5, 0, 2 * Math.PI);
    c.fill();
    c.stroke();
  }
  if (drag !== null && hover) {
    c.fillStyle = colors.live;
    c.globalAlpha = 0.2;
    c.fillRect(Math.min(drag, hover.x), f.top, Math.abs(hover.x - drag), f.bottom - f.top);
    c.globalAlpha = 1;
  }
}

/** Lines at the median and above, over the cells, with an edge in the colour of the ground: cells may be dark. */
function drawQuantiles(c: CanvasRenderingContext2D, store: Store, heat: Heat, f: Frame, colors: Colors): void {
  for (const q of QUANTILES) {
    const points = heat.columns.map((column, i) => ({ x: xOf(f, store.time(heat.first + i)), value: quantile(column, q) }));
    for (const [color, width] of [[colors.bg, 3.5], [colors.err, 1.5]] as const) {
      c.strokeStyle = color;
      c.lineWidth = width;
      c.setLineDash(q === 0.5 ? [] : q === 0.9 ? [6, 3] : [2, 3]);
      c.beginPath();
      points.forEach(({ x, value }, i) => {
        if (Number.isNaN(value)) return;
        const y = yOf(f, clamp(value, f));
        if (i === 0 || Number.isNaN(points[i - 1]!.value)) c.moveTo(x, y);
        else c.lineTo(x, y);
      });
      c.stroke();
    }
    const last = points.at(-1)?.value ?? NaN;
    if (Number.isNaN(last)) continue;
    const y = yOf(f, clamp(last, f));
    const atTop = y < f.top + 16;
    c.setLineDash([]);
    c.textAlign = 'right';
    c.textBaseline = atTop ? 'top' : 'bottom';
    c.strokeStyle = colors.bg;
    c.fillStyle = colors.err;
    c.lineWidth = 3;
    c.strokeText(`p${q * 100}`, f.right - 6, atTop ? y + 3 : y - 2);
    c.fillText(`p${q * 100}`, f.right - 6, atTop ? y + 3 : y - 2);
  }
  c.setLineDash([]);
}

function drawExemplars(c: CanvasRenderingContext2D, f: Frame, exemplars: Exemplar[], hovered: Exemplar | null, colors: Colors): void {
  for (const exemplar of exemplars) {
    if (exemplar.t < f.from || exemplar.t > f.to) continue;
    const [x, y] = [xOf(f, exemplar.t), yOf(f, clamp(exemplar.value, f))];
    const r = exemplar === hovered ? 6 : 4;
    c.fillStyle = exemplar === hovered ? colors.live : colors.bg;
    c.strokeStyle = colors.live;
    c.lineWidth = 1.5;
    c.beginPath();
    c.moveTo(x, y - r);
    c.lineTo(x + r, y);
    c.lineTo(x, y + r);
    c.lineTo(x - r, y);
    c.closePath();
    c.fill();
    c.stroke();
  }
}

function Tip({ hover, store, width, look, paint, name }: Props & { hover: Hover; width: number }) {
  const { unit, before } = look;
  const left = hover.x > width / 2;
  const style = {
    transform: left ? `translate(calc(${Math.round(hover.x - 14)}px - 100%), 8px)` : `translate(${Math.round(hover.x + 14)}px, 8px)`,
  };
  const time = store.time(hover.index);
  return (
    <div class="tip" style={style}>
      <div class="dim">{dateTime(time, zone.value, store.step < 1)}</div>
      {hover.bucket && <div>{formatValue(hover.bucket.lower, unit)} to {formatValue(hover.bucket.upper, unit)}: <b>{formatValue(hover.bucket.count)}</b></div>}
      {hover.column.length > 0 && <div class="dim">{QUANTILES.map((q) => `p${q * 100} ${formatValue(quantile(hover.column, q), unit, 3)}`).join(' · ')}</div>}
      <table>
        <tbody>
          {hover.near.map(({ series, value }, i) => {
            const earlier = before?.series.get(series.key);
            const then = before && earlier ? before.valueAt(earlier, time) : NaN;
            return (
              <tr key={series.key} class={i === 0 ? 'near' : ''}>
                <td><Swatch color={paint.get(series.key) ?? series.color} /></td>
                <td class="num">{formatValue(value, unit)}</td>
                {before && <td class="num dim">{Number.isNaN(then) ? '' : formatValue(then, unit)}</td>}
                <td>{name(series)}</td>
              </tr>
            );
          })}
          {hover.total !== null && <tr><td /><td class="num">{formatValue(hover.total, unit)}</td><td class="dim">together</td></tr>}
        </tbody>
      </table>
      {hover.exemplar && <div>exemplar <b>{formatValue(hover.exemplar.value, unit)}</b> at {clockTime(hover.exemplar.t, zone.value, true)}: {Object.entries(hover.exemplar.labels).map(([k, v]) => `${k}=${v}`).join(' ')} <span class="dim">(press to keep)</span></div>}
    </div>
  );
}

/** An exemplar that was pressed, with its labels to copy. */
function Pinned({ exemplar, close, unit }: { exemplar: Exemplar; close(): void; unit: Look['unit'] }) {
  const row = ([key, value]: [string, string]) => {
    const url = link(value);
    return [<dt key={`${key}t`}>{key}</dt>, <dd key={key}>{url ? <a href={url} rel="noopener noreferrer" target="_blank">{value}</a> : value}</dd>];
  };
  return (
    <div class="box" style={{ margin: '8px' }} role="status">
      <div class="row"><b>Exemplar</b><span>{formatValue(exemplar.value, unit)} at {dateTime(exemplar.t, zone.value, true)}</span><span class="grow" /><button type="button" class="plain" aria-label="Close" onClick={close}>✕</button></div>
      <dl class="kv">{Object.entries(exemplar.labels).map(row)}<dt class="dim">of the series</dt><dd class="dim">{Object.entries(exemplar.series).map(([k, v]) => `${k}="${v}"`).join(', ')}</dd></dl>
    </div>
  );
}

/** A square in the colour of a series. */
export function Swatch({ color }: { color: number }) {
  return <span class="swatch" style={{ background: `var(--s${color})` }} />;
}
