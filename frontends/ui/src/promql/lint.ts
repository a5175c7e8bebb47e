// What can be said about a rule from its expression and its texts alone.
import type { RuleSource } from '../types';
import { children, print, type Node } from './ast';

export type Severity = 'error' | 'warning' | 'note';

/** Something that is perhaps not meant. */
export interface Finding {
  severity: Severity; check: string; text: string; suggestion?: string;
  /** The words of the rule that it is about, as they may stand in its file. */
  words?: string;
}

/** A place in a file; line and column from 1. */
export interface FileRange { file: string; line: number; column: number; /** The text of the line. */ text: string; /** How many letters of it are meant. */ length: number }

/** Where in the text of its rule a finding is: its words, or, if they do not stand there so, the expression. */
export function placeOf(source: RuleSource, words: string | undefined): FileRange {
  const at = (line: number, column: number, length: number): FileRange => ({ file: source.file, line: source.line + line, column: column + 1, text: source.lines[line] ?? '', length });
  if (words) {
    for (const [line, text] of source.lines.entries()) {
      const column = words === '' ? -1 : text.indexOf(words);
      if (column >= 0) return at(line, column, words.length);
    }
  }
  for (const [line, text] of source.lines.entries()) {
    const found = /^([\s{-]*)(expr|sql):/.exec(text);
    if (found) return at(line, found[1]!.length, found[2]!.length);
  }
  const first = source.lines[0] ?? '';
  const blank = first.length - first.replace(/^[\s-]*/, '').length;
  return at(0, blank, Math.max(1, first.length - blank));
}

/** What lint needs of a rule. */
export interface Linted {
  type: 'alerting' | 'recording';
  name: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  /** Seconds of `for`. */
  duration?: number;
  health: string;
  lastError?: string;
}

/** Labels that rows of an expression may have: those of `only` (null: any), and none of `never`. */
export interface PossibleLabels { only: ReadonlySet<string> | null; never: ReadonlySet<string> }

const ANY: PossibleLabels = { only: null, never: new Set() };

/** Whether rows may have a label. */
export function mayHave(labels: PossibleLabels, name: string): boolean {
  return (labels.only === null || labels.only.has(name)) && !labels.never.has(name);
}

interface Matching { card: string; labels: string[]; on: boolean; include: string[] }

/** The labels that the rows of an expression may have. */
export function labelsOf(node: Node): PossibleLabels {
  switch (node.type) {
    case 'aggregation':
      return labelsOfAggregation(node);
    case 'binaryExpr':
      return labelsOfBinary(node);
    case 'parenExpr':
    case 'unaryExpr':
    case 'subquery':
      return labelsOf(node['expr'] as Node);
    case 'call': {
      const name = (node['func'] as { name: string }).name;
      if (name === 'scalar' || name === 'vector' || name === 'time') return { only: new Set(), never: new Set() };
      // These make labels of their own.
      if (/^(label_|absent|info|histogram_quantiles)/.test(name)) return ANY;
      const inner = ((node['args'] as Node[] | undefined) ?? []).find((arg) => arg.type !== 'numberLiteral' && arg.type !== 'stringLiteral');
      if (!inner) return ANY;
      const labels = labelsOf(inner);
      return name === 'histogram_quantile' ? { ...labels, never: new Set([...labels.never, 'le']) } : labels;
    }
    default:
      return ANY;
  }
}

function labelsOfAggregation(node: Node): PossibleLabels {
  const grouping = (node['grouping'] as string[] | undefined) ?? [];
  const inner = labelsOf(node['expr'] as Node);
  const op = node['op'] as string;
  // These give rows of their operand, whatever they are grouped by.
  if (/^(topk|bottomk|limitk|limit_ratio)$/.test(op)) return inner;
  if (op === 'count_values') return ANY;
  if (node['without'] === true) return { only: inner.only, never: new Set([...inner.never, ...grouping]) };
  return { only: new Set(grouping.filter((name) => mayHave(inner, name))), never: new Set() };
}

function labelsOfBinary(node: Node): PossibleLabels {
  const left = labelsOf(node['lhs'] as Node);
  const right = labelsOf(node['rhs'] as Node);
  const matching = node['matching'] as Matching | null | undefined;
  const op = node['op'] as string;
  if (!matching) return isScalar(node['lhs'] as Node) ? right : left;
  if (op === 'and' || op === 'unless') return left;
  if (op === 'or') return ANY;
  if (matching.card === 'one-to-one') {
    if (matching.on) return { only: new Set(matching.labels.filter((name) => mayHave(left, name))), never: new Set() };
    return { only: left.only, never: new Set([...left.never, ...matching.labels]) };
  }
  const many = matching.card === 'one-to-many' ? right : left;
  const include = matching.include;
  return { only: many.only && new Set([...many.only, ...include]), never: new Set([...many.never].filter((name) => !include.includes(name))) };
}

function isScalar(node: Node): boolean {
  if (node.type === 'parenExpr' || node.type === 'unaryExpr') return isScalar(node['expr'] as Node);
  if (node.type === 'binaryExpr') return isScalar(node['lhs'] as Node) && isScalar(node['rhs'] as Node);
  return node.type === 'numberLiteral' || (node.type === 'call' && /^(scalar|time|pi)$/.test((node['func'] as { name: string }).name));
}

/** The labels that templates of a rule read. */
export function labelsRead(text: string): string[] {
  const found = new Set<string>();
  for (const [, body] of text.matchAll(/\{\{([^}]*)\}\}/g)) {
    for (const [, name] of body!.matchAll(/\$labels\.([a-zA-Z_][a-zA-Z0-9_]*)/g)) found.add(name!);
    for (const [, name] of body!.matchAll(/index\s+\$labels\s+"([^"]+)"/g)) found.add(name!);
  }
  return [...found];
}

/** All selectors of an expression. */
export function selectors(node: Node): Node[] {
  const own = node.type === 'vectorSelector' || node.type === 'matrixSelector' ? [node] : [];
  return [...own, ...children(node).flatMap(selectors)];
}

/** A selector as an instant one, without offset and time: the series that it reads. */
export function seriesOf(selector: Node): string {
  return print({ type: 'vectorSelector', name: selector['name'], matchers: selector['matchers'] });
}

const COUNTER_FUNCTIONS = /^(rate|irate|increase|resets|changes|absent|absent_over_time|present_over_time|count_over_time|last_over_time|timestamp|delta|idelta|info)$/;

/** Counters that are read as if they were gauges. */
function rawCounters(node: Node, above: string): string[] {
  const name = (node['name'] as string | undefined) ?? '';
  if (node.type === 'vectorSelector' && /_total$/.test(name) && !COUNTER_FUNCTIONS.test(above)) return [name];
  if (node.type === 'aggregation' && /^(count|group|count_values)$/.test(node['op'] as string)) return [];
  const here = node.type === 'call' ? (node['func'] as { name: string }).name : node.type === 'subquery' || node.type === 'parenExpr' ? above : '';
  return children(node).flatMap((child) => rawCounters(child, here));
}

/** What the expression and the texts of a rule give reason to ask. `tree` is null if it cannot be parsed. */
export function lintRule(rule: Linted, tree: Node | null): Finding[] {
  const found: Finding[] = [];
  if (rule.health === 'err') found.push({ severity: 'error', check: 'evaluation', text: rule.lastError || 'the evaluation fails' });
  if (!tree) return found;
  const labels = labelsOf(tree);
  const static_ = new Set([...Object.keys(rule.labels ?? {}), 'alertname']);
  for (const [where, text] of [...Object.entries(rule.annotations ?? {}), ...Object.entries(rule.labels ?? {})]) {
    for (const name of labelsRead(text)) {
      if (mayHave(labels, name) || static_.has(name)) continue;
      const by = labels.only ? ` The rows have ${labels.only.size === 0 ? 'no labels' : [...labels.only].join(', ')}.` : '';
      found.push({ severity: 'warning', check: 'dead label', text: `$labels.${name} in "${where}" is always empty: the expression drops this label.${by}`, suggestion: `keep it in the aggregation: by (${[...(labels.only ?? []), name].join(', ')})`, words: `$labels.${name}` });
    }
  }
  for (const name of new Set(rawCounters(tree, ''))) {
    found.push({ severity: 'warning', check: 'raw counter', text: `${name} is a counter, and it is read without rate() or increase(): it grows until the program starts again.`, suggestion: `rate(${name}[5m])`, words: name });
  }
  if (rule.type === 'alerting' && (rule.duration ?? 0) === 0) found.push({ severity: 'note', check: 'no for', text: 'It fires with the first sample: one that is wrong is enough.', suggestion: 'for: 1m', words: `alert: ${rule.name}` });
  return found;
}
