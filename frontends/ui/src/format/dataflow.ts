// The steps of a view as a graph, of the text in which the server lists them: the answer first, operands indented
// below it. Equal subtrees are one step.
import type { View } from '../types';

/** What a box of the graph stands for: samples in memory, steps of each shard, steps of one worker, the answer, readers. */
export type Stage = 'ring' | 'shard' | 'gather' | 'answer' | 'reader';

/** A box. Columns are counted from the samples, rows from the top. */
export interface FlowBox { id: string; stage: Stage; title: string; note: string; column: number; row: number }
export interface Flow { boxes: FlowBox[]; edges: { from: string; to: string }[]; columns: number; rows: number }

/** The line below which stand the steps that each shard computes. */
const PORT = 'from each shard';

interface Step { text: string; depth: number; inputs: Step[]; inShard: boolean }

function parse(plan: string): Step | null {
  const path: Step[] = [];
  let root: Step | null = null;
  for (const line of plan.split('\n').filter((l) => l.trim() !== '')) {
    const text = line.trimStart();
    const depth = (line.length - text.length) / 2;
    path.length = Math.min(path.length, depth);
    const parent = path.at(-1);
    const step: Step = { text, depth, inputs: [], inShard: parent !== undefined && (parent.inShard || parent.text === PORT) };
    if (parent) parent.inputs.push(step);
    else root ??= step;
    path.push(step);
  }
  return root;
}

/** A step and all below it, as a text that equal ones share. */
function keyOf(step: Step): string {
  return `${step.inShard ? 'shard' : 'gather'} ${step.text}(${step.inputs.map(keyOf).join(',')})`;
}

/** The graph of a live view; null: the server lists no steps of it. */
export function flowOf(view: View): Flow | null {
  const root = view.physicalPlan === undefined ? null : parse(view.physicalPlan);
  if (!root) return null;
  const boxes = new Map<string, FlowBox>();
  const edges = new Map<string, { from: string; to: string }>();
  const rings = view.rings ?? [];
  const connect = (from: string, to: string) => edges.set(`${from} ${to}`, { from, to });
  /** Adds a step; the boxes that what is above it reads. */
  const add = (step: Step): FlowBox => {
    // The line between the stages is no step of its own.
    if (step.text === PORT && step.inputs.length === 1) return add(step.inputs[0]!);
    const id = keyOf(step);
    const known = boxes.get(id);
    if (known) return known;
    const cut = step.inputs.length === 0 ? step.text.lastIndexOf(': ') : -1;
    const inputs = step.inputs.map(add);
    const read = step.inputs.length > 0 ? [] : rings.filter((r) => step.text.includes(r.selector)).map((r) => boxes.get(`ring ${r.selector}`)!);
    const from = [...inputs, ...read];
    const box: FlowBox = {
      id, stage: step.inShard ? 'shard' : 'gather', title: cut < 0 ? step.text : step.text.slice(0, cut), note: cut < 0 ? '' : step.text.slice(cut + 2),
      column: from.length === 0 ? 1 : 1 + Math.max(...from.map((b) => b.column)), row: 0,
    };
    boxes.set(id, box);
    from.forEach((b) => connect(b.id, id));
    return box;
  };
  for (const ring of rings) boxes.set(`ring ${ring.selector}`, { id: `ring ${ring.selector}`, stage: 'ring', title: ring.selector, note: '', column: 0, row: 0 });
  const last = add(root);
  const put = (id: string, stage: Stage, title: string, note: string, after: FlowBox) => {
    boxes.set(id, { id, stage, title, note, column: after.column + 1, row: 0 });
    connect(after.id, id);
    return boxes.get(id)!;
  };
  const answer = put('answer', 'answer', 'answer', `${view.rows} ${view.rows === 1 ? 'row' : 'rows'}`, last);
  if (view.kind === 'recorded') put('store', 'reader', `written as ${view.record ?? view.name}`, 'to the store', answer);
  if (view.taps > 0) put('taps', 'reader', `${view.taps} ${view.taps === 1 ? 'reader' : 'readers'}`, 'rules, alerts and subscriptions', answer);
  const list = [...boxes.values()];
  const rows = new Map<number, number>();
  for (const box of list) {
    box.row = rows.get(box.column) ?? 0;
    rows.set(box.column, box.row + 1);
  }
  return { boxes: list, edges: [...edges.values()], columns: Math.max(...list.map((b) => b.column)) + 1, rows: Math.max(...rows.values()) };
}
