// A graph on a console: the answers of some expressions in one picture, which moves with every sample. It is drawn by
// the code of the query page's chart.
import { domain, Store, type Series } from '../chart/store';
import { drawEdge, drawFocus, drawGrid, drawPicture, readColors, contextOf, xOf, yOf, yRange, type Colors, type Frame, type Look } from '../chart/draw';
import { COLORS } from '../chart/store';
import { formatDuration } from '../format/numbers';
import { dateTime } from '../format/time';
import { startLive } from '../live';
import { PanelData } from '../query/data';
import { newPanel } from '../query/url';
import { below } from '../api';
import { interpolate, usualName, type Name } from './names';
import { NumberFormatter } from './numbers';
import { graphs } from './registry';
import { chosen } from './time_control';

type Format = (x: number | null) => string;

/** What a console says of a graph. The names are those of Prometheus' consoles. */
export interface GraphParams {
  /** One expression or several. */
  expr: string | string[];
  /** Where the graph is placed. */
  node: HTMLElement;
  /** Seconds. */
  duration: number;
  /** Unix seconds; 0: now, and the graph moves. */
  endTime: number;
  width: number | null;
  /** Pixels, without titles and legend. */
  height: number;
  min: number | 'auto' | undefined;
  max: number | undefined;
  renderer: string;
  name: Name | Name[] | null;
  xTitle: string;
  yUnits: string;
  yTitle: string;
  yAxisFormatter: Format;
  yAxisTicks: number | null;
  yHoverFormatter: Format;
  /** Colours as `#rrggbb`; the names of Rickshaw's schemes are those of this server's charts. */
  colorScheme: string[] | string | null;
}

const start = chosen();

/** What is not said is like this; a console may change it for all of its graphs. */
export const graphDefaults: Omit<GraphParams, 'expr' | 'node'> = {
  duration: start.duration, endTime: start.end ?? 0, width: null, height: 200, min: 'auto', max: undefined, renderer: 'line', name: null,
  xTitle: 'Time', yUnits: '', yTitle: '', yAxisFormatter: NumberFormatter.humanize, yAxisTicks: null, yHoverFormatter: NumberFormatter.humanizeExact, colorScheme: null,
};

/** Series under the pointer that are listed. */
const NEIGHBOURS = 8;
const MIN_WIDTH = 50;
let isLive = false;

/** The address of expressions on the query page. */
export function queryAddress(expressions: string[]): string {
  const params = new URLSearchParams();
  expressions.forEach((expr, i) => {
    params.set(`g${i}.expr`, expr);
    params.set(`g${i}.tab`, '0');
  });
  return below(`graph?${params.toString()}`).href;
}

function element<K extends keyof HTMLElementTagNameMap>(tag: K, kind: string, parent: HTMLElement): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.className = kind;
  parent.append(made);
  return made;
}

/** The pictures of several expressions on one grid of steps. */
function together(stores: Store[], window: number): Store | null {
  const first = stores[0];
  if (!first) return null;
  const from = Math.max(...stores.map((s) => s.t0));
  const to = Math.min(...stores.map((s) => s.end));
  const whole = new Store(first.step, from, window);
  whole.length = Math.max(0, Math.round((to - from) / first.step) + 1);
  stores.forEach((store, part) => {
    const skip = Math.round((from - store.t0) / store.step);
    for (const series of store.series.values()) {
      const key = `${part} ${series.key}`;
      whole.series.set(key, { ...series, key, values: series.values.subarray(skip, skip + whole.length) });
    }
  });
  return whole;
}

export class Graph {
  readonly params: GraphParams;
  private readonly expressions: string[];
  private readonly box: HTMLElement;
  private readonly canvases: HTMLCanvasElement[];
  private readonly legend: HTMLElement;
  private readonly tip: HTMLElement;
  private readonly message: HTMLElement;
  private panels: PanelData[] = [];
  private waiting = 0;
  private hidden = new Set<string>();
  private pointer: { x: number; y: number } | null = null;
  private drawn: { store: Store; frame: Frame; shown: Series[]; colors: Colors; paint: Map<string, number>; name: (series: Series) => string } | null = null;

  constructor(params: Partial<GraphParams> & Pick<GraphParams, 'expr' | 'node'>) {
    this.params = { ...graphDefaults, ...Object.fromEntries(Object.entries(params).filter(([, value]) => value !== undefined)) } as GraphParams;
    this.expressions = [this.params.expr].flat();
    graphs.push(this);
    if (!isLive) startLive();
    isLive = true;
    const frame = element('div', 'prom_graph_table', this.params.node);
    if (this.params.width) frame.style.width = `${this.params.width}px`;
    const title = element('div', 'prom_graph_ytitle', frame);
    title.textContent = this.params.yTitle + (this.params.yUnits === '' ? '' : ` (${this.params.yUnits.trim()})`);
    this.box = element('div', 'prom_graph_picture', frame);
    this.box.style.height = `${this.params.height}px`;
    this.canvases = [0, 1, 2].map(() => element('canvas', '', this.box));
    this.message = element('div', 'prom_graph_error', this.box);
    this.tip = element('div', 'prom_graph_tip', this.box);
    const link = element('a', 'prom_graph_link', frame);
    link.textContent = '+';
    link.title = 'On the query page';
    link.href = queryAddress(this.expressions);
    this.legend = element('div', 'prom_graph_legend', frame);
    element('div', 'prom_graph_xtitle', frame).textContent = this.params.xTitle;
    this.box.addEventListener('pointermove', (event) => {
      const edge = this.box.getBoundingClientRect();
      this.pointer = { x: event.clientX - edge.left, y: event.clientY - edge.top };
      this.drawPointer();
    });
    this.box.addEventListener('pointerleave', () => {
      this.pointer = null;
      this.drawPointer();
    });
    new ResizeObserver(() => this.draw()).observe(this.box);
    this.dispatch();
  }

  /** Asks anew, for the stretch that `params` names. */
  dispatch(): void {
    this.panels.forEach((panel) => panel.stop());
    const { duration, endTime } = this.params;
    const pixels = Math.max(MIN_WIDTH, this.box.clientWidth);
    const step = Math.max(1, Math.ceil(duration / pixels));
    const settings = { range: duration, end: endTime > 0 ? endTime : null, step, literal: true };
    this.panels = this.expressions.map((expr) => new PanelData({ ...newPanel(expr), ...settings }, () => this.draw(), null));
  }

  /** Draws in the next frame, however often it is called until then. */
  private draw(): void {
    if (this.waiting !== 0) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.drawNow();
    });
  }

  private drawNow(): void {
    const results = this.panels.map((panel) => panel.result);
    const error = results.find((result) => result.error)?.error;
    const stores = results.flatMap((result) => (result.store ? [result.store] : []));
    const store = together(stores, this.params.duration);
    const isEmpty = stores.length === results.length && store?.series.size === 0;
    this.message.textContent = error ? error.message : isEmpty ? 'No timeseries returned' : store ? '' : 'Loading…';
    if (!store || stores.length < results.length || store.length === 0) return;
    const all = [...store.series.values()];
    const shown = all.filter((series) => !this.hidden.has(series.key));
    const paint = new Map(all.map((series, i) => [series.key, i % COLORS]));
    const stacked = this.params.renderer === 'area';
    const colors = this.colors();
    const look: Look = {
      unit: '', stacked, zero: stacked, zone: 'utc', threshold: null, before: null, behind: false,
      liveEdge: results.every((result) => result.live.kind !== 'fixed') ? Math.min(...stores.map((s) => s.liveAt)) : 0,
      label: this.params.yAxisFormatter, ticks: this.params.yAxisTicks ?? 0,
    };
    const range = yRange(domain(store, shown, stacked), look);
    const scale = { min: typeof this.params.min === 'number' ? this.params.min : range.min, max: typeof this.params.max === 'number' ? this.params.max : range.max };
    const frame = drawGrid(this.canvases[0]!, store, shown, look, scale, null, colors);
    drawPicture(this.canvases[1]!, null, store, shown, frame, look, null, paint, '', colors);
    const name = this.names(stores);
    this.drawn = { store, frame, shown, colors, paint, name };
    this.drawLegend(all, paint, colors, name);
    this.drawPointer(look);
  }

  private colors(): Colors {
    const colors = readColors(this.box);
    const own = this.params.colorScheme;
    if (Array.isArray(own) && own.length > 0) colors.series = colors.series.map((_, i) => own[i % own.length]!);
    return colors;
  }

  /** How the series are called, by the number of the expression in their keys. */
  private names(stores: Store[]): (series: Series) => string {
    const given = this.params.name;
    const usual = usualName(stores.flatMap((store) => [...store.series.values()].map((series) => series.labels)));
    return (series) => {
      const part = Number.parseInt(series.key, 10);
      const name = Array.isArray(given) ? given[part] : given;
      if (typeof name === 'function') return String(name(series.labels));
      return typeof name === 'string' ? interpolate(name, series.labels) : usual(series.labels);
    };
  }

  private drawLegend(all: Series[], paint: Map<string, number>, colors: Colors, name: (series: Series) => string): void {
    const entries = all.map((series) => {
      const entry = document.createElement('button');
      entry.type = 'button';
      entry.className = this.hidden.has(series.key) ? 'off' : '';
      entry.setAttribute('aria-pressed', String(!this.hidden.has(series.key)));
      const swatch = element('span', 'prom_graph_swatch', entry);
      swatch.style.background = colors.series[paint.get(series.key) ?? 0]!;
      entry.append(name(series));
      entry.addEventListener('click', () => {
        if (!this.hidden.delete(series.key)) this.hidden.add(series.key);
        this.draw();
      });
      return entry;
    });
    const text = (list: Element[]) => list.map((one) => `${one.className} ${one.textContent}`).join('\n');
    // Entries that are the same stay: a press must not meet one that is just being replaced.
    if (text(entries) !== text([...this.legend.children])) this.legend.replaceChildren(...entries);
  }

  /** What lies above the lines: the live edge, and what is under the pointer. */
  private drawPointer(look?: Look): void {
    const { drawn, pointer } = this;
    const canvas = this.canvases[2]!;
    const c = contextOf(canvas);
    c.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    if (!drawn) return;
    const { store, frame, colors } = drawn;
    if (look) this.edge = look.liveEdge;
    if (this.edge > 0) drawEdge(c, frame, this.edge, false, 'utc', colors);
    this.tip.hidden = pointer === null || pointer.x < frame.left || pointer.x > frame.right;
    if (this.tip.hidden || !pointer) return;
    const time = frame.from + ((pointer.x - frame.left) / (frame.right - frame.left)) * (frame.to - frame.from);
    const index = Math.min(store.length - 1, Math.max(store.first, Math.round((time - store.t0) / store.step)));
    const near = drawn.shown
      .map((series) => ({ series, value: series.values[index]! }))
      .filter(({ value }) => !Number.isNaN(value))
      .sort((a, b) => Math.abs(yOf(frame, a.value) - pointer.y) - Math.abs(yOf(frame, b.value) - pointer.y))
      .slice(0, NEIGHBOURS);
    const x = Math.round(xOf(frame, store.time(index))) + 0.5;
    c.strokeStyle = colors.text;
    c.setLineDash([3, 3]);
    c.beginPath();
    c.moveTo(x, frame.top);
    c.lineTo(x, frame.bottom);
    c.stroke();
    c.setLineDash([]);
    const first = near[0];
    if (first && this.params.renderer !== 'area') drawFocus(c, store, first.series, frame, colors.series[drawn.paint.get(first.series.key) ?? 0]!, colors);
    this.tip.replaceChildren();
    element('div', 'prom_graph_tip_time', this.tip).textContent = `${dateTime(store.time(index), 'utc')} UTC, step ${formatDuration(store.step)}`;
    for (const { series, value } of near) {
      const line = element('div', '', this.tip);
      element('span', 'prom_graph_swatch', line).style.background = colors.series[drawn.paint.get(series.key) ?? 0]!;
      line.append(`${drawn.name(series)}: ${this.params.yHoverFormatter(value)}${this.params.yUnits}`);
    }
    const isRight = x > frame.right / 2;
    this.tip.style.left = isRight ? '' : `${x + 10}px`;
    this.tip.style.right = isRight ? `${this.box.clientWidth - x + 10}px` : '';
  }

  /** The frontier that was drawn last; 0: the graph does not move. */
  private edge = 0;
}
