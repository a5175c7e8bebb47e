// What the text of a statement says about the place where somebody types.

/** The relations about the server itself. */
export const RELATIONS: { name: string; about: string }[] = [
  { name: 'targets', about: 'scrape targets' }, { name: 'dropped_targets', about: 'targets that relabelling drops' },
  { name: 'rules', about: 'rules' }, { name: 'alerts', about: 'pending and firing alerts' },
  { name: 'series', about: 'series' }, { name: 'label_pairs', about: 'label pairs of series' },
  { name: 'metadata', about: 'types, units and help of metrics' }, { name: 'uses', about: 'which rule reads which metric' },
  { name: 'views', about: 'queries that are kept current' }, { name: 'exemplars', about: 'exemplars' }, { name: 'flags', about: 'flags of the server' },
];

/** What stands before the name of a relation: newest samples, all samples, the server itself. */
export const SCHEMAS = ['metrics', 'samples', 'meta'];

export const KEYWORDS = [
  'SELECT', 'FROM', 'WHERE', 'GROUP BY', 'ORDER BY', 'LIMIT', 'HAVING', 'QUALIFY', 'JOIN', 'LEFT JOIN', 'FULL JOIN', 'USING', 'ON', 'AS', 'AND', 'OR', 'NOT', 'IN', 'EXISTS', 'LIKE',
  'ILIKE', 'BETWEEN', 'IS NULL', 'CASE', 'WHEN', 'THEN', 'ELSE', 'END', 'DISTINCT', 'FILTER', 'OVER', 'PARTITION BY', 'WITHIN GROUP', 'UNION ALL', 'EXCEPT', 'INTERSECT', 'WITH',
  'EXPLAIN', 'ASC', 'DESC', 'INTERVAL', 'VALUES', 'TRUE', 'FALSE', 'NULL',
];

const RESERVED = new Set(KEYWORDS.flatMap((k) => k.split(' ')));

/** A name as SQL writes it: with quotes unless it is in lower case and no word of the language. */
export function relationName(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) && !RESERVED.has(name.toUpperCase()) ? name : `"${name.replaceAll('"', '""')}"`;
}

/** Where the cursor is, and the letters before it that belong to the word. */
export type StatementCursor =
  | { kind: 'relation'; typed: string; scope: string }
  | { kind: 'value'; typed: string; label: string; metrics: string[] }
  | { kind: 'word'; typed: string; metrics: string[] };

/** The metrics that a statement reads. */
export function metricsOf(text: string): string[] {
  const found = new Set<string>();
  for (const [, schema, name] of text.matchAll(/\b(?:from|join)\s+(?:(metrics|samples|meta)\s*\.\s*)?("(?:[^"]|"")+"|[a-z_][a-z0-9_]*)/gi)) {
    const plain = name!.startsWith('"') ? name!.slice(1, -1).replaceAll('""', '"') : name!.toLowerCase();
    const isOwn = schema?.toLowerCase() === 'meta' || (schema === undefined && RELATIONS.some((r) => r.name === plain));
    if (!isOwn && plain !== 'samples' && plain !== 'metrics') found.add(plain);
  }
  return [...found];
}

/** What is typed at `position`; null: a text or a comment, where nothing is completed. */
export function placeInStatement(text: string, position: number): StatementCursor | null {
  const before = text.slice(0, position);
  // Outside of quoted texts an even number of quotes lies before.
  const quotes = (before.match(/'/g) ?? []).length;
  if (quotes % 2 === 1) {
    const value = /("(?:[^"]|"")+"|[a-z_][a-z0-9_]*)\s*(?:=|<>|!=|~|!~|\bin\s*\((?:\s*'[^']*'\s*,)*|\bi?like\b)\s*'([^']*)$/i.exec(before);
    if (!value) return null;
    const label = value[1]!.startsWith('"') ? value[1]!.slice(1, -1) : value[1]!;
    return { kind: 'value', typed: value[2]!, label, metrics: metricsOf(text) };
  }
  if (/--[^\n]*$/.test(before)) return null;
  const relation = /\b(?:from|join)\s+(?:(metrics|samples|meta)\s*\.\s*)?([a-z0-9_:]*)$/i.exec(before);
  if (relation) return { kind: 'relation', typed: relation[2]!, scope: relation[1]?.toLowerCase() ?? '' };
  return { kind: 'word', typed: /[a-z_][a-z0-9_]*$/i.exec(before)?.[0] ?? '', metrics: metricsOf(text) };
}
