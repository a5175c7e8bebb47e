// The address of the query page: the parameters of Prometheus 3 (g0.expr, g0.tab, …), and a few of ours.
import { formatDuration, parseDuration } from '../format/numbers';
import { dateTime, parseTime } from '../format/time';

export type Tab = 'graph' | 'table' | 'explain';

/** What a panel asks and how it shows the answer. */
export interface Panel {
  expr: string;
  tab: Tab;
  /** Seconds. */
  range: number;
  /** Unix seconds; null: now. */
  end: number | null;
  /** Seconds; null: by the range. */
  step: number | null;
  density: 'low' | 'medium' | 'high';
  stacked: boolean;
  /** Histograms as cells: as the answer is, always, or never. */
  heat: 'auto' | 'on' | 'off';
  /** Seconds by which the values that are drawn dashed are older; 0: none are. */
  compare: number;
  exemplars: boolean;
  /** How series are coloured; "": as is usual for their number. */
  color: string;
  /** Short names of series that are hidden, and of those that alone are shown: see `shortKey`. */
  hidden: string[];
  only: string[];
  /** The y axis begins at zero. */
  zero: boolean;
  /** With a comparison at the root: show its answer, not its left side. */
  literal: boolean;
  /** Whether the chart moves: as the query allows, never, or whatever it costs. */
  live: 'auto' | 'off' | 'on';
}

/** A panel as it is at first. */
export function newPanel(expr = ''): Panel {
  return { expr, tab: 'graph', range: 900, end: null, step: null, density: 'medium', stacked: false, heat: 'auto', compare: 0, exemplars: false, color: '', hidden: [], only: [], zero: false, literal: false, live: 'auto' };
}

/** The panels that an address describes; an empty one if it describes none. */
export function parsePanels(params: URLSearchParams): Panel[] {
  const panels: Panel[] = [];
  for (let i = 0; i < 100 && [...params.keys()].some((key) => key.startsWith(`g${i}.`)); i++) {
    const get = (name: string) => params.get(`g${i}.${name}`);
    const panel = newPanel(get('expr') ?? '');
    const tab = get('tab');
    // Prometheus' 1 is its table: ours stands below every chart, so that links of alerts show both.
    panel.tab = tab === 'table' ? 'table' : tab === 'explain' ? 'explain' : 'graph';
    panel.range = positive(parseDuration(get('range_input') ?? '')) ?? panel.range;
    panel.end = parseTime(get('end_input') ?? get('moment_input') ?? '', 'utc');
    const step = parseDuration(get('res_step') ?? get('step_input') ?? '');
    if (get('res_type') !== 'auto') panel.step = positive(step);
    const density = get('res_density');
    if (density === 'low' || density === 'high') panel.density = density;
    panel.stacked = get('display_mode') === 'stacked' || get('stacked') === '1';
    panel.heat = get('display_mode') === 'heatmap' ? 'on' : get('display_mode') === 'lines' ? 'off' : 'auto';
    panel.compare = positive(parseDuration(get('cmp') ?? '')) ?? 0;
    panel.exemplars = get('show_exemplars') === '1';
    panel.color = get('color') ?? '';
    panel.hidden = keys(get('hidden'));
    panel.only = keys(get('only'));
    panel.zero = get('y_axis_min') === '0';
    panel.literal = get('literal') === '1';
    panel.live = get('live') === '0' ? 'off' : get('live') === '1' ? 'on' : 'auto';
    panels.push(panel);
  }
  return panels.length > 0 ? panels : [newPanel()];
}

function keys(text: string | null): string[] {
  return (text ?? '').split(',').filter((key) => /^[0-9a-z]+$/.test(key)).slice(0, KEYS_MAX);
}

/** More series than this do not go into the address. */
const KEYS_MAX = 50;

function positive(value: number | null): number | null {
  return value !== null && value > 0 ? value : null;
}

/** The address of these panels; what is as at first is left out. */
export function formatPanels(panels: Panel[]): string {
  const params = new URLSearchParams();
  panels.forEach((panel, i) => {
    const put = (name: string, value: string) => params.set(`g${i}.${name}`, value);
    put('expr', panel.expr);
    put('tab', panel.tab === 'graph' ? '0' : panel.tab);
    if (panel.range !== 900) put('range_input', formatDuration(panel.range));
    if (panel.end !== null) put('end_input', dateTime(panel.end, 'utc'));
    if (panel.step !== null) {
      put('res_type', 'fixed');
      put('res_step', formatDuration(panel.step));
    } else if (panel.density !== 'medium') {
      put('res_type', 'auto');
      put('res_density', panel.density);
    }
    if (panel.stacked) put('display_mode', 'stacked');
    else if (panel.heat !== 'auto') put('display_mode', panel.heat === 'on' ? 'heatmap' : 'lines');
    if (panel.compare > 0) put('cmp', formatDuration(panel.compare));
    if (panel.exemplars) put('show_exemplars', '1');
    if (panel.color !== '') put('color', panel.color);
    if (panel.hidden.length > 0) put('hidden', panel.hidden.slice(-KEYS_MAX).join(','));
    if (panel.only.length > 0) put('only', panel.only.slice(-KEYS_MAX).join(','));
    if (panel.zero) put('y_axis_min', '0');
    if (panel.literal) put('literal', '1');
    if (panel.live !== 'auto') put('live', panel.live === 'on' ? '1' : '0');
  });
  return `/query?${params.toString()}`;
}

const POINTS = { low: 120, medium: 300, high: 1000 };
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400];

/** The distance of the points of a chart, seconds: a round number, never below a second unless asked. */
export function stepOf(panel: Pick<Panel, 'range' | 'step' | 'density'>): number {
  if (panel.step !== null) return Math.max(panel.step, panel.range / 11_000);
  const rough = panel.range / POINTS[panel.density];
  return Math.max(1, STEPS.find((s) => s >= rough) ?? rough);
}

const RANGES = [10, 30, 60, 300, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_419_200, 4_838_400, 15_724_800, 31_449_600, 62_899_200];

/** The next shorter (-1) or longer (+1) range. */
export function nextRange(range: number, direction: 1 | -1): number {
  if (direction > 0) return RANGES.find((r) => r > range + 0.5) ?? range;
  return RANGES.findLast((r) => r < range - 0.5) ?? range;
}
