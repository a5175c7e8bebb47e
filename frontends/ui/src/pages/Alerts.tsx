// Alerts: what is broken, fires and is pending, first and open; what is quiet, short.
import { useEffect, useMemo, useState } from 'preact/hooks';
import { commonLabels, labelKey, labelNames, type Labels } from '../format/labels';
import { formatDuration, formatSpan, formatValue, parseValue } from '../format/numbers';
import { clockTime, date } from '../format/time';
import { useApi, type Loaded } from '../hooks';
import { now } from '../live';
import { threshold, unitOf, type Node } from '../promql/ast';
import { call } from '../api';
import { silenceOf, silencePage, type Silences } from '../format/silences';
import { href, route, setParam } from '../router';
import { zone } from '../settings';
import { DataTable, type Column } from '../table';
import type { Alert, Rule, RuleGroup } from '../types';
import { External, FindBox, LabelList, Problem, QueryLink, ReadAt, StateButton, matches, unix, useSearch } from './common';

interface RuleEntry { rule: Rule; group: RuleGroup; state: State }

type State = 'broken' | 'firing' | 'pending' | 'quiet';

const ORDER: State[] = ['broken', 'firing', 'pending', 'quiet'];
const SIGNS: Record<State, [string, string]> = { broken: ['✖', 'err'], firing: ['●', 'err'], pending: ['◐', 'warn'], quiet: ['✔', 'ok'] };
/** How often the list is asked while the server cannot tell that it changed, ms. */
const AGAIN_MS = 5000;
/** How often Alertmanagers are asked what is silenced, ms. */
const SILENCES_MS = 30_000;
/** Rules above this many alerts are open only when asked. */
const OPEN_UP_TO = 200;

export function stateOf(rule: Rule): State {
  if (rule.health === 'err') return 'broken';
  return rule.state === 'firing' || rule.state === 'pending' ? rule.state : 'quiet';
}

export function Alerts() {
  const loaded = useApi<{ groups: RuleGroup[] }>('rules', { type: 'alert' }, { topic: 'alerts', every: AGAIN_MS });
  const silences = useApi<Silences>('alerts/silences', {}, { every: SILENCES_MS });
  const [filter] = useSearch();
  const wanted = route.value.params.get('state');
  const items = useMemo(() => {
    const all = (loaded.data?.groups ?? []).flatMap((group) => group.rules.map((rule) => ({ rule, group, state: stateOf(rule) })));
    return all.sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || (a.rule.name < b.rule.name ? -1 : 1));
  }, [loaded.data]);
  const shown = items.filter((i) => (!wanted || i.state === wanted) && matches(filter, textOf(i), [i.rule.labels ?? {}, ...(i.rule.alerts ?? []).map((a) => a.labels)]));
  const silenced = items.reduce((n, i) => n + (i.rule.alerts ?? []).filter((a) => silenceOf(a.labels, silences.data)).length, 0);
  const loud = route.value.params.get('silenced') === '0';
  const alerts = (state: string) => items.reduce((n, i) => n + (i.rule.alerts ?? []).filter((a) => a.state === state).length, 0);
  const of = (state: State) => items.filter((i) => i.state === state).length;
  const quiet = shown.filter((i) => i.state === 'quiet');
  return (
    <>
      <div class="head">
        <h1>Alerts</h1>
        <StateButton name="firing" label="Firing" count={alerts('firing')} kind="err" />
        <StateButton name="pending" label="Pending" count={alerts('pending')} kind="warn" />
        <StateButton name="broken" label="Broken" count={of('broken')} kind="err" />
        <StateButton name="quiet" label="Quiet" count={of('quiet')} kind="ok" />
        <a href={href('/alerts/history')} data-page="1">History</a>
        {silenced > 0 && <button type="button" aria-pressed={loud} onClick={() => setParam('silenced', loud ? '' : '0')} title="Alerts that somebody has silenced at an Alertmanager">Without silenced<span class="badge">{silenced}</span></button>}
        <span class="grow" />
        <FindBox label="Filter alerts" />
      </div>
      <Problem of={loaded} />
      {items.length > 0 && <Silenced of={silences} />}
      {loaded.data && items.length === 0 && <Empty />}
      {loaded.data && items.length > 0 && of('broken') + alerts('firing') + alerts('pending') === 0 && <div class="box info">Nothing fires, and nothing is pending.</div>}
      {shown.filter((i) => i.state !== 'quiet').map((i) => <RuleItem key={`${i.group.file};${i.group.name};${i.rule.name};${i.rule.query}`} item={i} filter={filter} silences={silences.data} loud={loud} />)}
      {quiet.length > 0 && (
        <>
          <h2>Quiet</h2>
          {quiet.map((i) => <RuleItem key={`${i.group.file};${i.group.name};${i.rule.name};${i.rule.query}`} item={i} filter={filter} silences={null} loud={false} />)}
        </>
      )}
      {loaded.data && items.length > 0 && shown.length === 0 && <div class="box">No alert has this state and this text.</div>}
    </>
  );
}

/** Whether it is known what is silenced: one line, that keeps its place while Alertmanagers are asked. */
function Silenced({ of }: { of: Loaded<Silences> }) {
  const asked = of.data?.alertmanagers ?? [];
  const failed = asked.filter((a) => a.error !== '');
  const text = failed.map((a) => `${a.url} does not say what is silenced: ${a.error}`).join('; ');
  return (
    <p class="one-line silenced" title={text}>
      {of.error ? <span class="warn">What is silenced is not known: {of.error.message}</span>
        : of.data === null ? <span class="dim">Alertmanagers are asked what is silenced …</span>
          : asked.length === 0 ? <span class="dim">No Alertmanager is configured: nobody is notified.</span>
            : <><span class="dim">Silences </span><ReadAt of={of} every={SILENCES_MS} />{text !== '' && <span class="warn"> · {text}</span>}</>}
    </p>
  );
}

function textOf({ rule, group }: RuleEntry): string {
  return [rule.name, group.name, rule.query, ...(rule.alerts ?? []).flatMap((a) => Object.values(a.labels))].join(' ');
}

function Empty() {
  return (
    <div class="box">
      <p>There are no alerting rules. A rule file may hold, for example:</p>
      <pre>{'groups:\n  - name: example\n    rules:\n      - alert: TargetDown\n        expr: up == 0\n        for: 1m'}</pre>
    </div>
  );
}

function RuleItem({ item, filter, silences, loud }: { item: RuleEntry; filter: string; silences: Silences | null; loud: boolean }) {
  const { rule, state, group } = item;
  const all = rule.alerts ?? [];
  const alerts = loud ? all.filter((a) => !silenceOf(a.labels, silences)) : all;
  const silenced = alerts.filter((a) => silenceOf(a.labels, silences)).length;
  const [open, setOpen] = useState(state !== 'quiet' && alerts.length <= OPEN_UP_TO);
  const [sign, kind] = SIGNS[state];
  const oldest = Math.min(...alerts.map((a) => unix(a.activeAt)));
  const firing = alerts.filter((a) => a.state === 'firing').length;
  return (
    <details class="item" open={open} onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>
        <span class={kind} aria-hidden="true">{sign}</span>
        <span class="name">{rule.name}</span>
        {rule.labels?.['severity'] && <span class="badge">{rule.labels['severity']}</span>}
        <span class={kind}>{state === 'broken' ? 'evaluation fails' : state === 'quiet' ? 'quiet' : `${firing > 0 ? `${firing} firing` : ''}${firing > 0 && alerts.length > firing ? ', ' : ''}${alerts.length > firing ? `${alerts.length - firing} pending` : ''}`}</span>
        {silenced > 0 && <span class="badge" title="at an Alertmanager">{silenced === alerts.length ? 'silenced' : `${silenced} silenced`}</span>}
        {alerts.length > 0 && <span class="dim num">oldest {formatSpan(now.value - oldest)}</span>}
        <code class="dim one-line grow narrow-hide">{rule.query}</code>
        <span class="dim narrow-hide">{group.name}</span>
      </summary>
      {open && <Details item={item} silences={silences} alerts={alerts.filter((a) => matches(filter, `${rule.name} ${group.name} ${rule.query} ${Object.values(a.labels).join(' ')}`, [a.labels]))} />}
    </details>
  );
}

function Details({ item, alerts, silences }: { item: RuleEntry; alerts: Alert[]; silences: Silences | null }) {
  const { rule, group, state } = item;
  return (
    <div class="body">
      {state === 'broken' && <div class="box err"><pre>{rule.lastError}</pre></div>}
      <div class="row">
        <QueryLink expr={rule.query}><code class="wrap">{rule.query}</code></QueryLink>
        {(rule.duration ?? 0) > 0 && <span class="dim">for {formatDuration(rule.duration!)}</span>}
        {(rule.keepFiringFor ?? 0) > 0 && <span class="dim">keep firing for {formatDuration(rule.keepFiringFor!)}</span>}
        <span class="dim">{group.file} › {group.name}, every {formatDuration(group.interval)}</span>
        <a href={href(`/alerts/history?rule=${encodeURIComponent(rule.name)}`)} data-page="1">history</a>
        {alerts.length > 0 && (silences?.alertmanagers ?? []).map(({ url }) => {
          const page = silencePage(url, { alertname: rule.name, ...commonLabels([alerts[0]!, ...alerts].map((a) => a.labels)) });
          return page && <a key={url} href={page} rel="noopener noreferrer" target="_blank" title={page}>silence…</a>;
        })}
      </div>
      {alerts.length === 0 ? <Annotations of={rule.annotations ?? {}} /> : <Instances rule={rule} alerts={alerts} silences={silences} />}
    </div>
  );
}

function Annotations({ of }: { of: Labels }) {
  const names = Object.keys(of);
  if (names.length === 0) return null;
  return (
    <dl class="kv">
      {names.map((name) => [<dt key={`${name}t`}>{name}</dt>, <dd key={name}><External text={of[name]!} /></dd>])}
    </dl>
  );
}

function silenceColumn(silences: Silences | null): Column<Alert> {
  const text = (a: Alert) => {
    const found = silenceOf(a.labels, silences);
    return found ? `until ${date(found.endsAt, zone.value)} ${clockTime(found.endsAt, zone.value)} by ${found.createdBy}: ${found.comment}` : '';
  };
  return { name: 'silenced', class: 'wrap', text };
}

function Instances({ rule, alerts, silences }: { rule: Rule; alerts: Alert[]; silences: Silences | null }) {
  const common = commonLabels(alerts.map((a) => a.labels));
  const annotations = commonLabels(alerts.map((a) => a.annotations));
  const names = labelNames(alerts.map((a) => a.labels), common).filter((n) => n !== 'alertname');
  const said = labelNames(alerts.map((a) => a.annotations)).filter((n) => !(n in annotations));
  const [unit, setUnit] = useState<ReturnType<typeof unitOf>>('');
  useEffect(() => {
    call<Node>('parse_query', { query: rule.query }).then(({ data }) => setUnit(unitOf(threshold(data)?.left ?? data)), () => undefined);
  }, [rule.query]);
  const several = alerts.some((a) => a.state !== alerts[0]!.state);
  const seconds = now.value;
  const columns: Column<Alert>[] = [
    ...(several || alerts[0]!.state === 'pending' ? [stateColumn(rule, seconds)] : []),
    ...names.map((name): Column<Alert> => ({ name, text: (a) => a.labels[name] ?? '' })),
    ...(alerts.some((a) => silenceOf(a.labels, silences)) ? [silenceColumn(silences)] : []),
    { name: 'value', numeric: true, sort: (a) => parseValue(a.value), text: (a) => a.value, cell: (a) => <span title={a.value}>{formatValue(parseValue(a.value), unit)}</span> },
    {
      name: 'since', numeric: true, sort: (a) => unix(a.activeAt), text: (a) => a.activeAt,
      cell: (a) => <span title={a.activeAt}>{date(unix(a.activeAt), zone.value) === date(seconds, zone.value) ? '' : `${date(unix(a.activeAt), zone.value).slice(5)} `}{clockTime(unix(a.activeAt), zone.value)} <span class="dim">{formatSpan(seconds - unix(a.activeAt))}</span></span>,
    },
    ...said.map((name): Column<Alert> => ({
      name, text: (a) => a.annotations[name] ?? '', class: 'wrap',
      cell: (a) => <External text={a.annotations[name] ?? ''} />,
    })),
  ];
  const shared = Object.fromEntries(Object.entries(common).filter(([n]) => n !== 'alertname'));
  return (
    <>
      {Object.keys(shared).length > 0 && <div class="common">common: <LabelList labels={shared} /></div>}
      <Annotations of={annotations} />
      <DataTable class="stacked" rows={alerts} columns={columns} rowKey={(a) => labelKey(a.labels)} caption={`Alerts of ${rule.name}`} />
    </>
  );
}

function stateColumn(rule: Rule, seconds: number): Column<Alert> {
  return {
    name: 'state', text: (a) => a.state,
    cell: (a) => {
      if (a.state === 'firing') return <span class="err">● firing</span>;
      const rest = unix(a.activeAt) + (rule.duration ?? 0) - seconds;
      return <span class="warn">◐ pending{rest > 0 ? `, fires in ${formatSpan(rest)}` : ''}</span>;
    },
  };
}
