import { expect, test } from 'vitest';
import { alertsOf, stretches, stretchesOf } from '../src/format/alerts';
import { ruleText } from '../src/promql/rule';
import type { Transition } from '../src/types';

const change = (at: number, from: string, to: string, zone = 'a'): Transition => ({
  at, rule: { file: 'f', group: 'g', name: 'A' }, fingerprint: zone, labels: { alertname: 'A', zone }, from, to, reason: 'row', value: '1', cause: null, sent: [],
});

test('stretches lie between changes, and go on before the first and after the last', () => {
  expect(stretchesOf([change(20, 'pending', 'firing'), change(30, 'firing', 'inactive'), change(40, 'inactive', 'pending')], 10, 50)).toEqual([
    { state: 'pending', from: 10, to: 20 }, { state: 'firing', from: 20, to: 30 }, { state: 'pending', from: 40, to: 50 },
  ]);
  expect(stretchesOf([], 10, 50)).toEqual([]);
});

test('changes are divided by alert, the one that changed last first', () => {
  const found = alertsOf([change(40, 'inactive', 'firing', 'b'), change(30, 'firing', 'inactive'), change(20, 'inactive', 'firing')], 0, 50);
  expect(found.map((a) => [a.fingerprint, a.changes.map((c) => c.at), a.stretches.length])).toEqual([['b', [40], 1], ['a', [20, 30], 1]]);
});

test('samples that follow each other by a step are one stretch', () => {
  expect(stretches([{ state: 'firing', times: [10, 20, 30, 60] }], 10)).toEqual([{ state: 'firing', from: 10, to: 30 }, { state: 'firing', from: 60, to: 60 }]);
});

test('a rule of an expression is YAML whatever the expression', () => {
  expect(ruleText('up == 0', { alert: 'Down', hold: '5m', severity: 'page' })).toBe('alert: Down\nexpr: up == 0\nfor: 5m\nlabels:\n  severity: "page"\n');
  expect(ruleText('up{job="a"} == 0', { alert: '', hold: '', severity: '' })).toBe('alert: Test\nexpr: |-\n  up{job="a"} == 0\n');
  expect(ruleText('up\n== 0', { alert: 'A', hold: '', severity: '' })).toBe('alert: A\nexpr: |-\n  up\n  == 0\n');
});
