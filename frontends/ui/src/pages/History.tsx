// When alerts changed their state, and why: the history that the server keeps. Before it begins, the samples of ALERTS.
import { useMemo } from 'preact/hooks';
import { alertsOf, stretches, type StateSpan, type AlertChanges } from '../format/alerts';
import { commonLabels, quote, labelKey, selector, type Labels } from '../format/labels';
import { formatDuration, formatSpan, formatValue } from '../format/numbers';
import { clockTime, date } from '../format/time';
import { useApi } from '../hooks';
import { now } from '../live';
import { href, route, setParam } from '../router';
import { zone } from '../settings';
import { useHeldOrder } from '../table';
import type { AlertHistoryData, RangeData, RuleGroup, SeriesMove, Transition } from '../types';
import { LabelList, Problem, QueryLink } from './common';

const RANGES = [900, 3600, 21_600, 86_400, 604_800, 2_592_000];
const STEPS = 400;
const ROWS = 60;
const LIMIT = 5000;
/** Changes of one alert that are listed. */
const LISTED = 100;
const AGAIN_MS = 2000;

export function History() {
  const rule = route.value.params.get('rule') ?? '';
  const fingerprint = route.value.params.get('fp') ?? '';
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
        {fingerprint && <button type="button" onClick={() => setParam('fp', '')}>one alert ✕</button>}
        <select aria-label="Rule" value={rule} onChange={(e) => setParam('rule', e.currentTarget.value)}>
          <option value="">all rules</option>
          {[...new Set([...rules.map((r) => r.name), ...(rule === '' ? [] : [rule])])].sort().map((name) => <option key={name}>{name}</option>)}
        </select>
        <select aria-label="Range" value={String(range)} onChange={(e) => setParam('range', e.currentTarget.value)}>
          {RANGES.map((r) => <option key={r} value={r}>{formatDuration(r)}</option>)}
        </select>
      </div>
      {expr && <p><QueryLink expr={expr}><code class="wrap">{expr}</code></QueryLink></p>}
      <AlertHistory rule={rule} range={range} fingerprint={fingerprint} />
    </>
  );
}

/** The alerts of a rule ("": of all rules) in the last `range` seconds. */
export function AlertHistory({ rule, range, fingerprint = '' }: { rule: string; range: number; fingerprint?: string }) {
  const end = Math.ceil(now.value);
  const params = { rule, fingerprint, limit: LIMIT, start: Math.floor(end / 60) * 60 - range };
  const loaded = useApi<AlertHistoryData>('alerts/history', params, { topic: 'history', every: AGAIN_MS });
  const start = end - range;
  const latest = useMemo(() => alertsOf(loaded.data?.transitions ?? [], start, end), [loaded.data, start, end]);
  // The latest first when the page opens; then each keeps its place, and what is new comes on top.
  const alerts = useHeldOrder(latest, (a) => a.fingerprint, `${rule} ${fingerprint} ${range}`, { hold: Infinity, newFirst: true });
  const shared = useMemo(() => sharedByRule(alerts), [alerts]);
  const keptFrom = loaded.data?.keptFrom ?? 0;
  return (
    <>
      <Problem of={loaded} />
      {loaded.data && alerts.length === 0 && <div class="box">No alert changed its state in the last {formatDuration(range)}.</div>}
      {alerts.slice(0, ROWS).map((a) => <Line key={a.fingerprint} alert={a} shared={shared.get(a.labels['alertname'] ?? '') ?? {}} from={start} to={end} open={fingerprint !== '' || alerts.length === 1} />)}
      {alerts.length > ROWS && <p class="dim">{alerts.length - ROWS} more alerts are not shown: choose a rule.</p>}
      {loaded.data?.truncated && <p class="dim">There are more than {LIMIT} changes; the latest are shown.</p>}
      {keptFrom > start && <Before rule={rule} from={start} to={Math.min(keptFrom, end)} />}
    </>
  );
}

/** What all alerts of a rule have in common, by the name of the rule: their lines say what tells them apart. */
function sharedByRule(alerts: AlertChanges[]): Map<string, Labels> {
  const byRule = new Map<string, Labels[]>();
  for (const { labels: { alertname = '', ...labels } } of alerts) byRule.set(alertname, [...(byRule.get(alertname) ?? []), labels]);
  return new Map([...byRule].filter(([, all]) => all.length > 1).map(([name, all]) => [name, commonLabels(all)]));
}

const COLORS: Record<string, string> = { firing: 'var(--err)', pending: 'var(--warn)' };

function Bar({ of, from, to }: { of: StateSpan[]; from: number; to: number }) {
  const x = (t: number) => (1000 * (Math.max(t, from) - from)) / (to - from);
  return (
    <svg viewBox="0 0 1000 12" preserveAspectRatio="none" role="img" aria-label={`${of.filter((s) => s.state === 'firing').length} stretches of firing`} style={{ flexBasis: '100%', height: '12px', background: 'var(--sunk)' }}>
      {of.map((s) => <rect key={`${s.from}${s.state}`} x={x(s.from)} y={s.state === 'firing' ? 0 : 5} width={Math.max(2, x(s.to) - x(s.from))} height={s.state === 'firing' ? 12 : 7} fill={COLORS[s.state] ?? 'var(--text-3)'} />)}
    </svg>
  );
}

const KIND: Record<string, string> = { firing: 'err', pending: 'warn', inactive: 'ok' };

function Line({ alert, shared, from, to, open }: { alert: AlertChanges; shared: Labels; from: number; to: number; open: boolean }) {
  const { alertname = '', ...labels } = alert.labels;
  const last = alert.changes.at(-1)!;
  const fired = alert.stretches.filter((s) => s.state === 'firing');
  const long = fired.reduce((n, s) => n + s.to - s.from, 0);
  const shown = [...alert.changes].reverse();
  return (
    <details class="item" open={open}>
      <summary>
        <span class="name">{alertname}</span>
        <LabelList labels={labels} without={Object.keys(shared)} />
        <span class="grow" />
        <span class="dim num">{fired.length === 0 ? 'did not fire' : `fired ${fired.length} ${fired.length === 1 ? 'time' : 'times'}, ${formatSpan(long)}`}</span>
        <span class={KIND[last.to] ?? ''}>{last.to === 'inactive' ? 'quiet' : last.to}</span>
        <Bar of={alert.stretches} from={from} to={to} />
      </summary>
      <div class="body">
        {Object.keys(shared).length > 0 && <div class="common">as others of {alertname}: <LabelList labels={shared} /></div>}
        <table class="stacked">
          <thead><tr><th scope="col">at</th><th scope="col">change</th><th scope="col">why</th><th scope="col" class="num">value</th><th scope="col">told</th></tr></thead>
          <tbody>{shown.slice(0, LISTED).map((change) => <Change key={`${change.at}${change.to}`} change={change} to={to} />)}</tbody>
        </table>
        {shown.length > LISTED && <p class="dim">{shown.length - LISTED} older changes are not shown: choose a shorter range.</p>}
        <p><QueryLink expr={selector({ __name__: 'ALERTS', ...alert.labels })}>Its samples</QueryLink>{' '}
          <a href={href(`/alerts/history?${new URLSearchParams({ rule: alert.changes[0]!.rule.name, fp: alert.fingerprint }).toString()}`)} data-page="1">Only this alert</a></p>
      </div>
    </details>
  );
}

const REASONS: Record<string, string> = {
  row: 'the condition began to hold', row_gone: 'the condition does not hold any more', for: '“for” has passed', keep_firing: '“keep_firing_for” has passed',
  error: 'more alerts than the limit of the group', reload: 'the rule was changed or removed', restart: 'after a start: it was not there any more',
};

function when(t: number, to: number): string {
  return `${date(t, zone.value) === date(to, zone.value) ? '' : `${date(t, zone.value).slice(5)} `}${clockTime(t, zone.value, true)}`;
}

function Change({ change, to }: { change: Transition; to: number }) {
  const { cause } = change;
  return (
    <tr>
      <td class="num">{when(change.at, to)}</td>
      <td>{change.from} → <b class={KIND[change.to] ?? ''}>{change.to}</b></td>
      <td class="wrap">
        {REASONS[change.reason] ?? change.reason}
        {cause?.series.map((s) => <Cause key={labelKey(s.labels)} moved={s} to={to} />)}
        {cause && cause.series.length === 0 && <div class="dim">no sample came: time alone did it</div>}
        {cause?.truncated && <div class="dim">and others</div>}
      </td>
      <td class="num">{formatValue(Number(change.value), '', 4)}</td>
      <td class="wrap">{change.sent.map((s) => (
        <div key={s.alertmanager} class={s.ok ? '' : 'err'} title={s.alertmanager}>{s.ok ? `${host(s.alertmanager)} accepted, ${Math.max(0, Math.round((s.at - change.at) * 1000))} ms` : `${host(s.alertmanager)}: ${s.error}`}</div>
      ))}</td>
    </tr>
  );
}

function host(url: string): string {
  try {
    return new URL(url).host;
  } catch {
    return url;
  }
}

function Cause({ moved, to }: { moved: SeriesMove; to: number }) {
  const value = (v: string | null) => (v === null ? 'nothing' : formatValue(Number(v), '', 6));
  return (
    <div>
      <QueryLink expr={selector(moved.labels)}><code class="wrap">{selector(moved.labels)}</code></QueryLink>{' '}
      {moved.before === moved.after ? <span class="dim">stayed {value(moved.after)}</span> : <b>{value(moved.before)} → {value(moved.after)}</b>}{' '}
      <span class="dim">at {when(moved.t, to)}</span>
    </div>
  );
}

/** What the samples of ALERTS say of the time before the history begins. */
function Before({ rule, from, to }: { rule: string; from: number; to: number }) {
  const range = to - from;
  const step = Math.max(1, Math.ceil(range / STEPS));
  const end = Math.floor(to / Math.max(step, 10)) * Math.max(step, 10);
  const query = rule === '' ? 'ALERTS' : `ALERTS{alertname=${quote(rule)}}`;
  const loaded = useApi<RangeData>(range > 1 ? 'query_range' : null, { query, start: end - Math.max(range, step), end, step });
  const alerts = useMemo(() => {
    const byAlert = new Map<string, { labels: Labels; series: { state: string; times: number[] }[] }>();
    for (const s of loaded.data?.result ?? []) {
      const { alertstate, __name__: _, ...labels } = s.metric;
      const key = labelKey(labels);
      const one = byAlert.get(key) ?? { labels, series: [] };
      one.series.push({ state: alertstate ?? '', times: (s.values ?? []).map(([t]) => t) });
      byAlert.set(key, one);
    }
    return [...byAlert.values()].map((a) => ({ labels: a.labels, stretches: stretches(a.series, step) }));
  }, [loaded.data, step]);
  if (alerts.length === 0) return <p class="dim">The history begins at {when(to, now.value)}; before that no alert left samples.</p>;
  return (
    <>
      <h2>Before {when(to, now.value)}, when the history begins</h2>
      <p class="dim">From the samples of <code>ALERTS</code>, one look each {formatDuration(step)}: what was shorter may be missing, and the causes are not known.</p>
      {alerts.slice(0, ROWS).map((a) => {
        const { alertname = '', ...labels } = a.labels;
        return <div class="item row" key={labelKey(a.labels)}><span class="name">{alertname}</span><LabelList labels={labels} /><Bar of={a.stretches.map((s) => ({ ...s, to: s.to + step }))} from={from} to={to} /></div>;
      })}
    </>
  );
}
