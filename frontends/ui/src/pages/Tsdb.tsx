// TSDB status: what the head holds, and which names make most of it. Every row leads on.
import { quote, labelName } from '../format/labels';
import { formatValue } from '../format/numbers';
import { dateTime } from '../format/time';
import { useApi } from '../hooks';
import { route, setParam } from '../router';
import { zone } from '../settings';
import { DataTable, type Column } from '../table';
import type { Stat, TsdbStatus } from '../types';
import { NoSeries, Problem, QueryLink, ReadAt } from './common';

const AGAIN_MS = 15_000;
const LIMITS = ['10', '20', '50', '100', '1000'];

export function Tsdb() {
  const limit = route.value.params.get('limit') ?? '20';
  const loaded = useApi<TsdbStatus>('status/tsdb', { limit }, { every: AGAIN_MS });
  const data = loaded.data;
  const series = data?.headStats.numSeries ?? 0;
  const pair = (name: string) => {
    const at = name.indexOf('=');
    return `{${labelName(name.slice(0, at))}=${quote(name.slice(at + 1))}}`;
  };
  return (
    <>
      <div class="head">
        <h1>TSDB status</h1>
        {data && <span class="dim">{series} series · {data.headStats.numLabelPairs} label pairs · {data.headStats.chunkCount} chunks{series > 0 ? ` · ${dateTime(data.headStats.minTime / 1000, zone.value)} to ${dateTime(data.headStats.maxTime / 1000, zone.value)}` : ''}</span>}
        <ReadAt of={loaded} every={AGAIN_MS} />
        <span class="grow" />
        <label>rows <select value={limit} onChange={(e) => setParam('limit', e.currentTarget.value)}>{LIMITS.map((n) => <option key={n}>{n}</option>)}</select></label>
      </div>
      <Problem of={loaded} />
      {data && series === 0 && <NoSeries />}
      {data && series > 0 && (
        <div class="cards wide">
          <Card title="Series by metric" list={data.seriesCountByMetricName} total={series} query={(name) => `count by (job) ({__name__=${quote(name)}})`} />
          <Card title="Series by label pair" list={data.seriesCountByLabelValuePair} total={series} query={(name) => `topk(20, count by (__name__) (${pair(name)}))`} />
          <Card title="Values by label" list={data.labelValueCountByLabelName} total={0} query={(name) => `topk(20, count by (${labelName(name)}) ({${labelName(name)}!=""}))`} />
          <Card title="Memory by label" list={data.memoryInBytesByLabelName} total={0} bytes query={(name) => `topk(20, count by (${labelName(name)}) ({${labelName(name)}!=""}))`} />
        </div>
      )}
    </>
  );
}

function Card({ title, list, total, query, bytes }: { title: string; list: Stat[]; total: number; query(name: string): string; bytes?: boolean }) {
  const most = Math.max(1, ...list.map((s) => s.value));
  const columns: Column<Stat>[] = [
    { name: 'name', text: (s) => s.name, class: 'wrap', cell: (s) => <QueryLink expr={query(s.name)}>{s.name}</QueryLink> },
    { name: bytes ? 'bytes' : 'count', numeric: true, sort: (s) => s.value, text: (s) => String(s.value), cell: (s) => (bytes ? formatValue(s.value, 'bytes', 3) : s.value) },
    {
      name: 'share', text: (s) => (total > 0 ? `${((100 * s.value) / total).toFixed(1)} %` : ''), class: 'share narrow-hide', sort: (s) => s.value,
      cell: (s) => <><span class="meter" style={{ width: `${Math.max(1, (60 * s.value) / most)}px` }} /> {total > 0 ? `${((100 * s.value) / total).toFixed(1)} %` : ''}</>,
    },
  ];
  return <section><h2>{title}</h2><DataTable rows={list} columns={columns} rowKey={(s) => s.name} caption={title} /></section>;
}
