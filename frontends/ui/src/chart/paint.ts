// Which colour each series has: by a hash of its labels, by one of its labels, or, of many, by its rank.
import { hash } from '../format/labels';
import { COLORS, type Series, type Store } from './store';

/** How series are coloured: "series", "rank", or the name of a label with "label:" before it. */
export type Coloring = string;

/** Colours that say which of many is greater; they follow those that tell series apart. */
export const RANKS = 12;
/** Up to this many series each has a colour and a dash. */
export const FEW = 24;
/** Labels with more values do not decide colours. */
export const LABEL_VALUES_MAX = 24;

/** The index of the colour token of each series, by its key. */
export type Paint = ReadonlyMap<string, number>;

/** How series are coloured unless the reader chooses. */
export function usualColoring(count: number): Coloring {
  return count > FEW ? 'rank' : 'series';
}

/** The colours of all series. */
export function paintOf(store: Store, coloring: Coloring): Paint {
  const all = [...store.series.values()];
  if (coloring === 'rank') return byRank(store, all);
  if (coloring.startsWith('label:')) return byLabel(all, coloring.slice('label:'.length));
  return new Map(all.map((s) => [s.key, s.color]));
}

/** The greatest mean has the last colour. */
function byRank(store: Store, all: Series[]): Paint {
  const order = all.map((s) => ({ s, mean: store.summary(s).avg })).sort((a, b) => {
    if (Number.isNaN(a.mean) || Number.isNaN(b.mean)) return Number(Number.isNaN(b.mean)) - Number(Number.isNaN(a.mean));
    return a.mean - b.mean;
  });
  const last = Math.max(1, order.length - 1);
  return new Map(order.map(({ s }, i) => [s.key, COLORS + Math.round((i / last) * (RANKS - 1))]));
}

/** A hash of the value decides; while there are few values, the next free colour. */
function byLabel(all: Series[], label: string): Paint {
  const values = [...new Set(all.map((s) => s.labels[label] ?? ''))].sort();
  const colors = new Map<string, number>();
  const used = new Set<number>();
  for (const value of values) {
    let color = hash(value) % COLORS;
    if (values.length <= COLORS) while (used.has(color)) color = (color + 1) % COLORS;
    used.add(color);
    colors.set(value, color);
  }
  return new Map(all.map((s) => [s.key, colors.get(s.labels[label] ?? '')!]));
}

/** The labels that can decide colours: with at least two values, and not one for each series. */
export function colorLabels(series: Series[], names: string[]): string[] {
  return names.filter((name) => {
    const values = new Set(series.map((s) => s.labels[name] ?? '')).size;
    return values > 1 && values <= LABEL_VALUES_MAX && values < series.length;
  });
}
