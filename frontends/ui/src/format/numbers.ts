// Numbers as text: values of samples, units, axis ticks, sizes and durations.

/** What a value measures; decides its prefix and its ticks. */
export type Unit = '' | 'bytes' | 'seconds' | 'ratio' | 'percent' | 'celsius' | 'per-second' | 'bytes-per-second' | keyof typeof SYMBOLS;

/** Units of SI by the ending of names. */
export const SYMBOLS = { joules: 'J', watts: 'W', volts: 'V', amperes: 'A', hertz: 'Hz', grams: 'g', meters: 'm' } as const;

/** The number that a sample value of the API stands for. */
export function parseValue(text: string): number {
  if (text === '+Inf' || text === 'Inf') return Infinity;
  if (text === '-Inf') return -Infinity;
  return Number(text);
}

interface Scale { factor: number; suffix: string }

const SI: Scale[] = [
  { factor: 1e12, suffix: 'T' }, { factor: 1e9, suffix: 'G' }, { factor: 1e6, suffix: 'M' }, { factor: 1e3, suffix: 'k' },
  { factor: 1, suffix: '' }, { factor: 1e-3, suffix: 'm' }, { factor: 1e-6, suffix: 'µ' }, { factor: 1e-9, suffix: 'n' },
];
const BYTES: Scale[] = [
  { factor: 2 ** 40, suffix: 'TiB' }, { factor: 2 ** 30, suffix: 'GiB' }, { factor: 2 ** 20, suffix: 'MiB' },
  { factor: 1024, suffix: 'KiB' }, { factor: 1, suffix: 'B' },
];
const SECONDS: Scale[] = [
  { factor: 86400, suffix: 'd' }, { factor: 3600, suffix: 'h' }, { factor: 60, suffix: 'min' }, { factor: 1, suffix: 's' },
  { factor: 1e-3, suffix: 'ms' }, { factor: 1e-6, suffix: 'µs' }, { factor: 1e-9, suffix: 'ns' },
];
const RATIO: Scale[] = [{ factor: 0.01, suffix: '%' }];
const PERCENT: Scale[] = [{ factor: 1, suffix: '%' }];
const CELSIUS: Scale[] = [{ factor: 1, suffix: '°C' }];

/** The scale that makes a number of this size readable. */
export function scaleOf(unit: Unit, size: number): Scale {
  if (unit === 'ratio') return RATIO[0]!;
  if (unit === 'percent') return PERCENT[0]!;
  if (unit === 'celsius') return CELSIUS[0]!;
  if (unit in SYMBOLS) {
    const found = size === 0 ? SI[4]! : (SI.find((s) => size >= s.factor) ?? SI.at(-1)!);
    return { factor: found.factor, suffix: found.suffix + SYMBOLS[unit as keyof typeof SYMBOLS] };
  }
  const bytes = unit === 'bytes' || unit === 'bytes-per-second';
  const list = bytes ? BYTES : unit === 'seconds' ? SECONDS : SI;
  const per = unit === 'per-second' || unit === 'bytes-per-second' ? '/s' : '';
  const one = list.find((s) => s.factor === 1)!;
  // 0.001 to 9999 stay plain numbers: "2795" is shorter and more exact than "2.795 k", and "m/s" is something else.
  const plain = list === SI && size >= 1e-3 && size < 10_000;
  const found = size === 0 || plain ? one : (list.find((s) => size >= s.factor) ?? list[list.length - 1]!);
  return { factor: found.factor, suffix: found.suffix + per };
}

/** Significant digits without an exponent where that stays short. */
function digits(value: number, significant: number): string {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e15)) return value.toExponential(significant - 1);
  const text = value.toPrecision(significant);
  const plain = text.includes('e') ? String(Number(text)) : text;
  return plain.includes('.') ? plain.replace(/\.?0+$/, '') : plain;
}

/** A value with its unit: "8.1 GiB", "12.3 ms", "0.42". */
export function formatValue(value: number, unit: Unit = '', significant = 4): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? '+Inf' : '-Inf';
  const scale = scaleOf(unit, Math.abs(value));
  const shown = digits(value / scale.factor, significant);
  return scale.suffix === '' ? shown : `${shown} ${scale.suffix}`;
}

/** By how much a value differs from an earlier one, as a share; NaN: one of them is missing, or the earlier is 0. */
export function change(now: number, then: number): number {
  return then === 0 ? NaN : (now - then) / Math.abs(then);
}

/** The ticks of an axis. */
export interface Ticks { values: number[]; labels: string[]; unit: string }

/** Round ticks, at most `count`, for an axis from `min` to `max`. All have the same prefix and equal decimals. */
export function ticks(min: number, max: number, unit: Unit, count = 6): Ticks {
  const scale = scaleOf(unit, Math.max(Math.abs(min), Math.abs(max)));
  const span = (max - min) / scale.factor;
  if (!(span > 0) || !Number.isFinite(span)) return { values: [min], labels: [formatValue(min, unit)], unit: scale.suffix };
  const step = niceStep(span / count);
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const first = Math.ceil(min / scale.factor / step - 1e-9);
  const values: number[] = [];
  const labels: string[] = [];
  for (let i = first; i * step <= max / scale.factor + step * 1e-9; i++) {
    values.push(i * step * scale.factor);
    labels.push((i * step).toFixed(decimals).replace(/^-(0(\.0+)?)$/, '$1'));
  }
  return { values, labels, unit: scale.suffix };
}

/** Ticks of a logarithmic axis: powers of ten, with 2 and 5 between them where there is room. `min` is above zero. */
export function logTicks(min: number, max: number, unit: Unit, count = 6): Ticks {
  const decades = Math.log10(max / min);
  const leads = decades * 3 <= count ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil(decades / count));
  const values: number[] = [];
  for (let power = Math.floor(Math.log10(min)); power <= Math.ceil(Math.log10(max)); power++) {
    if (power % every !== 0) continue;
    for (const lead of leads) {
      const value = lead * 10 ** power;
      if (value >= min * (1 - 1e-9) && value <= max * (1 + 1e-9)) values.push(value);
    }
  }
  if (values.length < 2) return { values: [min, max], labels: [min, max].map((v) => formatValue(v, unit, 2)), unit: '' };
  return { values, labels: values.map((v) => formatValue(v, unit, 2)), unit: '' };
}

/** The least of 1, 2, 5 times a power of ten that is at least `rough`. */
export function niceStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  const lead = rough / power;
  const nice = lead <= 1 + 1e-9 ? 1 : lead <= 2 + 1e-9 ? 2 : lead <= 5 + 1e-9 ? 5 : 10;
  return nice * power;
}

/** Seconds as Prometheus writes durations: "1h30m", "500ms". */
export function formatDuration(seconds: number): string {
  let rest = Math.round(seconds * 1000);
  if (rest <= 0) return '0s';
  let out = '';
  for (const [name, size] of [['w', 604_800_000], ['d', 86_400_000], ['h', 3_600_000], ['m', 60_000], ['s', 1000], ['ms', 1]] as const) {
    if (name === 'w' && rest % size !== 0) continue;
    const n = Math.floor(rest / size);
    if (n > 0) out += `${n}${name}`;
    rest -= n * size;
  }
  return out;
}

/** The seconds of a duration in Prometheus' notation, or of a plain number; null: neither. */
export function parseDuration(text: string): number | null {
  const trimmed = text.trim();
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Number(trimmed);
  if (!/^(\d+(\.\d+)?(ms|[smhdwy]))+$/.test(trimmed)) return null;
  const sizes: Record<string, number> = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400, w: 604800, y: 31_536_000 };
  let total = 0;
  for (const [, n, name] of trimmed.matchAll(/(\d+(?:\.\d+)?)(ms|[smhdwy])/g)) total += Number(n) * sizes[name!]!;
  return total;
}

/** How long ago or how long, for people: "3.2 s", "9m54s", "2d4h". */
export function formatSpan(seconds: number): string {
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${String(whole % 60).padStart(2, '0')}s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)}h${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')}m`;
  return `${Math.floor(whole / 86_400)}d${Math.floor((whole % 86_400) / 3600)}h`;
}
