// What the series of a graph on a console are called.
import type { Labels } from '../format/labels';

/** A name with places `[[ label ]]`, or a function of the labels. */
export type Name = string | ((labels: Labels) => string);

/** Fills the places `[[ label ]]` of a name. A text without any stays as it is. */
export function interpolate(name: string, labels: Labels): string {
  return name.replace(/\[\[\s*(\w+)\s*\]\]/g, (_, label: string) => String(labels[label]));
}

/** A name that tells the series of some answers apart: the only label that differs, else all of them. */
export function usualName(all: Labels[]): (labels: Labels) => string {
  const values = new Map<string, Set<string>>();
  for (const labels of all) {
    for (const [name, value] of Object.entries(labels)) values.set(name, (values.get(name) ?? new Set()).add(value));
  }
  const differ = [...values].filter(([, found]) => found.size > 1).map(([name]) => name);
  const only = differ.length === 1 ? differ[0]! : null;
  if (only !== null) return (labels) => labels[only] ?? '';
  return (labels) => {
    const pairs = Object.entries(labels).filter(([name]) => !name.startsWith('__')).map(([name, value]) => `${name}='${value}'`);
    return `${labels['__name__'] ?? ''}{${pairs.join(',')}}`;
  };
}
