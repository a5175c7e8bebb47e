// When an alert was pending and when it fired, from the samples of ALERTS, and what the expression was then.
import { useMemo } from 'preact/hooks';
import { quote, labelKey, selector, type Labels } from '../format/labels';
import { formatDuration, formatSpan } from '../format/numbers';
import { clockTime, date } from '../format/time';
import { useApi } from '../hooks';
import { now } from '../live';
import { href, route, setParam } from '../router';
import { zone } from '../settings';
import type { RangeData, RuleGroup } from '../types';
import { LabelList, Problem, QueryLink } from './common';

const RANGES = [900, 3600, 21_600, 86_400, 604_800];
const STEPS = 400;
const ROWS = 60;

/** A stretch in one state. Times are Unix seconds. */
export interface Stretch { state: string; from: number; to: number }

/** The stretches of an alert from its samples: those that follow each other by one step are one. */
export function stretches(series: { state: string; times: number[] }[], step: number): Stretch[] {
  const found: Stretch[] = [];
  for (const { state, times } of series) {
    for (const t of times) {
      const last = found.at(-1);
      if (last && last.state === state && t - last.to <= step * 1.5) last.to = t;
      else found.push({ state, from: t, to: t });
    }
  }
  return found.sort((a, b) => a.from - b.from);
}

export function History() {
  const rule = route.value.params.get('rule') ?? '';
  const range = Number(route.value.params.get('range') ?? 3600) || 3600;
  const names = useApi<{ groups: RuleGroup[] }>('rules', { type: 'alert', exclude_alerts: 'true' });
  const rules = (names.data?.groups ?? []).flatMap((g) => g.rules);
  const expr = rules.find((r) => r.name === rule)?.query;
  return (
    <>
      <div class="head">
        <h1>Alert history</h1>
        <a href={href('/alerts')} data-page="1">alerts now</a>
        <span class="grow" />
        <select aria-label="Rule" value={rule} onChange={(e) => setParam('rule', e.currentTarget.value)}>
          <option value="">all rules</option>
          {[...new Set(rules.map((r) => r.name))].sort().map((name) => <option key={name}>{name}</option>)}
        </select>
        <select aria-label="Range" value={String(range)} onChange={(e) => setParam('range', e.currentTarget.value)}>
          {RANGES.map((r) => <option key={r} value={r}>{formatDuration(r)}</option>)}
        </select>
      </div>
      {expr && <p><QueryLink expr={expr}><code class="wrap">{expr}</code></QueryLink></p>}
      <AlertHistory rule={rule} range={range} />
    </>
  );
}

/** The stretches of the alerts of a rule ("": of all rules) in the last `range` seconds. */
export function AlertHistory({ rule, range }: { rule: string; range: number }) {
  const step = Math.max(1, Math.ceil(range / STEPS));
  // Aligned, so that a refresh asks the same steps.
  const end = Math.floor(now.value / Math.max(step, 10)) * Math.max(step, 10);
  const query = rule === '' ? 'ALERTS' : `ALERTS{alertname=${quote(rule)}}`;
  const loaded = useApi<RangeData>('query_range', { query, start: end - range, end, step });
  const alerts = useMemo(() => {
    const byAlert = new Map<string, { labels: Labels; series: { state: string; times: number[] }[] }>();
    for (const s of loaded.data?.result ?? []) {
      const { alertstate, __name__: _, ...labels } = s.metric;
      const key = labelKey(labels);
      const one = byAlert.get(key) ?? { labels, series: [] };
      one.series.push({ state: alertstate ?? '', times: (s.values ?? []).map(([t]) => t) });
      byAlert.set(key, one);
    }
    return [...byAlert.values()].map((a) => ({ labels: a.labels, stretches: stretches(a.series, step) }))
      .sort((a, b) => (b.stretches.at(-1)?.to ?? 0) - (a.stretches.at(-1)?.to ?? 0));
  }, [loaded.data, step]);
  return (
    <>
      <Problem of={loaded} />
      {loaded.data && alerts.length === 0 && <div class="box">No alert was pending or firing in the last {formatDuration(range)}.</div>}
      {alerts.slice(0, ROWS).map((a) => <Line key={labelKey(a.labels)} alert={a} from={end - range} to={end} step={step} />)}
      {alerts.length > ROWS && <p class="dim">{alerts.length - ROWS} more alerts are not shown: choose a rule.</p>}
      <p class="dim">From the samples of <code>ALERTS</code>, one look each {formatDuration(step)}: what was shorter may be missing.</p>
    </>
  );
}

const COLORS: Record<string, string> = { firing: 'var(--err)', pending: 'var(--warn)' };

function Line({ alert, from, to, step }: { alert: { labels: Labels; stretches: Stretch[] }; from: number; to: number; step: number }) {
  const { alertname = '', ...labels } = alert.labels;
  const x = (t: number) => (1000 * (t - from)) / (to - from);
  const last = alert.stretches.at(-1)!;
  const time = (t: number) => `${date(t, zone.value) === date(to, zone.value) ? '' : `${date(t, zone.value).slice(5)} `}${clockTime(t, zone.value)}`;
  const fired = alert.stretches.filter((s) => s.state === 'firing');
  const long = fired.reduce((n, s) => n + s.to - s.from + step, 0);
  return (
    <details class="item">
      <summary>
        <span class="name">{alertname}</span>
        <LabelList labels={labels} />
        <span class="grow" />
        <span class="dim num">{fired.length === 0 ? 'did not fire' : `fired ${fired.length} ${fired.length === 1 ? 'time' : 'times'}, ${formatSpan(long)}`}</span>
        <span class={last.to >= to - step * 1.5 ? (last.state === 'firing' ? 'err' : 'warn') : 'ok'}>{last.to >= to - step * 1.5 ? last.state : 'quiet'}</span>
        <svg viewBox="0 0 1000 12" preserveAspectRatio="none" role="img" aria-label={`${fired.length} stretches of firing`} style={{ flexBasis: '100%', height: '12px', background: 'var(--sunk)' }}>
          {alert.stretches.map((s) => <rect key={`${s.from}${s.state}`} x={x(s.from)} y={s.state === 'firing' ? 0 : 5} width={Math.max(2, x(s.to + step) - x(s.from))} height={s.state === 'firing' ? 12 : 7} fill={COLORS[s.state] ?? 'var(--text-3)'} />)}
        </svg>
      </summary>
      <div class="body">
        <table>
          <thead><tr><th scope="col">from</th><th scope="col">state</th><th scope="col" class="num">for</th></tr></thead>
          <tbody>
            {[...alert.stretches].reverse().map((s) => <tr key={`${s.from}${s.state}`}><td>{time(s.from)}</td><td class={s.state === 'firing' ? 'err' : 'warn'}>{s.state}</td><td class="num">{formatSpan(s.to - s.from + step)}</td></tr>)}
          </tbody>
        </table>
        <p><QueryLink expr={selector({ __name__: 'ALERTS', ...alert.labels })}>Its samples</QueryLink></p>
      </div>
    </details>
  );
}
