import { describe, expect, it } from 'vitest';
import { LiveRows, numberOf, storeOf, textOf, type SqlAnswer } from '../src/sql/answer';
import { isStatement } from '../src/sql/language';
import { metricsOf, placeInStatement, relationName } from '../src/sql/statement';

const at = (text: string) => placeInStatement(text.replace('|', ''), text.indexOf('|'));

describe('the place in a statement', () => {
  it('is a relation after FROM and JOIN', () => {
    expect(at('SELECT * FROM |')).toEqual({ kind: 'relation', typed: '', scope: '' });
    expect(at('SELECT * FROM samples.no| WHERE x')).toEqual({ kind: 'relation', typed: 'no', scope: 'samples' });
    expect(at('SELECT * FROM a join meta.ta|')).toEqual({ kind: 'relation', typed: 'ta', scope: 'meta' });
  });
  it('is a value in quotes after a label', () => {
    expect(at("SELECT * FROM up WHERE job = 'pro|'")).toEqual({ kind: 'value', typed: 'pro', label: 'job', metrics: ['up'] });
    expect(at(`SELECT * FROM up WHERE "A" IN ('x', '|`)).toEqual({ kind: 'value', typed: '', label: 'A', metrics: ['up'] });
  });
  it('is nothing in other texts and in comments', () => {
    expect(at("SELECT rate(value, '5|m') FROM up")).toBeNull();
    expect(at('SELECT 1 -- from |')).toBeNull();
  });
  it('is a word elsewhere, with the metrics that are read', () => {
    expect(at("SELECT jo| FROM up JOIN \"job:a:b\" USING (labels) WHERE x = 'it''s'")).toEqual({ kind: 'word', typed: 'jo', metrics: ['up', 'job:a:b'] });
  });
});

it('relations of the server are no metrics, and names get quotes where they need them', () => {
  expect(metricsOf('SELECT 1 FROM targets t JOIN meta.up USING (x) JOIN metrics.targets USING (x) JOIN samples.Node ON 1')).toEqual(['targets', 'node']);
  expect(['up', 'job:up:sum', 'Up', 'end', 'a"b'].map(relationName)).toEqual(['up', '"job:up:sum"', '"Up"', '"end"', '"a""b"']);
});

describe('an answer', () => {
  it('has cells that are text in JSON only because it has no word for them', () => {
    expect([numberOf('NaN'), numberOf('+Inf'), numberOf('-Inf'), numberOf(1.5), numberOf(null), numberOf('9007199254740993')]).toEqual([NaN, Infinity, -Infinity, 1.5, NaN, 9007199254740992]);
    expect([textOf(null), textOf(true), textOf(0)]).toEqual(['', 'true', '0']);
  });

  const columns = [{ name: 't', type: 'timestamptz' }, { name: 'job', type: 'text' }, { name: 'value', type: 'float8' }];
  const time = (seconds: number) => new Date(seconds * 1000).toISOString();

  it('becomes lines where it has times and numbers', () => {
    const answer: SqlAnswer = { columns, rows: [[time(30), 'a', 3], [time(10), 'a', 1], [time(20), 'a', 'NaN'], [time(10), 'b', '+Inf'], [time(30), 'b', null]] };
    const store = storeOf(answer)!;
    expect([store.step, store.t0, store.end]).toEqual([10, 10, 30]);
    const [a, b] = [...store.series.values()];
    expect([...a!.values.subarray(0, 3)]).toEqual([1, NaN, 3]);
    expect([...b!.values.subarray(0, 3)]).toEqual([Infinity, NaN, NaN]);
    expect(a!.labels).toEqual({ job: 'a' });
  });
  it('calls lines by their column where there are several', () => {
    const two = { columns: [columns[0]!, { name: 'least', type: 'float8' }, { name: 'most', type: 'int8' }], rows: [[time(0), 1, 2], [time(60), 3, 4]] };
    expect([...storeOf(two)!.series.values()].map((s) => s.labels)).toEqual([{ __name__: 'least' }, { __name__: 'most' }]);
  });
  it('has no gap where times jitter, and one where samples are missing', () => {
    const rows = [0, 15.004, 29.9, 45.01, 60.02, 120, 135, 150].map((t, i) => [time(t), 'a', i]);
    const values = [...[...storeOf({ columns, rows })!.series.values()][0]!.values.subarray(0, 11)];
    expect(values.slice(0, 5).some(Number.isNaN)).toBe(false);
    expect(values.slice(5, 7).some(Number.isNaN)).toBe(true);
  });
  it('has no lines without times, without numbers, or at one time', () => {
    expect(storeOf({ columns: columns.slice(1), rows: [['a', 1]] })).toBeNull();
    expect(storeOf({ columns: columns.slice(0, 2), rows: [[time(1), 'a']] })).toBeNull();
    expect(storeOf({ columns, rows: [[time(1), 'a', 1], [time(1), 'b', 2]] })).toBeNull();
  });
});

it('rows of a statement that stands are counted', () => {
  const rows = new LiveRows([{ name: 'a', type: 'text' }, { name: 'n', type: 'int8' }]);
  const change = (a: string, n: number, diff: number) => ({ row: { a, n }, diff });
  rows.reset([change('x', 1, 2), change('y', 2, 1)]);
  expect(rows.answer().rows).toEqual([['x', 1], ['x', 1], ['y', 2]]);
  rows.change([change('x', 1, -1), change('y', 2, -1), change('y', 3, 1)]);
  expect(rows.answer().rows).toEqual([['x', 1], ['y', 3]]);
  rows.reset([{ row: { a: 'z' } as Record<string, string>, diff: 1 }]);
  expect(rows.answer().rows).toEqual([['z', null]]);
});

it('a rule is in SQL if its text is no expression', () => {
  expect(['SELECT a FROM b', ' select 1', 'WITH x AS (SELECT 1) SELECT * FROM x', 'VALUES (1)', 'SELECT "A" FROM b'].map(isStatement)).toEqual([true, true, true, true, true]);
  expect(['up', 'select', 'select{a="b"}', 'select + up', 'select and up', 'selected > 1', 'with / up', 'sum(select)'].map(isStatement)).toEqual([false, false, false, false, false, false, false, false]);
});
