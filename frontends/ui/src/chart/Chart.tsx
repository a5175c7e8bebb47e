// The chart of a panel: redraws when its store changed, shows what is under the pointer, zooms by dragging.
import { signal } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import { formatValue } from '../format/numbers';
import { dateTime } from '../format/time';
import { theme, zone } from '../settings';
import { FEW, FOCUS_COLOR, drawChart, readColors, stackOrder, xOf, yOf, type Frame, type Look } from './draw';
import { stack, type Series, type Store } from './store';

/** The time under the pointer, shared by all charts of the page; 0: none. */
const cursor = signal(0);

interface Props {
  store: Store;
  shown: Series[];
  /** Grows when the picture has to be drawn again. */
  version: number;
  look: Omit<Look, 'zone' | 'focus'>;
  focus: string | null;
  setFocus(key: string | null): void;
  zoom(from: number, to: number): void;
  name(series: Series): string;
}

interface Hover { x: number; y: number; index: number; near: { series: Series; value: number }[]; total: number | null }

const NEIGHBOURS = 6;
const DRAG_PIXELS = 6;

export function Chart(props: Props) {
  const { store, shown, look, focus } = props;
  const base = useRef<HTMLCanvasElement>(null);
  const over = useRef<HTMLCanvasElement>(null);
  const frame = useRef<Frame | null>(null);
  const [hover, setHover] = useState<Hover | null>(null);
  const [size, setSize] = useState(0);
  const drag = useRef<number | null>(null);
  const held = useRef(false);

  useEffect(() => {
    const observer = new ResizeObserver(() => setSize((n) => n + 1));
    observer.observe(base.current!);
    return () => observer.disconnect();
  }, []);

  const themeNow = theme.value;
  const zoneNow = zone.value;
  useEffect(() => {
    if (held.current || store.length === 0) return undefined;
    const id = requestAnimationFrame(() => {
      if (!base.current) return;
      frame.current = drawChart(base.current, store, shown, { ...look, zone: zoneNow, focus }, readColors(base.current));
    });
    return () => cancelAnimationFrame(id);
  }, [store, shown, props.version, size, themeNow, zoneNow, focus, JSON.stringify(look)]);

  const cursorNow = cursor.value;
  useEffect(() => drawOver(over.current!, frame.current, store, hover, drag.current, cursorNow, shown.length > FEW && !look.stacked), [hover, cursorNow, props.version, size]);

  const at = (event: PointerEvent) => {
    const box = base.current!.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const move = (event: PointerEvent) => {
    const f = frame.current;
    if (!f) return;
    const { x, y } = at(event);
    const found = find(store, shown, f, x, y, look.stacked);
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
    const to = at(event).x;
    if (Math.abs(to - from) < DRAG_PIXELS) return;
    const time = (x: number) => f.from + ((Math.min(Math.max(x, f.left), f.right) - f.left) / (f.right - f.left)) * (f.to - f.from);
    props.zoom(time(Math.min(from, to)), time(Math.max(from, to)));
  };

  return (
    <div class="chart">
      <canvas ref={base} role="img" aria-label={`Chart of ${shown.length} series; the table below has the values`} />
      <canvas ref={over} onPointerMove={move} onPointerLeave={leave} onPointerDown={down} onPointerUp={up} />
      {hover && hover.near.length > 0 && <Tip hover={hover} store={store} width={base.current!.clientWidth} unit={look.unit} name={props.name} many={shown.length > FEW && !look.stacked} />}
    </div>
  );
}

function find(store: Store, shown: Series[], f: Frame, x: number, y: number, stacked: boolean): Hover | null {
  if (x < f.left - 8 || x > f.right + 8) return null;
  const t = f.from + ((x - f.left) / (f.right - f.left)) * (f.to - f.from);
  const index = Math.min(store.length - 1, Math.max(store.first, Math.round((t - store.t0) / store.step)));
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
  const near = all.slice(0, NEIGHBOURS).sort((a, b) => (a.series.key === nearest ? -1 : b.series.key === nearest ? 1 : b.value - a.value));
  return { x: xOf(f, store.time(index)), y, index, near, total: stacked ? total : null };
}

function drawOver(canvas: HTMLCanvasElement, f: Frame | null, store: Store, hover: Hover | null, drag: number | null, cursorTime: number, many: boolean): void {
  const ratio = devicePixelRatio;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
  if (!f || store.length === 0) return;
  const c = canvas.getContext('2d')!;
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  const colors = readColors(canvas);
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
    c.fillStyle = colors.series[many ? FOCUS_COLOR : nearest.series.color]!;
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
  }
}

function Tip({ hover, store, width, unit, name, many }: { hover: Hover; store: Store; width: number; unit: Look['unit']; name(s: Series): string; many: boolean }) {
  const left = hover.x > width / 2;
  const style = {
    transform: left ? `translate(calc(${Math.round(hover.x - 14)}px - 100%), 8px)` : `translate(${Math.round(hover.x + 14)}px, 8px)`,
  };
  return (
    <div class="tip" style={style}>
      <div class="dim">{dateTime(store.time(hover.index), zone.value, store.step < 1)}</div>
      <table>
        <tbody>
          {hover.near.map(({ series, value }, i) => (
            <tr key={series.key} class={i === 0 ? 'near' : ''}>
              <td><Swatch color={many ? (i === 0 ? FOCUS_COLOR : 0) : series.color} /></td>
              <td class="num">{formatValue(value, unit)}</td>
              <td>{name(series)}</td>
            </tr>
          ))}
          {hover.total !== null && <tr><td /><td class="num">{formatValue(hover.total, unit)}</td><td class="dim">together</td></tr>}
        </tbody>
      </table>
    </div>
  );
}

/** A square in the colour of a series. */
export function Swatch({ color }: { color: number }) {
  return <span class="swatch" style={{ background: `var(--s${color})` }} />;
}
