// Which alerts people have silenced at an Alertmanager.
import { labelName, quote, type Labels } from './labels';

/** `/api/v1/alerts/silences`. Times are Unix seconds. */
export interface Silences { alertmanagers: { url: string; error: string }[]; silences: Silence[]; externalLabels: Labels }
export interface Silence { id: string; matchers: SilenceMatcher[]; startsAt: number; endsAt: number; createdBy: string; comment: string; alertmanager: string }
export interface SilenceMatcher { name: string; value: string; isRegex: boolean; isEqual: boolean }

function holds({ name, value, isRegex, isEqual }: SilenceMatcher, labels: Labels): boolean {
  const own = labels[name] ?? '';
  if (!isRegex) return (own === value) === isEqual;
  try {
    return new RegExp(`^(?:${value})$`, 'su').test(own) === isEqual;
  } catch {
    // An expression of another dialect: rather not silenced than silenced by mistake.
    return false;
  }
}

/** The silence of an alert that ends last; undefined: it has none. An alert's own labels win over external ones. */
export function silenceOf(labels: Labels, of: Silences | null): Silence | undefined {
  const sent = { ...of?.externalLabels, ...labels };
  return of?.silences.filter((s) => s.matchers.every((m) => holds(m, sent))).sort((a, b) => b.endsAt - a.endsAt)[0];
}

/** The page of an Alertmanager where alerts with these labels are silenced; undefined: its path is not the usual one. */
export function silencePage(alertmanager: string, labels: Labels): string | undefined {
  const base = /^(https?:\/\/.*)\/api\/v2\/alerts$/.exec(alertmanager)?.[1];
  if (base === undefined) return undefined;
  const filter = Object.keys(labels).sort().map((name) => `${labelName(name)}=${quote(labels[name]!)}`).join(', ');
  return `${base}/#/silences/new?filter=${encodeURIComponent(`{${filter}}`)}`;
}
