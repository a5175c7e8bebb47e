import { describe, expect, it } from 'vitest';
import { nextScale } from '../src/chart/draw';
import { bucketsOf, classicBuckets, heatOf, isClassic, isNative, merge, quantile } from '../src/chart/heat';
import { colorLabels, paintOf, usualColoring } from '../src/chart/paint';
import { COLORS, Store } from '../src/chart/store';
import { change, logTicks } from '../src/format/numbers';

function storeOf(series: { labels: Record<string, string>; values: number[] }[]): Store {
  const store = new Store(1, 0, series[0]!.values.length - 1);
  store.setRange(0, series[0]!.values.length - 1, series.map(({ labels, values }) => ({ metric: labels, values: values.map((v, t) => [t, String(v)]) })));
  return store;
}

describe('the range of the y axis over time', () => {
  it('grows at once and shrinks after 30 s', () => {
    let scale = nextScale(null, { min: 0, max: 10 }, 0);
    scale = nextScale(scale, { min: 0, max: 20 }, 1);
    expect(scale.max).toBe(20);
    scale = nextScale(scale, { min: 0, max: 10 }, 2);
    expect(scale).toEqual({ min: 0, max: 20, roomySince: 2 });
    scale = nextScale(scale, { min: 0, max: 10 }, 31);
    expect(scale.max).toBe(20);
    expect(nextScale(scale, { min: 0, max: 10 }, 32).max).toBe(10);
  });
  it('does not wait where the picture would be flat', () => {
    expect(nextScale({ min: 0, max: 100, roomySince: 0 }, { min: 0, max: 10 }, 0).max).toBe(10);
  });
});

describe('colours', () => {
  const many = storeOf(Array.from({ length: 60 }, (_, i) => ({ labels: { n: String(i), room: `r${i % 5}` }, values: [i, i] })));
  it('of many say who is greater, and of few who is who', () => {
    expect([usualColoring(24), usualColoring(25)]).toEqual(['series', 'rank']);
    const paint = paintOf(many, 'rank');
    const colors = [...many.series.values()].sort((a, b) => Number(a.labels['n']) - Number(b.labels['n'])).map((s) => paint.get(s.key)!);
    expect([colors[0], colors[59]]).toEqual([COLORS, COLORS + 11]);
    expect(colors).toEqual([...colors].sort((a, b) => a - b));
  });
  it('of a label are the same for the same value', () => {
    const paint = paintOf(many, 'label:room');
    const byRoom = new Map<string, Set<number>>();
    for (const s of many.series.values()) byRoom.set(s.labels['room']!, (byRoom.get(s.labels['room']!) ?? new Set()).add(paint.get(s.key)!));
    expect([...byRoom.values()].map((set) => set.size)).toEqual([1, 1, 1, 1, 1]);
    expect(new Set([...byRoom.values()].map((set) => [...set][0])).size).toBe(5);
    expect(colorLabels([...many.series.values()], ['n', 'room'])).toEqual(['room']);
  });
});

describe('cells of histograms', () => {
  it('of cumulative counts are their differences', () => {
    expect(classicBuckets(new Map([[1, 2], [Infinity, 7], [2, 5]]))).toEqual([
      { lower: -Infinity, upper: 1, count: 2 }, { lower: 1, upper: 2, count: 3 }, { lower: 2, upper: Infinity, count: 2 },
    ]);
    expect(classicBuckets(new Map([[1, 5], [2, 4]])).map((b) => b.count)).toEqual([5, 0]);
  });
  it('of native ones are their buckets, added where bounds are equal', () => {
    const one = { count: '3', sum: '4', buckets: [[0, '1', '2', '1'], [0, '2', '4', '2']] as [number, string, string, string][] };
    expect(merge([bucketsOf(one), bucketsOf(one)])).toEqual([{ lower: 1, upper: 2, count: 2 }, { lower: 2, upper: 4, count: 4 }]);
    const store = new Store(1, 0, 2);
    store.setRange(0, 1, [{ metric: { a: 'b' }, histograms: [[0, one], [1, one]] }]);
    store.snapshot(1.5, [{ labels: { a: 'b' }, histogram: one }]);
    store.progress(2);
    const shown = [...store.series.values()];
    expect([isNative(shown), isClassic(shown)]).toEqual([true, false]);
    const heat = heatOf(store, shown)!;
    expect(heat.columns.map((c) => c.length)).toEqual([2, 2, 2]);
    expect([heat.min, heat.max, heat.most, heat.openAbove]).toEqual([1, 4, 2, false]);
  });
  it('keep their steps when the store forgets old ones', () => {
    const store = new Store(1, 0, 5);
    store.setRange(0, 0, []);
    const at = (n: number) => ({ count: String(n), sum: '1', buckets: [[0, '1', '2', String(n)]] as [number, string, string, string][] });
    for (let t = 1; t < 200; t++) store.delta(t, [{ labels: { a: 'b' }, histogram: at(t) }], []);
    const heat = heatOf(store, [...store.series.values()])!;
    expect(heat.columns.at(-1)![0]!.count).toBe(199);
    expect(heat.columns.map((c) => c[0]!.count)).toEqual([194, 195, 196, 197, 198, 199]);
  });
  it('know classic ones by their label', () => {
    const store = storeOf(['0.1', '1', '+Inf'].map((le, i) => ({ labels: { le }, values: [i, i] })));
    const shown = [...store.series.values()];
    expect(isClassic(shown)).toBe(true);
    expect(heatOf(store, shown)!.openAbove).toBe(true);
    expect(isClassic([...storeOf([{ labels: { le: 'x' }, values: [1] }, { labels: { le: 'y' }, values: [1] }, { labels: { le: 'z' }, values: [1] }]).series.values()])).toBe(false);
  });
  it('have quantiles, evenly on a logarithmic axis', () => {
    const buckets = [{ lower: 1, upper: 4, count: 10 }, { lower: 4, upper: 16, count: 10 }];
    expect([quantile(buckets, 0.5), quantile(buckets, 0.75), quantile([], 0.5)]).toEqual([4, 8, NaN]);
    expect(quantile([{ lower: 1, upper: Infinity, count: 1 }], 0.9)).toBe(1);
  });
});

it('ticks of a logarithmic axis are round', () => {
  expect(logTicks(0.005, 2, 'seconds', 6).labels).toEqual(['10 ms', '100 ms', '1 s']);
  expect(logTicks(1, 90, '', 6).values).toEqual([1, 2, 5, 10, 20, 50]);
  expect(logTicks(3, 4, '', 6).values).toEqual([3, 4]);
  expect(logTicks(1, 1e30, '', 6).values.length).toBeLessThanOrEqual(7);
});

it('a change is a share of what was', () => {
  expect([change(3, 2), change(1, -2), change(1, 0), change(NaN, 1)]).toEqual([0.5, 1.5, NaN, NaN]);
});
