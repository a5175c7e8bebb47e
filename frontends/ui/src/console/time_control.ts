// The bar at the lower edge of a console: how long a time its graphs show, and until when. Its elements come from the
// console's own template; the address keeps what was chosen, behind `#pctc`.
import { graphs } from './registry';

const SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800, y: 31_536_000 };
/** The spans that the buttons step through. */
const SPANS = ['10s', '1m', '5m', '15m', '30m', '1h', '2h', '6h', '12h', '1d', '2d', '1w', '2w', '4w', '8w', '1y', '2y'];
const HASH = '#pctc';
const USUAL_SECONDS = 3600;
/** What the list beside the button offers: with every sample, or not at all. */
const LIVE = 'Live';
const OFF = 'Off';

/** The seconds of a span such as `15m`; a number alone is seconds, anything else an hour. */
export function spanSeconds(text: string): number {
  const found = /^(\d+)([ywdhms]?)$/.exec(text.trim());
  if (!found) return USUAL_SECONDS;
  return Number(found[1]) * SECONDS[found[2] === '' ? 's' : found[2]!]!;
}

/** A span in the largest unit that it is a whole number of. */
export function spanText(seconds: number): string {
  const unit = Object.entries(SECONDS).reverse().find(([, size]) => seconds % size === 0);
  return unit ? `${seconds / unit[1]}${unit[0]}` : String(seconds);
}

/** A time as the box of the end shows it, in UTC. */
export function endText(time: number): string {
  return new Date(time * 1000).toISOString().slice(0, 16).replace('T', ' ');
}

/** The Unix time that the box of the end names; null: now. */
export function endTime(text: string): number | null {
  const found = /^(\d{4})-(\d{1,2})-(\d{1,2})(?: (\d{1,2}):(\d{1,2}))?/.exec(text.trim());
  if (!found) return null;
  const [year, month, day, hour, minute] = found.slice(1).map((part) => Number(part ?? 0));
  return Date.UTC(year!, month! - 1, day!, hour!, minute!) / 1000;
}

/** What the address says: how long, seconds, and until when; null: now. */
export function chosen(hash = location.hash): { duration: number; end: number | null } {
  try {
    const { duration, endTime: end } = JSON.parse(decodeURIComponent(hash.slice(HASH.length))) as { duration: unknown; endTime: unknown };
    if (hash.startsWith(HASH) && typeof duration === 'number' && duration > 0) return { duration, end: typeof end === 'number' && end > 0 ? end : null };
  } catch {
    // An address of somebody else's making: the usual span.
  }
  return { duration: USUAL_SECONDS, end: null };
}

function byId<T extends HTMLElement>(id: string): T | null {
  return document.getElementById(id) as T | null;
}

export class TimeControl {
  private readonly duration = byId<HTMLInputElement>('prom_graph_duration');
  private readonly end = byId<HTMLInputElement>('prom_graph_time_end');
  private readonly shown = byId('prom_graph_refresh_button_value');

  constructor() {
    const press = (id: string, act: () => void) => byId(id)?.addEventListener('click', act);
    press('prom_graph_duration_shrink', () => this.stepSpan(-1));
    press('prom_graph_duration_grow', () => this.stepSpan(1));
    press('prom_graph_time_back', () => this.moveEnd(-1));
    press('prom_graph_time_forward', () => this.moveEnd(1));
    press('prom_graph_refresh_button', () => this.setRefresh(LIVE));
    this.duration?.addEventListener('change', () => this.dispatch());
    this.end?.addEventListener('change', () => this.setRefresh(this.end?.value === '' ? LIVE : OFF));
    for (const text of [OFF, LIVE]) {
      const item = document.createElement('li');
      item.textContent = text;
      item.addEventListener('click', () => this.setRefresh(text));
      byId('prom_graph_refresh_intervals')?.append(item);
    }
    const { duration, end } = chosen();
    if (this.duration) this.duration.value = spanText(duration);
    if (this.end) this.end.value = end === null ? '' : endText(end);
    if (this.shown) this.shown.textContent = end === null ? LIVE : OFF;
  }

  private get seconds(): number {
    return spanSeconds(this.duration?.value ?? '');
  }

  private stepSpan(direction: 1 | -1): void {
    const seconds = this.seconds;
    const next = direction > 0 ? SPANS.find((s) => spanSeconds(s) > seconds) : SPANS.findLast((s) => spanSeconds(s) < seconds);
    if (next === undefined) return;
    if (this.duration) this.duration.value = next;
    this.dispatch();
  }

  /** Moves the end by a quarter of the span. */
  private moveEnd(direction: 1 | -1): void {
    const end = endTime(this.end?.value ?? '') ?? Date.now() / 1000;
    if (this.end) this.end.value = endText(end + (direction * this.seconds) / 4);
    this.setRefresh(OFF);
  }

  /** `Live`: the graphs follow the present. Anything else: they stand still. */
  setRefresh(text: string): void {
    const live = text === LIVE;
    if (live && this.end) this.end.value = '';
    if (!live && this.end?.value === '') this.end.value = endText(Date.now() / 1000);
    if (this.shown) this.shown.textContent = live ? LIVE : OFF;
    this.dispatch();
  }

  /** Lets all graphs of the page show what the bar says. */
  dispatch(): void {
    const end = endTime(this.end?.value ?? '');
    location.hash = HASH + encodeURIComponent(JSON.stringify({ duration: this.seconds, endTime: end ?? 0 }));
    for (const graph of graphs) {
      graph.params.duration = this.seconds;
      graph.params.endTime = end ?? 0;
      graph.dispatch();
    }
  }
}
