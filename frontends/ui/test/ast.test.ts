import { describe, expect, it } from 'vitest';
import { compare, print, threshold, unitOf, type Node } from '../src/promql/ast';

const selector = (name: string, more = {}): Node => ({ type: 'vectorSelector', offset: 0, timestamp: null, startOrEnd: null, name, matchers: [{ name: '__name__', value: name, type: '=' }], ...more });
const range = (name: string): Node => ({ ...selector(name), type: 'matrixSelector', range: 300_000 });
const fn = (name: string, ...args: Node[]): Node => ({ type: 'call', func: { name }, args });
const number = (val: string): Node => ({ type: 'numberLiteral', val });
const binary = (op: string, lhs: Node, rhs: Node, more = {}): Node => ({ type: 'binaryExpr', op, lhs, rhs, matching: null, bool: false, ...more });

describe('printing', () => {
  it.each([
    [selector('up', { matchers: [{ name: '__name__', value: 'up', type: '=' }, { name: 'job', value: 'a"', type: '=~' }] }), 'up{job=~"a\\""}'],
    [selector('a.b'), '{"a.b"}'],
    [fn('rate', range('x')), 'rate(x[5m])'],
    [{ type: 'aggregation', op: 'sum', grouping: ['path'], without: false, param: null, expr: fn('rate', range('x')) }, 'sum by (path) (rate(x[5m]))'],
    [{ type: 'aggregation', op: 'topk', grouping: [], without: false, param: number('3'), expr: selector('x') }, 'topk (3, x)'],
    [binary('*', binary('+', selector('a'), selector('b')), number('2')), '(a + b) * 2'],
    [binary('^', selector('a'), binary('^', selector('b'), selector('c'))), 'a ^ b ^ c'],
    [binary('-', selector('a'), binary('-', selector('b'), selector('c'))), 'a - (b - c)'],
    [binary('/', selector('a'), selector('b'), { matching: { card: 'many-to-one', labels: ['job'], on: true, include: ['x'] } }), 'a / on (job) group_left (x) b'],
    [selector('a', { offset: 3_600_000, timestamp: 1000 }), 'a @ 1.000 offset 1h'],
  ] as [Node, string][])('%#', (node, text) => expect(print(node)).toBe(text));
});

describe('thresholds', () => {
  it('are comparisons with a number at the root', () => {
    expect(threshold(binary('>', selector('x'), number('0.5')))).toMatchObject({ op: '>', value: 0.5 });
    expect(threshold(binary('<', selector('x'), { type: 'unaryExpr', op: '-', expr: number('3') }))?.value).toBe(-3);
    expect(threshold(binary('>', selector('x'), selector('y')))).toBeNull();
    expect(threshold(binary('>', selector('x'), number('1'), { bool: true }))).toBeNull();
    expect(threshold(binary('+', selector('x'), number('1')))).toBeNull();
  });
  it('compare', () => expect([compare(1, '>', 0), compare(1, '<=', 0), compare(NaN, '==', 0), compare(2, '!=', 1)]).toEqual([true, false, false, true]));
});

describe('units', () => {
  it.each([
    [selector('node_memory_MemAvailable_bytes'), 'bytes'], [fn('rate', range('x_bytes_total')), 'bytes-per-second'], [fn('rate', range('x_total')), 'per-second'],
    [fn('rate', range('x_seconds_total')), ''], [fn('increase', range('x_total')), ''], [binary('/', selector('a_bytes'), selector('b_bytes')), ''],
    [binary('/', selector('a_bytes'), number('2')), 'bytes'], [selector('instance:cpu_busy:ratio'), 'ratio'], [binary('>', selector('t_celsius'), number('3')), 'celsius'],
    [{ type: 'aggregation', op: 'count', grouping: [], expr: selector('a_bytes') }, ''], [fn('histogram_quantile', number('0.9'), fn('rate', range('x_seconds_bucket'))), ''],
  ] as [Node, string][])('%#', (node, unit) => expect(unitOf(node)).toBe(unit));
});
