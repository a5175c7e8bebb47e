import { describe, expect, it } from 'vitest';
import { changedLines } from '../src/format/lines';
import { missing } from '../src/format/labels';
import type { Node } from '../src/promql/ast';
import { labelsOf, labelsRead, lintRule, mayHave, placeOf, selectors, seriesOf, type Linted } from '../src/promql/lint';

const metric = (name: string, ...matchers: { name: string; value: string; type: string }[]): Node => ({ type: 'vectorSelector', name, matchers });
const range = (name: string): Node => ({ type: 'matrixSelector', name, matchers: [], range: 300_000 });
const call = (name: string, ...args: Node[]): Node => ({ type: 'call', func: { name }, args });
const sum = (expr: Node, grouping: string[], without = false, op = 'sum'): Node => ({ type: 'aggregation', op, expr, grouping, without, param: null });
const number = (val: string): Node => ({ type: 'numberLiteral', val });
const binary = (lhs: Node, op: string, rhs: Node, matching: object | null): Node => ({ type: 'binaryExpr', lhs, op, rhs, matching });
const alert = (annotations: Record<string, string>, more: Partial<Linted> = {}): Linted => ({ type: 'alerting', name: 'A', annotations, duration: 60, health: 'ok', ...more });

describe('the labels of an expression', () => {
  it('are those that aggregations keep', () => {
    const rate = call('rate', range('x_total'));
    const by = labelsOf(sum(rate, ['job']));
    expect([mayHave(by, 'job'), mayHave(by, 'instance')]).toEqual([true, false]);
    const without = labelsOf(sum(rate, ['instance'], true));
    expect([mayHave(without, 'job'), mayHave(without, 'instance')]).toEqual([true, false]);
    expect(mayHave(labelsOf(sum(rate, ['job'], false, 'topk')), 'instance')).toBe(true);
    expect(mayHave(labelsOf(sum(sum(rate, ['job']), ['job', 'instance'])), 'instance')).toBe(false);
  });
  it('are those that matches keep', () => {
    const left = metric('a');
    const right = metric('b');
    const on = { card: 'one-to-one', labels: ['job'], on: true, include: [] };
    expect([mayHave(labelsOf(binary(left, '/', right, on)), 'job'), mayHave(labelsOf(binary(left, '/', right, on)), 'instance')]).toEqual([true, false]);
    const group = { card: 'many-to-one', labels: ['job'], on: true, include: ['owner'] };
    const joined = labelsOf(binary(sum(left, ['job', 'instance']), '*', right, group));
    expect([mayHave(joined, 'instance'), mayHave(joined, 'owner'), mayHave(joined, 'zone')]).toEqual([true, true, false]);
    expect(mayHave(labelsOf(binary(sum(left, ['job']), 'and', right, on)), 'job')).toBe(true);
    expect(mayHave(labelsOf(binary(sum(left, ['job']), '>', number('5'), null)), 'instance')).toBe(false);
    expect(mayHave(labelsOf(binary(number('5'), '<', sum(left, ['job']), null)), 'job')).toBe(true);
  });
  it('may be any where functions make them', () => {
    expect(mayHave(labelsOf(call('label_replace', sum(metric('a'), []), number('1'))), 'x')).toBe(true);
    expect(mayHave(labelsOf(call('histogram_quantile', number('0.9'), sum(metric('b'), ['le', 'job']))), 'le')).toBe(false);
  });
});

describe('lint', () => {
  it('finds labels that are always empty', () => {
    expect(labelsRead('{{ $labels.instance }} of {{ index $labels "my-job" }}, $labels.no')).toEqual(['instance', 'my-job']);
    const tree = binary(sum(metric('cpu'), ['job']), '>', number('0.8'), null);
    const found = lintRule(alert({ summary: '{{ $labels.instance }} {{ $labels.job }}' }), tree);
    expect(found.map((f) => f.check)).toEqual(['dead label']);
    expect(found[0]!.text).toContain('$labels.instance in "summary"');
    expect(lintRule(alert({ summary: '{{ $labels.severity }}' }, { labels: { severity: 'x' } }), tree)).toEqual([]);
  });
  it('finds counters that are read as gauges, and only those', () => {
    const checks = (node: Node) => lintRule(alert({}), node).map((f) => f.check);
    expect(checks(binary(metric('x_total'), '>', number('5'), null))).toEqual(['raw counter']);
    expect(checks(call('rate', range('x_total')))).toEqual([]);
    expect(checks(sum(metric('x_total'), [], false, 'count'))).toEqual([]);
    expect(checks(call('absent', metric('x_total')))).toEqual([]);
  });
  it('says that an alert waits for nothing, and why a rule fails', () => {
    expect(lintRule(alert({}, { duration: 0 }), metric('up')).map((f) => f.severity)).toEqual(['note']);
    expect(lintRule(alert({}, { health: 'err', lastError: 'boom' }), null)).toEqual([{ severity: 'error', check: 'evaluation', text: 'boom' }]);
  });
  it('knows what a rule reads', () => {
    const tree = binary(call('rate', { ...range('a'), offset: 60_000 }), '/', metric('b', { name: 'x', value: 'y', type: '=' }), null);
    expect(selectors(tree).map(seriesOf)).toEqual(['a', 'b{x="y"}']);
  });
});

describe('lines that differ', () => {
  const text = (n: number) => Array.from({ length: n }, (_, i) => `line ${i}`);
  it('are none in equal texts', () => expect(changedLines(text(5), text(5))).toEqual([]));
  it('stand between the lines beside them', () => {
    const after = text(20);
    after[10] = 'other';
    expect(changedLines(text(20), after).map((l) => `${l.sign}${l.text}`)).toEqual([' line 8', ' line 9', '-line 10', '+other', ' line 11', ' line 12']);
  });
  it('are found where several change', () => {
    const after = [...text(3), 'new', ...text(30).slice(3, 25), ...text(30).slice(26)];
    const found = changedLines(text(30), after).filter((l) => l.sign !== ' ');
    expect(found).toEqual([{ sign: '+', text: 'new' }, { sign: '-', text: 'line 25' }]);
  });
  it('at the ends', () => {
    expect(changedLines([], ['a'])).toEqual([{ sign: '+', text: 'a' }]);
    expect(changedLines(['a', 'b'], ['a']).map((l) => l.sign)).toEqual([' ', '-']);
  });
});

it('series that vanished are those that are not there now', () => {
  expect(missing([{ a: '1', b: '2' }, { a: '2' }], [{ b: '2', a: '1' }])).toEqual([{ a: '2' }]);
});

describe('the place of a finding', () => {
  const source = { file: 'r.yml', group: 'g', index: 0, rule: 'Hot', line: 12, lines: ['  - alert: Hot', '    expr: rate(a_total[5m]) + a_total', '    annotations:', '      summary: "{{ $labels.job }}"'] };
  it('is that of its words, else of the expression, else of the rule', () => {
    expect(placeOf(source, '$labels.job')).toEqual({ file: 'r.yml', line: 15, column: 20, text: source.lines[3], length: 11 });
    expect(placeOf(source, 'not there')).toMatchObject({ line: 13, column: 5, length: 4 });
    expect(placeOf(source, undefined)).toMatchObject({ line: 13, column: 5 });
    expect(placeOf({ ...source, lines: ['- {alert: Hot}'] }, undefined)).toMatchObject({ line: 12, column: 3 });
    expect(placeOf({ ...source, lines: [] }, 'x')).toMatchObject({ line: 12, column: 1 });
  });
});
