// Times as text, in UTC or in the zone of the browser, and the ticks of a time axis. Always 24 hours.

/** Which zone times are shown in. */
export type Zone = 'utc' | 'local';

/** Seconds to add to a Unix time so that its UTC fields are those of the zone. */
export function offset(t: number, zone: Zone): number {
  return zone === 'utc' ? 0 : -new Date(t * 1000).getTimezoneOffset() * 60;
}

function fields(t: number, zone: Zone): Date {
  return new Date((t + offset(t, zone)) * 1000);
}

function two(n: number): string {
  return String(n).padStart(2, '0');
}

/** "03:36:41", with milliseconds if asked. */
export function clockTime(t: number, zone: Zone, milliseconds = false): string {
  const d = fields(t, zone);
  const text = `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}:${two(d.getUTCSeconds())}`;
  return milliseconds ? `${text}.${String(d.getUTCMilliseconds()).padStart(3, '0')}` : text;
}

/** "2026-11-26". */
export function date(t: number, zone: Zone): string {
  const d = fields(t, zone);
  return `${d.getUTCFullYear()}-${two(d.getUTCMonth() + 1)}-${two(d.getUTCDate())}`;
}

/** "2026-11-26 03:36:41". */
export function dateTime(t: number, zone: Zone, milliseconds = false): string {
  return `${date(t, zone)} ${clockTime(t, zone, milliseconds)}`;
}

/** "UTC", or the offset of the browser's zone at `t`: "UTC+1". */
export function zoneName(t: number, zone: Zone): string {
  const minutes = offset(t, zone) / 60;
  if (minutes === 0) return 'UTC';
  const size = Math.abs(minutes);
  const rest = size % 60 === 0 ? '' : `:${two(size % 60)}`;
  return `UTC${minutes < 0 ? '−' : '+'}${Math.floor(size / 60)}${rest}`;
}

/** The Unix time of "2026-11-26 03:36:41" (also with T, Z, without seconds), or of a number; null: neither. */
export function parseTime(text: string, zone: Zone): number | null {
  const trimmed = text.trim();
  if (/^\d{9,}(\.\d+)?$/.test(trimmed)) return Number(trimmed);
  const match = /^(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d(?:\.\d+)?))?)?(Z?)$/.exec(trimmed);
  if (!match) return null;
  const [, y, mo, d, h = '0', mi = '0', s = '0', z] = match;
  const wall = Date.UTC(Number(y), Number(mo) - 1, Number(d), Number(h), Number(mi)) / 1000 + Number(s);
  if (z === 'Z' || zone === 'utc') return wall;
  return wall - offset(wall - offset(wall, zone), zone);
}

const STEPS = [
  1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_592_000,
];

/** A tick of a time axis. */
export interface TimeTick { t: number; label: string }

/** At most `count` ticks from `from` to `to` at round times of the zone. Midnight shows the date. */
export function timeTicks(from: number, to: number, zone: Zone, count: number): TimeTick[] {
  const span = to - from;
  const step = STEPS.find((s) => span / s <= count) ?? Math.ceil(span / count / 86_400) * 86_400;
  const found: TimeTick[] = [];
  let wall = Math.ceil((from + offset(from, zone)) / step) * step;
  for (; found.length <= count + 2; wall += step) {
    // The offset of the instant, not of the start: on the day of a change of the clock they differ.
    const t = wall - offset(wall - offset(wall, zone), zone);
    if (t > to) break;
    // An hour that the change of the clock leaves out falls on its neighbour.
    if (t < from || t <= (found.at(-1)?.t ?? -Infinity)) continue;
    const midnight = wall % 86_400 === 0;
    const text = clockTime(t, zone);
    found.push({ t, label: midnight ? date(t, zone).slice(5) : step < 60 ? text : text.slice(0, 5) });
  }
  return found;
}
