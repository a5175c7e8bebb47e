// When alerts were pending and fired, from their changes or from samples.
import type { Transition } from '../types';
import type { Labels } from './labels';

/** A stretch in one state. Times are Unix seconds. */
export interface StateSpan { state: string; from: number; to: number }

/** The stretches of an alert from its samples: those that follow each other by one step are one. */
export function stretches(series: { state: string; times: number[] }[], step: number): StateSpan[] {
  const found: StateSpan[] = [];
  for (const { state, times } of series) {
    for (const t of times) {
      const last = found.at(-1);
      if (last && last.state === state && t - last.to <= step * 1.5) last.to = t;
      else found.push({ state, from: t, to: t });
    }
  }
  return found.sort((a, b) => a.from - b.from);
}

/** The stretches of an alert from its changes, the oldest first, between two times. */
export function stretchesOf(changes: { at: number; from: string; to: string }[], from: number, to: number): StateSpan[] {
  const found: StateSpan[] = [];
  let state = changes[0]?.from ?? 'inactive';
  let since = from;
  const close = (end: number) => state !== 'inactive' && found.push({ state, from: since, to: end });
  for (const change of changes) {
    close(change.at);
    state = change.to;
    since = change.at;
  }
  close(to);
  return found;
}

/** An alert and what it did. */
export interface AlertChanges { labels: Labels; fingerprint: string; changes: Transition[]; stretches: StateSpan[] }

/** The alerts of changes, which come with the newest first. */
export function alertsOf(transitions: Transition[], from: number, to: number): AlertChanges[] {
  const found = new Map<string, AlertChanges>();
  for (const change of [...transitions].reverse()) {
    const one = found.get(change.fingerprint) ?? { labels: change.labels, fingerprint: change.fingerprint, changes: [], stretches: [] };
    one.changes.push(change);
    found.set(change.fingerprint, one);
  }
  return [...found.values()].map((a) => ({ ...a, stretches: stretchesOf(a.changes, from, to) }))
    .sort((a, b) => b.changes.at(-1)!.at - a.changes.at(-1)!.at);
}
