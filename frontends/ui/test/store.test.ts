import { describe, expect, it } from 'vitest';
import { Store, domain, stack } from '../src/chart/store';
import { yRange } from '../src/chart/draw';
import type { Labels } from '../src/format/labels';

const row = (k: string, value: string) => ({ labels: { k }, value });

function valuesOf(store: Store, labels: Labels): number[] {
  const series = [...store.series.values()].find((s) => s.labels['k'] === labels['k'])!;
  return [...series.values.subarray(store.first, store.length)];
}

describe('the store', () => {
  it('shows at step T the last message with t ≤ T', () => {
    const store = new Store(5, 100, 50);
    store.setRange(100, 110, [{ metric: { k: 'a' }, values: [[100, '1'], [105, '2'], [110, '3']] }]);
    store.snapshot(112, [row('a', '4')]);
    expect(store.missing(112)).toBeNull();
    store.delta(115, [row('a', '5')], []);
    store.delta(117, [row('a', '6')], []);
    store.progress(121);
    store.delta(127, [], [{ k: 'a' }]);
    store.progress(130);
    expect(store.end).toBe(130);
    expect(valuesOf(store, { k: 'a' })).toEqual([1, 2, 3, 5, 6, 6, NaN]);
  });

  it('unsettles the steps that a message concerns although it came after them', () => {
    const store = new Store(5, 100, 50);
    store.setRange(100, 110, []);
    store.snapshot(112, [row('a', '1')]);
    store.delta(116, [row('a', '2')], [], 115.5);
    expect(store.unsettled).toBeNull();
    // A sample of 119.9, which came after another target's tick had told 120.
    store.progress(120.5);
    store.delta(120.6, [row('a', '3')], [], 119.9);
    expect(valuesOf(store, { k: 'a' })).toEqual([NaN, NaN, NaN, 1, 2]);
    expect(store.unsettled).toEqual({ from: 120, to: 120 });
    // Several ticks in one message: 125 and 130 may have another value than before and after.
    store.delta(131, [row('a', '4')], [], 122);
    expect(store.unsettled).toEqual({ from: 120, to: 130 });
    store.unsettled = null;
    store.delta(135, [row('a', '5')], [], 135);
    expect(store.unsettled).toBeNull();
    store.unsettleSteps(-1e9, 200);
    expect(store.unsettled).toEqual({ from: 100, to: 135 });
  });

  it('asks for the steps between history and a snapshot', () => {
    const store = new Store(5, 100, 50);
    store.setRange(100, 110, []);
    store.snapshot(123, [row('a', '4')]);
    expect(store.missing(123)).toEqual({ from: 115, to: 120 });
    store.setRange(115, 120, [{ metric: { k: 'a' }, values: [[115, '7'], [120, '8']] }]);
    expect(valuesOf(store, { k: 'a' })).toEqual([NaN, NaN, NaN, 7, 8]);
    expect([...store.series.values()][0]!.now).toBe('4');
  });

  it('equals what a reload shows, under random messages', () => {
    let seed = 7;
    const random = () => (seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31) / 2 ** 31;
    const store = new Store(1, 0, 60);
    store.setRange(0, 0, []);
    store.snapshot(0.2, []);
    const truth = new Map<string, string>();
    const at: Map<string, string>[] = [];
    for (let t = 0.5; t < 200; t += 0.1 + random()) {
      for (let T = at.length; T < t; T++) at[T] = new Map(truth);
      const upsert = [];
      const remove = [];
      for (const k of ['a', 'b', 'c', 'd']) {
        if (random() < 0.3) upsert.push(row(k, String(Math.round(random() * 100))));
        else if (random() < 0.1 && truth.has(k)) remove.push({ k });
      }
      store.delta(t, upsert, remove);
      upsert.forEach((r) => truth.set(r.labels.k, r.value));
      remove.forEach((l) => truth.delete(l.k));
    }
    for (let i = store.first; i < store.length; i++) {
      for (const series of store.series.values()) {
        const expected = at[Math.round(store.time(i))]?.get(series.labels['k']!);
        expect(series.values[i]).toBe(expected === undefined ? NaN : Number(expected));
      }
    }
    expect(store.length - store.first).toBe(61);
  });

  it('keeps the colours when series come', () => {
    const store = new Store(1, 0, 10);
    store.snapshot(0, [row('a', '1'), row('b', '1')]);
    const before = [...store.series.values()].map((s) => s.color);
    store.delta(1, [row('c', '1')], []);
    const after = [...store.series.values()].map((s) => s.color);
    expect(after.slice(0, 2)).toEqual(before);
    expect(new Set(after).size).toBe(3);
  });

  it('marks NaN and infinity', () => {
    const store = new Store(1, 0, 10);
    store.setRange(0, 1, [{ metric: { k: 'a' }, values: [[0, 'NaN'], [1, '+Inf']] }]);
    const series = [...store.series.values()][0]!;
    expect([series.nan, series.infinite]).toEqual([true, true]);
    expect(domain(store, [series], false)).toBeNull();
  });
});

describe('stacking', () => {
  it('counts a missing value as nothing, and negative ones below zero', () => {
    expect(stack([1, NaN, 2, -1, -2])).toEqual([1, NaN, 3, -1, -3]);
  });
});

describe('the y axis', () => {
  const plain = { stacked: false, zero: false, threshold: null };
  it('begins at zero only where that helps', () => {
    expect(yRange({ min: 100, max: 110 }, plain).min).toBeGreaterThan(50);
    expect(yRange({ min: 1, max: 10 }, plain).min).toBe(0);
    expect(yRange({ min: 100, max: 110 }, { ...plain, zero: true }).min).toBe(0);
    expect(yRange({ min: 5, max: 5 }, plain)).toEqual({ min: 4.5, max: 5.5 });
    expect(yRange(null, plain)).toEqual({ min: 0, max: 1 });
  });
  it('shows a threshold that is near', () => {
    expect(yRange({ min: 10, max: 20 }, { ...plain, threshold: { op: '>', value: 30 } }).max).toBeGreaterThanOrEqual(30);
    expect(yRange({ min: 10, max: 20 }, { ...plain, threshold: { op: '>', value: 1e9 } }).max).toBeLessThan(100);
  });
});

describe('what history says again', () => {
  const answer = (last: string) => [{ metric: { k: 'a' }, values: [[100, '1'], [105, '2'], [110, last]] as [number, string][] }];

  it('is no reason to draw what is there', () => {
    const store = new Store(5, 100, 50);
    store.setRange(100, 110, answer('3'));
    const { pictures, rewrites } = store;
    store.setRange(100, 110, answer('3'));
    expect([store.pictures, store.rewrites]).toEqual([pictures, rewrites]);
    store.setRange(100, 110, answer('4'));
    expect([store.pictures, store.rewrites]).toEqual([pictures + 1, rewrites + 1]);
  });

  it('ends the mark of what was lost', () => {
    const store = new Store(5, 100, 50);
    store.setRange(100, 110, answer('3'));
    store.lose(100, 105);
    store.lose(106, 110);
    store.found([store.lost[0]!]);
    expect(store.lost).toEqual([{ from: 106, to: 110 }]);
  });
});
