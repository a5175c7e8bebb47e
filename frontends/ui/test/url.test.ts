import { describe, expect, it } from 'vitest';
import { formatPanels, newPanel, nextRange, parsePanels, stepOf } from '../src/query/url';

const read = (query: string) => parsePanels(new URLSearchParams(query));

describe('the address of the query page', () => {
  it('keeps what links of Prometheus say', () => {
    const [panel] = read('g0.expr=up&g0.show_tree=0&g0.tab=0&g0.stacked=1&g0.range_input=2h&g0.end_input=2026-11-25+03%3A36%3A41&g0.res_type=fixed&g0.res_step=15');
    expect(panel).toMatchObject({ expr: 'up', tab: 'graph', range: 7200, stacked: true, step: 15, end: 1_795_577_801 });
    expect(read('g0.expr=up+%3E+1&g0.tab=1')[0]).toMatchObject({ expr: 'up > 1', tab: 'graph' });
    expect(read('g0.expr=a&g1.expr=b&g1.display_mode=stacked').map((p) => [p.expr, p.stacked])).toEqual([['a', false], ['b', true]]);
  });
  it('comes back as it was written', () => {
    const panels = [
      { ...newPanel('sum by (a) (rate(x{y="z&="}[5m]))'), tab: 'explain' as const, range: 3600, density: 'high' as const, zero: true },
      { ...newPanel('b'), end: 1_795_577_801, step: 30, stacked: true, live: 'off' as const, literal: true, tab: 'table' as const },
      { ...newPanel('c'), heat: 'on' as const, compare: 86_400, exemplars: true, color: 'label:room', only: ['1z', '2y'] },
      { ...newPanel('d'), heat: 'off' as const, hidden: ['abc'] },
    ];
    expect(read(formatPanels(panels).replace('/query?', ''))).toEqual(panels);
  });
  it('survives nonsense', () => {
    expect(read('')).toEqual([newPanel()]);
    expect(read('g0.expr=up&g0.range_input=-5&g0.end_input=x&g0.res_step=0&g0.tab=%3Cscript%3E')[0]).toEqual(newPanel('up'));
  });
});

describe('steps and ranges', () => {
  it('are round, and never too many', () => {
    expect(stepOf(newPanel())).toBe(5);
    for (const range of [10, 900, 3600, 86_400, 31_536_000]) expect(range / stepOf({ range, step: null, density: 'high' })).toBeLessThanOrEqual(1000);
    expect(stepOf({ range: 31_536_000, step: 1, density: 'low' })).toBeGreaterThan(1000);
    expect([nextRange(900, 1), nextRange(900, -1), nextRange(1000, -1)]).toEqual([1800, 300, 900]);
  });
});
