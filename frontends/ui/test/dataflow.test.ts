import { expect, test } from 'vitest';
import { flowOf } from '../src/format/dataflow';
import type { View } from '../src/types';

const PLAN = `vector with scalar >
  merge sum
    from each shard
      partial sum by (job)
        rate over 1m of errors: from the ends of the window
  number 5`;

const view = (physicalPlan: string, more: Partial<View> = {}): View => ({
  id: '1', name: 'Errors', kind: 'continuous', standing: true, plan: '', physicalPlan, taps: 2, rows: 3, health: 'ok', lastError: '',
  rings: [{ selector: 'errors', reach: 60, series: 4, bytes: 100, readers: 1 }], ...more,
});

test('a view is drawn from its samples to its readers', () => {
  const flow = flowOf(view(PLAN))!;
  const columnOf = (title: string) => flow.boxes.find((b) => b.title === title)!.column;
  expect(['errors', 'rate over 1m of errors', 'partial sum by (job)', 'merge sum', 'vector with scalar >', 'answer', '2 readers'].map(columnOf)).toEqual([0, 1, 2, 3, 4, 5, 6]);
  expect(flow.boxes.find((b) => b.title === 'rate over 1m of errors')).toMatchObject({ stage: 'shard', note: 'from the ends of the window' });
  expect(flow.boxes.find((b) => b.title === 'merge sum')!.stage).toBe('gather');
  expect(flow.boxes.some((b) => b.title === 'from each shard')).toBe(false);
  expect(flow.edges).toHaveLength(7);
  expect([flow.columns, flow.rows]).toEqual([7, 2]);
});

test('equal steps are one box with two readers', () => {
  const leaf = 'newest value of up: the newest sample decides';
  const flow = flowOf(view(`match / on (job)\n  from each shard\n    ${leaf}\n  from each shard\n    ${leaf}`, { rings: [] }))!;
  expect(flow.boxes.filter((b) => b.title === 'newest value of up')).toHaveLength(1);
});

test('a view without steps is no graph', () => {
  const { physicalPlan: _, ...scheduled } = view('');
  expect(flowOf(scheduled)).toBeNull();
});

test('a recorded view ends in the store', () => {
  const flow = flowOf(view('merge sum', { kind: 'recorded', record: 'job:errors:sum', taps: 0 }))!;
  expect(flow.boxes.filter((b) => b.stage === 'reader').map((b) => b.title)).toEqual(['written as job:errors:sum']);
});
