// The syntax tree that /api/v1/parse_query answers: back to text, and what its values measure.
import { isPlainMetric, labelName, quote } from '../format/labels';
import { SYMBOLS, formatDuration, type Unit } from '../format/numbers';

/** A matcher of a selector. */
export interface Matcher { name: string; value: string; type: string }

/** A node; which fields there are depends on `type`. Durations are milliseconds. */
export interface Node {
  type: string;
  [field: string]: unknown;
}

function child(node: Node, name: string): Node | null {
  return (node[name] as Node | null | undefined) ?? null;
}

/** The operands of a node, in their order. */
export function children(node: Node): Node[] {
  const list = [child(node, 'lhs'), child(node, 'rhs'), child(node, 'expr'), ...((node['args'] as Node[] | undefined) ?? [])];
  const param = child(node, 'param');
  return (param ? [param, ...list] : list).filter((n): n is Node => n !== null);
}

const PRECEDENCE: Record<string, number> = {
  or: 1, and: 2, unless: 2, '==': 3, '!=': 3, '<': 3, '<=': 3, '>': 3, '>=': 3, '+': 4, '-': 4, '*': 5, '/': 5, '%': 5, atan2: 5, '^': 6,
};

const COMPARISONS = ['==', '!=', '<', '<=', '>', '>='];

function modifiers(node: Node): string {
  let out = '';
  const at = node['startOrEnd'] as string | null;
  const time = node['timestamp'] as number | null;
  if (at) out += ` @ ${at}()`;
  else if (time !== null && time !== undefined) out += ` @ ${(time / 1000).toFixed(3)}`;
  const offset = (node['offset'] as number | undefined) ?? 0;
  if (offset !== 0) out += ` offset ${offset < 0 ? '-' : ''}${formatDuration(Math.abs(offset) / 1000)}`;
  if (node['anchored'] === true) out += ' anchored';
  if (node['smoothed'] === true) out += ' smoothed';
  return out;
}

function selectorText(node: Node): string {
  const name = (node['name'] as string | undefined) ?? '';
  const matchers = (node['matchers'] as Matcher[] | undefined) ?? [];
  const others = matchers.filter((m) => !(m.name === '__name__' && m.type === '=' && m.value === name));
  const parts = others.map((m) => `${labelName(m.name)}${m.type}${quote(m.value)}`);
  if (name !== '' && !isPlainMetric(name)) parts.unshift(quote(name));
  const head = isPlainMetric(name) ? name : '';
  return parts.length > 0 || head === '' ? `${head}{${parts.join(', ')}}` : head;
}

function matchingText(node: Node): string {
  const matching = node['matching'] as { card: string; labels: string[]; on: boolean; include: string[] } | null;
  if (!matching) return '';
  let out = '';
  if (matching.on || matching.labels.length > 0) out += ` ${matching.on ? 'on' : 'ignoring'} (${matching.labels.map(labelName).join(', ')})`;
  const group = matching.card === 'many-to-one' ? 'group_left' : matching.card === 'one-to-many' ? 'group_right' : '';
  if (group !== '') out += ` ${group} (${matching.include.map(labelName).join(', ')})`;
  return out;
}

function operand(node: Node, parent: string, right: boolean): string {
  const text = print(node);
  if (node.type !== 'binaryExpr') return text;
  const own = PRECEDENCE[node['op'] as string] ?? 0;
  const above = PRECEDENCE[parent] ?? 0;
  const same = own === above && (parent === '^' ? !right : right);
  return own < above || same ? `(${text})` : text;
}

/** The text of a binary expression between its operands: " + on (job) ". */
export function operatorText(node: Node): string {
  return `${node['op'] as string}${node['bool'] === true ? ' bool' : ''}${matchingText(node)}`;
}

/** The clause of an aggregation: "sum by (job)". */
export function aggregationText(node: Node): string {
  const grouping = (node['grouping'] as string[] | undefined) ?? [];
  const without = node['without'] === true;
  const clause = without || grouping.length > 0 ? ` ${without ? 'without' : 'by'} (${grouping.map(labelName).join(', ')})` : '';
  return `${node['op'] as string}${clause}`;
}

/** The expression as text. */
export function print(node: Node): string {
  switch (node.type) {
    case 'vectorSelector':
      return selectorText(node) + modifiers(node);
    case 'matrixSelector':
      return `${selectorText(node)}[${formatDuration((node['range'] as number) / 1000)}]${modifiers(node)}`;
    case 'subquery': {
      const step = node['step'] as number;
      const range = formatDuration((node['range'] as number) / 1000);
      return `${print(child(node, 'expr')!)}[${range}:${step > 0 ? formatDuration(step / 1000) : ''}]${modifiers(node)}`;
    }
    case 'call': {
      const name = (node['func'] as { name: string }).name;
      return `${name}(${((node['args'] as Node[] | undefined) ?? []).map(print).join(', ')})`;
    }
    case 'aggregation': {
      const param = child(node, 'param');
      return `${aggregationText(node)} (${param ? `${print(param)}, ` : ''}${print(child(node, 'expr')!)})`;
    }
    case 'binaryExpr': {
      const op = node['op'] as string;
      return `${operand(child(node, 'lhs')!, op, false)} ${operatorText(node)} ${operand(child(node, 'rhs')!, op, true)}`;
    }
    case 'unaryExpr':
      return `${node['op'] as string}${print(child(node, 'expr')!)}`;
    case 'parenExpr':
      return `(${print(child(node, 'expr')!)})`;
    case 'numberLiteral':
      return node['val'] as string;
    case 'stringLiteral':
      return quote(node['val'] as string);
    default:
      return '';
  }
}

/** A comparison with a number at the root of an expression, as alerts have it. */
export interface Threshold { left: Node; op: string; value: number }

/** The threshold of the expression; null: its root is no comparison with a number. */
export function threshold(root: Node): Threshold | null {
  const node = root.type === 'parenExpr' ? child(root, 'expr')! : root;
  if (node.type !== 'binaryExpr' || node['bool'] === true || !COMPARISONS.includes(node['op'] as string)) return null;
  const value = numberOf(child(node, 'rhs')!);
  const left = child(node, 'lhs')!;
  return value === null || numberOf(left) !== null ? null : { left, op: node['op'] as string, value };
}

function numberOf(node: Node): number | null {
  if (node.type === 'parenExpr') return numberOf(child(node, 'expr')!);
  if (node.type === 'unaryExpr') {
    const inner = numberOf(child(node, 'expr')!);
    return inner === null ? null : node['op'] === '-' ? -inner : inner;
  }
  return node.type === 'numberLiteral' ? Number(node['val']) : null;
}

/** Whether `value op limit` holds. */
export function compare(value: number, op: string, limit: number): boolean {
  switch (op) {
    case '>': return value > limit;
    case '>=': return value >= limit;
    case '<': return value < limit;
    case '<=': return value <= limit;
    case '==': return value === limit;
    default: return value !== limit;
  }
}

/** The first selector of a tree; null: there is none. */
export function firstSelector(node: Node): Node | null {
  if (node.type === 'vectorSelector' || node.type === 'matrixSelector') return node;
  for (const one of children(node)) {
    const found = firstSelector(one);
    if (found) return found;
  }
  return null;
}

const UNITS: Unit[] = ['bytes', 'seconds', 'ratio', 'percent', 'celsius', ...(Object.keys(SYMBOLS) as (keyof typeof SYMBOLS)[])];

/** The unit of this name, as metadata and the endings of metrics have it; "": none that is known. */
export function unitNamed(name: string): Unit {
  return UNITS.find((unit) => unit === name) ?? '';
}

/** What a metric measures, by the ending of its name. */
export function unitOfName(name: string): Unit {
  const bare = name.replace(/_(total|bucket|sum|count|created)$/, '');
  if (/_count$/.test(name)) return '';
  const last = bare.split(/[_:]/).pop() ?? '';
  return unitNamed(last);
}

/** What the rate of a number is: joules a second are watts. */
const PER_SECOND: Record<string, Unit> = { bytes: 'bytes-per-second', '': 'per-second', joules: 'watts' };

/** What the values of an expression measure, from the names of its metrics and from what is done to them. */
export function unitOf(node: Node): Unit {
  switch (node.type) {
    case 'vectorSelector':
    case 'matrixSelector':
      return unitOfName((node['name'] as string | undefined) ?? '');
    case 'call': {
      const name = (node['func'] as { name: string }).name;
      const args = (node['args'] as Node[] | undefined) ?? [];
      const inner = args.map(unitOf).find((u) => u !== '') ?? '';
      if (['rate', 'irate', 'deriv'].includes(name)) return PER_SECOND[inner] ?? '';
      if (/^(count|absent|present|changes|resets|histogram_count|timestamp|sgn|ln|log|exp|stdvar|histogram_fraction|day|hour|minute|month|year)/.test(name)) return '';
      return name === 'time' ? '' : inner;
    }
    case 'aggregation': {
      const op = node['op'] as string;
      return op.startsWith('count') || op === 'group' || op === 'stdvar' ? '' : unitOf(child(node, 'expr')!);
    }
    case 'binaryExpr':
      return unitOfBinary(node);
    case 'unaryExpr':
    case 'parenExpr':
    case 'subquery':
      return unitOf(child(node, 'expr')!);
    default:
      return '';
  }
}

function unitOfBinary(node: Node): Unit {
  const op = node['op'] as string;
  const left = child(node, 'lhs')!;
  const right = child(node, 'rhs')!;
  const a = unitOf(left);
  const b = unitOf(right);
  if (node['bool'] === true) return '';
  if (op === '/') return numberOf(right) !== null ? a : '';
  if (op === '*') return numberOf(right) !== null ? a : numberOf(left) !== null ? b : '';
  if (['+', '-', '%', 'or'].includes(op)) return numberOf(left) !== null ? b : a;
  return COMPARISONS.includes(op) || op === 'and' || op === 'unless' ? a : '';
}
