// The dataflow of a view, drawn from the samples in memory at the left to its readers at the right.
import { flowOf, type FlowBox, type Stage } from '../format/dataflow';
import { formatSpan, formatValue } from '../format/numbers';
import type { View } from '../types';

const WIDTH = 192;
const HEIGHT = 46;
const GAP_X = 30;
const GAP_Y = 14;
/** Graphs with more boxes are a text. */
const BOXES_MAX = 60;

const STAGES: Record<Stage, string> = {
  ring: 'samples in memory', shard: 'a step of each shard', gather: 'a step of one worker', answer: 'the answer', reader: 'who reads it',
};

function left(box: FlowBox): number {
  return box.column * (WIDTH + GAP_X);
}

function top(box: FlowBox): number {
  return box.row * (HEIGHT + GAP_Y);
}

/** Selectors as people write them: the name before the brace. */
function plain(title: string): string {
  return title.replace(/\{__name__="([a-zA-Z_:][\w:]*)"(?:, ([^}]*))?\}/g, (_, name: string, rest: string | undefined) => (rest ? `${name}{${rest}}` : name));
}

/** What is known of the samples of a ring. */
function ringNote(view: View, box: FlowBox): string {
  const ring = view.rings?.find((r) => r.selector === box.title);
  return ring ? `${formatSpan(ring.reach)} · ${ring.series} series · ${formatValue(ring.bytes, 'bytes', 3)}` : '';
}

export function Dataflow({ view }: { view: View }) {
  const flow = flowOf(view);
  const text = <pre>{view.physicalPlan ?? view.plan}</pre>;
  if (!flow || flow.boxes.length > BOXES_MAX) return <div class="box">{text}</div>;
  const byId = new Map(flow.boxes.map((box) => [box.id, box]));
  const width = flow.columns * (WIDTH + GAP_X) - GAP_X;
  const height = flow.rows * (HEIGHT + GAP_Y) - GAP_Y;
  return (
    <>
      <div class="box scroll" tabIndex={0} role="region" aria-label="Dataflow, from samples to readers">
        <div class="flow" style={{ width: `${width}px`, height: `${height}px` }}>
          <svg width={width} height={height} aria-hidden="true">
            {flow.edges.map(({ from, to }) => {
              const a = byId.get(from)!;
              const b = byId.get(to)!;
              const x0 = left(a) + WIDTH;
              const y0 = top(a) + HEIGHT / 2;
              const x1 = left(b);
              const y1 = top(b) + HEIGHT / 2;
              return <path key={`${from} ${to}`} d={`M${x0} ${y0} C${x0 + GAP_X / 2} ${y0} ${x1 - GAP_X / 2} ${y1} ${x1 - 6} ${y1} m-4 -3 l5 3 l-5 3`} />;
            })}
          </svg>
          {flow.boxes.map((box) => {
            const note = box.stage === 'ring' ? ringNote(view, box) : box.note;
            return (
              <div key={box.id} class={`step ${box.stage}`} style={{ left: `${left(box)}px`, top: `${top(box)}px`, width: `${WIDTH}px`, height: `${HEIGHT}px` }} title={`${STAGES[box.stage]}: ${box.title}${note === '' ? '' : `: ${note}`}`}>
                <code class="one-line">{plain(box.title)}</code>
                <span class="dim one-line">{note === '' ? STAGES[box.stage] : note}</span>
              </div>
            );
          })}
        </div>
      </div>
      <details><summary class="dim">As text</summary><div class="box">{text}</div></details>
    </>
  );
}
