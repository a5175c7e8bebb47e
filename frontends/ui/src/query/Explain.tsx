// The tree of an expression, each node with how many rows it has now: by a live query of its own.
import { useEffect, useState } from 'preact/hooks';
import { waitForFirst } from '../hooks';
import { watch } from '../live';
import { labelNames, type Labels } from '../format/labels';
import { aggregationText, children, operatorText, print, type Node } from '../promql/ast';

/** Nodes beyond this many are not counted. */
const COUNTED_MAX = 12;

interface Listed { node: Node; depth: number; children: Listed[]; index: number }

function list(node: Node, depth: number, counter: { n: number }): Listed {
  const index = counter.n++;
  return { node, depth, index, children: children(node).filter((c) => c.type !== 'numberLiteral' && c.type !== 'stringLiteral').map((c) => list(c, depth + 1, counter)) };
}

/** What a node does, in one line. */
function title(node: Node): string {
  switch (node.type) {
    case 'call':
      return `${(node['func'] as { name: string }).name}(…)`;
    case 'aggregation':
      return `${aggregationText(node)} (…)`;
    case 'binaryExpr':
      return `… ${operatorText(node)} …`;
    case 'parenExpr':
      return '( … )';
    case 'unaryExpr':
      return `${node['op'] as string} …`;
    case 'subquery':
      return print({ ...node, expr: { type: 'vectorSelector', name: '…', matchers: [] } });
    default:
      return print(node);
  }
}

/** What is counted for a node: of a range of samples, its series. */
function countable(node: Node): string | null {
  if (node.type === 'matrixSelector') return `last_over_time(${print(node)})`;
  if (node.type === 'subquery' || node.type === 'stringLiteral') return null;
  return print(node);
}

export function Explain({ tree }: { tree: Node }) {
  return (
    <div class="tree">
      <ul><Branch listed={list(tree, 0, { n: 0 })} /></ul>
    </div>
  );
}

function Branch({ listed }: { listed: Listed }) {
  const [rows, setRows] = useState<Labels[] | null>(null);
  const [error, setError] = useState('');
  const query = listed.index < COUNTED_MAX ? countable(listed.node) : null;
  useEffect(() => {
    setRows(null);
    setError('');
    if (query === null) return undefined;
    const known = new Map<string, Labels>();
    const key = (labels: Labels) => JSON.stringify(labels);
    const show = () => setRows([...known.values()]);
    const came = waitForFirst();
    const end = watch(query, {
      snapshot: (_, all) => {
        known.clear();
        all.forEach((r) => known.set(key(r.labels), r.labels));
        show();
        came();
      },
      delta: (_, upsert, remove) => {
        const before = known.size;
        upsert.forEach((r) => known.set(key(r.labels), r.labels));
        remove.forEach((labels) => known.delete(key(labels)));
        if (known.size !== before) show();
      },
      error: (message) => {
        setError(message);
        came();
      },
    });
    return () => {
      end();
      came();
    };
  }, [query]);
  return (
    <li>
      <span class="node">
        <code>{title(listed.node)}</code>
        {error !== '' ? <span class="err">{error}</span> : rows !== null && <span class="dim">{rows.length} {rows.length === 1 ? 'row' : 'rows'}{cardinalities(rows)}</span>}
      </span>
      {listed.children.length > 0 && <ul>{listed.children.map((c) => <Branch key={c.index} listed={c} />)}</ul>}
    </li>
  );
}

/** The labels with the most values: " · sensor 500 · room 20". */
function cardinalities(rows: Labels[]): string {
  const counts = labelNames(rows).filter((n) => n !== '__name__').map((name) => ({ name, n: new Set(rows.map((r) => r[name])).size }));
  const top = counts.filter((c) => c.n > 1).sort((a, b) => b.n - a.n).slice(0, 4);
  return top.map((c) => ` · ${c.name} ${c.n}`).join('');
}
