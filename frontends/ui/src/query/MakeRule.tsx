// Makes an alert of an expression: what it would have done in the past, and its text for a rule file.
import { useEffect, useRef, useState } from 'preact/hooks';
import { ApiError, follow } from '../api';
import { labelKey } from '../format/labels';
import { formatDuration, formatSpan, parseDuration } from '../format/numbers';
import { clockTime, date, dateTime } from '../format/time';
import { ruleText, type RuleFields } from '../promql/rule';
import { zone } from '../settings';
import { toast } from '../toast';
import type { RuleTest, RuleTestProgress } from '../types';
import { LabelList } from '../pages/common';

const SINCE: [string, string][] = [['1h', '1 hour'], ['1d', '1 day'], ['7d', '7 days'], ['30d', '30 days']];
const ALERTS = 20;
const STRETCHES = 50;

interface Fields extends RuleFields { since: string; step: string }

export function MakeRule({ expr }: { expr: string }) {
  const [fields, setFields] = useState<Fields>({ alert: 'Test', hold: '5m', severity: '', since: '1d', step: '' });
  const [progress, setProgress] = useState<RuleTestProgress | null>(null);
  const [result, setResult] = useState<RuleTest | null>(null);
  const [error, setError] = useState('');
  const running = useRef<AbortController | null>(null);
  const text = ruleText(expr, fields);
  const put = (next: Partial<Fields>) => setFields({ ...fields, ...next });
  useEffect(() => () => running.current?.abort(), []);
  const stop = () => {
    running.current?.abort();
    running.current = null;
    setProgress(null);
  };
  const run = async () => {
    stop();
    const abort = new AbortController();
    running.current = abort;
    setProgress({ done: 0, at: 0, fired: 0 });
    setError('');
    try {
      const body = { rule: text, since: fields.since, ...(fields.step.trim() === '' ? {} : { step: fields.step.trim() }) };
      setResult(await follow<RuleTest, RuleTestProgress>('rules/test', body, setProgress, abort.signal));
    } catch (e) {
      if (abort.signal.aborted) return;
      setResult(null);
      setError(e instanceof ApiError ? e.message : String(e));
    }
    running.current = null;
    setProgress(null);
  };
  const copy = () => void navigator.clipboard?.writeText(`- ${text.trimEnd().split('\n').join('\n  ')}\n`).then(() => toast('Rule copied'), () => toast('The browser does not allow copying'));
  const valid = (length: string) => length.trim() === '' || (parseDuration(length) ?? -1) >= 0;
  return (
    <form class="make" onSubmit={(e) => {
      e.preventDefault();
      void run();
    }}>
      <div class="row">
        <label>alert <input value={fields.alert} spellcheck={false} onInput={(e) => put({ alert: e.currentTarget.value })} /></label>
        <label>for <input size={6} value={fields.hold} aria-invalid={!valid(fields.hold)} spellcheck={false} onInput={(e) => put({ hold: e.currentTarget.value })} /></label>
        <label>severity <input size={10} value={fields.severity} spellcheck={false} onInput={(e) => put({ severity: e.currentTarget.value })} /></label>
        <label>on the last <select value={fields.since} onChange={(e) => put({ since: e.currentTarget.value })}>{SINCE.map(([value, name]) => <option key={value} value={value}>{name}</option>)}</select></label>
        <label title="The time between two evaluations; empty: as rules are evaluated here">every <input size={6} placeholder="as rules" value={fields.step} aria-invalid={!valid(fields.step)} spellcheck={false} onInput={(e) => put({ step: e.currentTarget.value })} /></label>
        {progress ? <button type="button" onClick={stop}>Stop</button> : <button class="main" type="submit" disabled={!valid(fields.hold) || !valid(fields.step)}>Try</button>}
        <button type="button" onClick={copy}>Copy the rule</button>
        {progress && <span class="dim" role="status">{Math.round(progress.done * 100)} %, fired {progress.fired} times so far</span>}
      </div>
      <pre class="mono">{text}</pre>
      {error !== '' && <div class="box err" role="alert"><pre>{error}</pre></div>}
      {result && <Outcome of={result} />}
    </form>
  );
}

const times = (n: number, one: string, many: string) => `${n} ${n === 1 ? one : many}`;

function Outcome({ of }: { of: RuleTest }) {
  const span = of.end - of.start;
  const x = (t: number) => (span <= 0 ? 0 : (1000 * (t - of.start)) / span);
  const at = (t: number) => `${date(t, zone.value) === date(of.end, zone.value) ? '' : `${date(t, zone.value).slice(5)} `}${clockTime(t, zone.value)}`;
  return (
    <section aria-label="What it would have done">
      <p>
        {of.fired === 0 ? <b class="ok">It would not have fired.</b> : (
          <>It would have fired <b class="err">{times(of.fired, 'time', 'times')}</b>, {formatSpan(of.firingSeconds)} in all, {formatSpan(of.longestSeconds)} the longest: <b>{times(of.notifications, 'notification', 'notifications')}</b>.</>
        )}{' '}
        <span class="dim">{dateTime(of.start, zone.value)} to {dateTime(of.end, zone.value)}, {times(of.evaluations, 'evaluation', 'evaluations')}, one each {formatDuration(of.step)}.</span>
      </p>
      {of.failures > 0 && <div class="box err">{times(of.failures, 'evaluation', 'evaluations')} failed: {of.firstError}</div>}
      {of.alerts.slice(0, ALERTS).map((alert) => {
        const { alertname: _, ...labels } = alert.labels;
        const fired = alert.intervals.filter((s) => s.state === 'firing');
        return (
          <details class="item" key={labelKey(alert.labels)}>
            <summary>
              <LabelList labels={labels} /><span class="grow" />
              <span class="dim num">{fired.length === 0 ? 'pending only' : `fired ${times(fired.length, 'time', 'times')}, ${formatSpan(fired.reduce((n, s) => n + s.to - s.from, 0))}`}</span>
              <svg viewBox="0 0 1000 12" preserveAspectRatio="none" role="img" aria-label={`${fired.length} stretches of firing`} style={{ flexBasis: '100%', height: '12px', background: 'var(--sunk)' }}>
                {alert.intervals.map((s) => <rect key={`${s.from}${s.state}`} x={x(s.from)} y={s.state === 'firing' ? 0 : 5} width={Math.max(2, x(s.to) - x(s.from))} height={s.state === 'firing' ? 12 : 7} fill={s.state === 'firing' ? 'var(--err)' : 'var(--warn)'} />)}
              </svg>
            </summary>
            <div class="body">
              <table>
                <thead><tr><th scope="col">from</th><th scope="col">state</th><th scope="col" class="num">for</th></tr></thead>
                <tbody>{[...alert.intervals].reverse().slice(0, STRETCHES).map((s) => <tr key={`${s.from}${s.state}`}><td>{at(s.from)}</td><td class={s.state === 'firing' ? 'err' : 'warn'}>{s.state}{s.open ? ', still' : ''}</td><td class="num">{formatSpan(s.to - s.from)}</td></tr>)}</tbody>
              </table>
            </div>
          </details>
        );
      })}
      {(of.alerts.length > ALERTS || of.truncated) && <p class="dim">More alerts are not shown; the sums have them.</p>}
    </section>
  );
}
