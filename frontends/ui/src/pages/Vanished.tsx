// Series that had samples in a stretch of time and have none now.
import { useEffect, useMemo, useState } from 'preact/hooks';
import { ApiError, call } from '../api';
import { labelKey, missing, quote, selector, type Labels } from '../format/labels';
import { formatDuration, formatSpan } from '../format/numbers';
import { dateTime } from '../format/time';
import { now } from '../live';
import { href, route, setParam } from '../router';
import { zone } from '../settings';
import { DataTable, type Column } from '../table';
import type { InstantSeries, RangeSeries } from '../types';
import { FindBox, QueryLink, ReadAt, matches, useSearch } from './common';

/** A series without samples now; `last` is 0 until it is known. */
interface Ended { key: string; labels: Labels; last: number }

const RANGES = [900, 3600, 21_600, 86_400];
/** Series that are compared. */
const SERIES_MAX = 20_000;
/** Metrics whose last samples are looked up. */
const METRICS_MAX = 20;
/** Series of less than a step whose samples are asked for. */
const SHORT_MAX = 40;
const STEPS = 120;

/** When the series of a metric had their last samples, by their labels without the name. */
async function lastSeen(metric: string, range: number, signal: AbortSignal): Promise<Map<string, number>> {
  const step = Math.max(1, Math.round(range / STEPS));
  const query = `max_over_time(timestamp({__name__=${quote(metric)}})[${formatDuration(range)}:${formatDuration(step)}])`;
  const { data } = await call<{ result: InstantSeries[] }>('query', { query }, signal);
  return new Map(data.result.map((s) => [labelKey(s.metric), Number(s.value?.[1] ?? 0)]));
}

function withoutName({ __name__: _, ...labels }: Labels): Labels {
  return labels;
}

async function find(match: string, range: number, signal: AbortSignal, show: (ended: Ended[], cut: boolean) => void): Promise<void> {
  const end = Date.now() / 1000;
  const [then, present] = await Promise.all([
    call<Labels[]>('series', { 'match[]': [match], start: end - range, end, limit: SERIES_MAX }, signal),
    call<{ result: InstantSeries[] }>('query', { query: match }, signal),
  ]);
  const ended = missing(then.data, present.data.result.map((s) => s.metric)).map((labels) => ({ key: labelKey(labels), labels, last: 0 }));
  const cut = then.data.length >= SERIES_MAX;
  show(ended, cut);
  const names = [...new Set(ended.map((e) => e.labels['__name__'] ?? ''))].slice(0, METRICS_MAX);
  for (const name of names) {
    const times = await lastSeen(name, range, signal);
    for (const one of ended) if (one.labels['__name__'] === name) one.last = times.get(labelKey(withoutName(one.labels))) ?? 0;
    show([...ended], cut);
  }
  // What lived for less than a step is between two of them: its samples say when.
  for (const one of ended.filter((e) => e.last === 0).slice(0, SHORT_MAX)) {
    const { data } = await call<{ result: RangeSeries[] }>('query', { query: `${selector(one.labels)}[${formatDuration(range)}]` }, signal);
    const found = data.result.find((s) => labelKey(s.metric) === one.key);
    one.last = Math.max(found?.values?.at(-1)?.[0] ?? 0, found?.histograms?.at(-1)?.[0] ?? 0);
    show([...ended], cut);
  }
}

const COLUMNS: Column<Ended>[] = [
  { name: 'series', class: 'wrap', text: (e) => selector(e.labels), cell: (e) => <QueryLink expr={selector(e.labels)}><code class="wrap">{selector(e.labels)}</code></QueryLink> },
  {
    name: 'last sample', numeric: true, sort: (e) => e.last, text: (e) => (e.last === 0 ? '' : dateTime(e.last, 'utc')),
    cell: (e) => (e.last === 0 ? <span class="dim">earlier</span> : <span title={`${formatSpan(now.value - e.last)} ago`}>{dateTime(e.last, zone.value)}</span>),
  },
];

export function Vanished({ match }: { match: string }) {
  const range = Number(route.value.params.get('range') ?? 3600) || 3600;
  const [ended, setEnded] = useState<Ended[] | null>(null);
  const [cut, setCut] = useState(false);
  /** Whether the last samples are known: rows that are sorted by them would move until then. */
  const [done, setDone] = useState(false);
  const [error, setError] = useState('');
  const [looked, setLooked] = useState(0);
  const [round, setRound] = useState(0);
  const [filter] = useSearch();
  useEffect(() => {
    const abort = new AbortController();
    setEnded(null);
    setDone(false);
    setError('');
    setLooked(now.peek());
    find(match, range, abort.signal, (list, isCut) => {
      setEnded(list);
      setCut(isCut);
    }).then(() => !abort.signal.aborted && setDone(true)).catch((e: unknown) => !abort.signal.aborted && setError(e instanceof ApiError ? e.message : String(e)));
    return () => abort.abort();
  }, [match, range, round]);
  const dated = ended?.filter((e) => e.last > 0).length ?? 0;
  const shown = useMemo(() => (ended ?? []).filter((e) => matches(filter, selector(e.labels), [e.labels])), [ended, filter]);
  const byMetric = useMemo(() => {
    const counts = new Map<string, number>();
    for (const { labels } of ended ?? []) counts.set(labels['__name__'] ?? '', (counts.get(labels['__name__'] ?? '') ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1]).slice(0, 10);
  }, [ended]);
  return (
    <>
      <div class="head" style={{ marginTop: '12px' }}>
        <span>{ended === null ? 'Looking …' : `${ended.length} series had samples in the last ${formatDuration(range)} and have none now`}</span>
        <select aria-label="Range" value={String(range)} onChange={(e) => setParam('range', e.currentTarget.value)}>
          {RANGES.map((r) => <option key={r} value={r}>{formatDuration(r)}</option>)}
        </select>
        <ReadAt of={{ at: looked }} />
        <button type="button" onClick={() => setRound((n) => n + 1)}>Look again</button>
        {ended !== null && !done && <span class="dim" role="status">their last samples: {dated} of {ended.length} …</span>}
        <span class="grow" />
        <FindBox label="Filter series" />
      </div>
      {error !== '' && <div class="box err" role="alert"><pre>{error}</pre></div>}
      {cut && <div class="box warn">Only {SERIES_MAX} series were compared: narrow the selector.</div>}
      {byMetric.length > 1 && <p class="dim">{byMetric.map(([name, n]) => `${name} ${n}`).join(' · ')}</p>}
      {ended?.length === 0 && <div class="box">Nothing vanished: every series that had samples has them now. <a class="plain-link" href={href('/targets')} data-page="1">Targets</a></div>}
      {done && shown.length > 0 && <DataTable class="stacked" rows={shown} columns={COLUMNS} rowKey={(e) => e.key} sorted={-2} caption="Vanished series" />}
    </>
  );
}
