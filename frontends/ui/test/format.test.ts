import { describe, expect, it } from 'vitest';
import { formatDuration, formatSpan, formatValue, parseDuration, parseValue, ticks } from '../src/format/numbers';
import { clockTime, dateTime, parseTime, timeTicks } from '../src/format/time';
import { commonLabels, csvCell, hash, labelKey, labelNames, link, selector } from '../src/format/labels';

describe('values', () => {
  it.each([
    [0, '', '0'], [12.3, '', '12.3'], [2795, '', '2795'], [0.9999, 'per-second', '0.9999 /s'], [8.1 * 2 ** 30, 'bytes', '8.1 GiB'], [3.04e-7, '', '304 n'],
    [0.0123, 'seconds', '12.3 ms'], [90, 'seconds', '1.5 min'], [0.9527, 'ratio', '95.27 %'], [31.17, 'celsius', '31.17 °C'], [7_026_000_000, '', '7.026 G'],
    [NaN, '', 'NaN'], [Infinity, 'bytes', '+Inf'], [-Infinity, '', '-Inf'], [-1500, 'bytes', '-1.465 KiB'],
  ] as const)('%s in %s is %s', (value, unit, text) => expect(formatValue(value, unit)).toBe(text));

  it('reads the values of the API', () => {
    expect(parseValue('+Inf')).toBe(Infinity);
    expect(parseValue('-Inf')).toBe(-Infinity);
    expect(parseValue('NaN')).toBeNaN();
    expect(parseValue('1e3')).toBe(1000);
  });
});

describe('ticks', () => {
  it('are round, few, and have equal decimals', () => {
    for (const [min, max] of [[0, 1], [0, 35.2], [1e-7, 3e-7], [-5, 5], [999, 1001], [0, 8e9], [0.1, 0.1001]] as const) {
      const found = ticks(min, max, '');
      expect(found.values.length).toBeGreaterThan(1);
      expect(found.values.length).toBeLessThanOrEqual(8);
      expect(new Set(found.labels.map((l) => l.split('.')[1]?.length ?? 0)).size, String(found.labels)).toBe(1);
      expect(new Set(found.labels).size).toBe(found.labels.length);
    }
    expect(ticks(0, 8 * 2 ** 30, 'bytes')).toMatchObject({ unit: 'GiB', labels: ['0', '2', '4', '6', '8'] });
  });
});

describe('durations', () => {
  it.each([[5400, '1h30m'], [0.5, '500ms'], [604800, '1w'], [60, '1m'], [90061, '1d1h1m1s']] as const)('%s s is %s', (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text);
    expect(parseDuration(text)).toBe(seconds);
  });
  it('refuses what is none', () => expect([parseDuration('x'), parseDuration(''), parseDuration('5x')]).toEqual([null, null, null]));
  it('are short for people', () => expect([formatSpan(3.24), formatSpan(594), formatSpan(7325), formatSpan(200_000)]).toEqual(['3.2 s', '9m54s', '2h02m', '2d7h']));
});

describe('times', () => {
  it('are read as they are written', () => {
    const t = 1_795_577_801.5;
    expect(dateTime(t, 'utc', true)).toBe('2026-11-25 03:36:41.500');
    expect(parseTime('2026-11-25 03:36:41.5', 'utc')).toBe(t);
    expect(parseTime('2026-11-25T03:36:41.5Z', 'local')).toBe(t);
    expect(parseTime('2026-11-25', 'utc')).toBe(Date.UTC(2026, 10, 25) / 1000);
    expect(parseTime('nonsense', 'utc')).toBeNull();
  });
  it('tick at round times of the zone, and name the day at midnight', () => {
    const from = Date.UTC(2026, 10, 24, 22, 7) / 1000;
    expect(timeTicks(from, from + 14_400, 'utc', 8).map((x) => x.label)).toEqual(['22:30', '23:00', '23:30', '11-25', '00:30', '01:00', '01:30', '02:00']);
  });
  it('tick every local hour once on the days when the clock changes', () => {
    // The test command sets this zone.
    expect(Intl.DateTimeFormat().resolvedOptions().timeZone).toBe('Europe/Madrid');
    for (const day of [Date.UTC(2026, 2, 28, 22) / 1000, Date.UTC(2026, 9, 24, 22) / 1000]) {
      const found = timeTicks(day, day + 8 * 3600, 'local', 10);
      for (const { t, label } of found) expect(label === clockTime(t, 'local').slice(0, 5) || /^\d\d-\d\d$/.test(label)).toBe(true);
      expect(new Set(found.map((x) => x.t)).size).toBe(found.length);
    }
  });
});

describe('labels', () => {
  it('become selectors that parse', () => {
    expect(selector({ __name__: 'up', job: 'a"b\\' })).toBe('up{job="a\\"b\\\\"}');
    expect(selector({ __name__: '<b>m</b>', 'la<u>': 'v' })).toBe('{"<b>m</b>", "la<u>"="v"}');
    expect(selector({})).toBe('{}');
  });
  it('have keys and colours that do not depend on their order', () => {
    expect(labelKey({ a: '1', b: '2' })).toBe(labelKey({ b: '2', a: '1' }));
    expect(labelKey({ a: '1,b', c: '' })).not.toBe(labelKey({ a: '1', 'b,c': '' }));
    expect(hash('x')).toBe(hash('x'));
  });
  it('are split into common and different ones', () => {
    const sets = [{ job: 'a', i: '1' }, { job: 'a', i: '2', x: 'y' }];
    expect(commonLabels(sets)).toEqual({ job: 'a' });
    expect(labelNames(sets, { job: 'a' })).toEqual(['i', 'x']);
    expect(commonLabels([{ job: 'a' }])).toEqual({});
  });
  it('are links only with http', () => {
    expect(link('https://example.org/x')).toBe('https://example.org/x');
    for (const text of ['javascript:alert(1)', 'data:text/html,x', '//evil.test', ' https://x', 'HTTPS:', 'ftp://x']) expect(link(text)).toBeUndefined();
  });
  it('are no formulas in CSV', () => {
    expect(csvCell('=cmd()')).toBe("'=cmd()");
    expect(csvCell('-1.5')).toBe('-1.5');
    expect(csvCell('+Inf')).toBe('+Inf');
    expect(csvCell('a"b,c')).toBe('"a""b,c"');
  });
});
