// Label sets as keys, as text and as PromQL, and what a list of them has in common.

/** A label set of the API. */
export type Labels = Record<string, string>;

/** The keys of label sets that come again with every message. */
const KEYS = new WeakMap<Labels, string>();

/** A text that is equal for equal label sets, which do not change. */
export function labelKey(labels: Labels): string {
  let key = KEYS.get(labels);
  if (key === undefined) {
    key = JSON.stringify(Object.keys(labels).sort().map((name) => [name, labels[name]]));
    KEYS.set(labels, key);
  }
  return key;
}

/** A string as PromQL writes it. */
export function quote(text: string): string {
  return `"${text.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n')}"`;
}

const LEGACY_METRIC = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LEGACY_LABEL = /^[a-zA-Z_][a-zA-Z0-9_]*$/;

/** Whether a metric name needs no quotes. */
export function isPlainMetric(name: string): boolean {
  return LEGACY_METRIC.test(name);
}

/** A label name as PromQL writes it. */
export function labelName(name: string): string {
  return LEGACY_LABEL.test(name) ? name : quote(name);
}

/** A selector of exactly these labels. */
export function selector(labels: Labels): string {
  const { __name__: name, ...rest } = labels;
  const parts = Object.keys(rest).sort().map((key) => `${labelName(key)}=${quote(rest[key]!)}`);
  if (name === undefined) return `{${parts.join(', ')}}`;
  if (!isPlainMetric(name)) return `{${[quote(name), ...parts].join(', ')}}`;
  return parts.length === 0 ? name : `${name}{${parts.join(', ')}}`;
}

/** The labels that all sets have with the same value. With one set: none. */
export function commonLabels(sets: Labels[]): Labels {
  const first = sets[0];
  if (!first || sets.length < 2) return {};
  const common: Labels = {};
  for (const [name, value] of Object.entries(first)) {
    if (sets.every((set) => set[name] === value)) common[name] = value;
  }
  return common;
}

/** The sets of the first list that the second one lacks. */
export function missing(then: Labels[], present: Labels[]): Labels[] {
  const there = new Set(present.map(labelKey));
  return then.filter((labels) => !there.has(labelKey(labels)));
}

/** All label names of the sets besides those of `without`, the metric name first, then sorted. */
export function labelNames(sets: Labels[], without: Labels = {}): string[] {
  const names = new Set<string>();
  for (const set of sets) for (const name of Object.keys(set)) if (!(name in without)) names.add(name);
  return [...names].sort((a, b) => (a === '__name__' ? -1 : b === '__name__' ? 1 : a < b ? -1 : 1));
}

/** A 32-bit hash of a text (FNV-1a), for colours: the same in every session. */
export function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

/** The key of a label set in a few letters, for addresses. */
export function shortKey(key: string): string {
  return hash(key).toString(36);
}

/** An address that may be linked: only http and https. */
export function link(url: string): string | undefined {
  return /^https?:\/\//i.test(url) && URL.canParse(url) ? url : undefined;
}

/** A cell of CSV. Text that a spreadsheet would take for a formula gets a quote mark before it. */
export function csvCell(text: string): string {
  const safe = /^[=+\-@\t\r]/.test(text) && !/^[+-]?(\d|Inf)/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
}
