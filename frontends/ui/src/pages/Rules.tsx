// Rules: what each costs, what it answers, and whether it works. Sorted by any column.
import { useMemo } from 'preact/hooks';
import { formatDuration, formatSpan, formatValue } from '../format/numbers';
import { useApi } from '../hooks';
import { now } from '../live';
import { href, route } from '../router';
import { DataTable, type Column } from '../table';
import type { Rule, RuleGroup, View, Views } from '../types';
import { FindBox, Problem, QueryLink, StateButton, matches, unix, useSearch } from './common';
import { RuleDetail, ruleKey, rulePath } from './RuleDetail';

/** How often costs are asked, and rules while the server cannot tell that they changed, ms. */
const AGAIN_MS = 5000;

interface Line { rule: Rule; group: RuleGroup; view: View | null }

const COLUMNS: Column<Line>[] = [
  {
    name: 'rule', text: ({ rule }) => rule.name,
    cell: ({ rule, group }) => <>
      <span class={rule.health === 'err' ? 'err' : rule.health === 'ok' ? 'ok' : 'warn'} title={rule.health}>{rule.health === 'err' ? '✖' : rule.health === 'ok' ? '✔' : '◌'}</span>{' '}
      <span class="dim">{rule.type === 'alerting' ? 'alert' : 'record'}</span>{' '}
      <a class="name" href={href(rulePath(group, rule))} data-page="1">{rule.name}</a>
    </>,
  },
  {
    name: 'expression', text: ({ rule }) => rule.query, class: 'wrap',
    cell: ({ rule }) => <><QueryLink expr={rule.query}><code class="wrap">{rule.query}</code></QueryLink>{rule.lastError ? <div class="err">{rule.lastError}</div> : null}</>,
  },
  { name: 'rows', title: 'rows with a value now', numeric: true, sort: (l) => l.view?.rows ?? -1, text: (l) => String(l.view?.rows ?? '') },
  { name: 'touched', title: 'rows that the latest tick looked at', numeric: true, class: 'narrow-hide', sort: (l) => l.view?.rowsTouched ?? -1, text: (l) => String(l.view?.rowsTouched ?? '') },
  {
    name: 'CPU', title: 'seconds of CPU since it was installed', numeric: true, class: 'narrow-hide', sort: (l) => l.view?.cpuSeconds ?? l.rule.evaluationTime,
    text: (l) => String(l.view?.cpuSeconds ?? ''), cell: (l) => (l.view?.cpuSeconds === undefined ? '' : formatValue(l.view.cpuSeconds, 'seconds', 3)),
  },
  {
    name: 'state', title: 'bytes; what other views share in parentheses', numeric: true, class: 'narrow-hide', sort: (l) => l.view?.stateBytes?.total ?? -1, text: (l) => String(l.view?.stateBytes?.total ?? ''),
    cell: (l) => (l.view?.stateBytes ? formatValue(l.view.stateBytes.total, 'bytes', 3) : ''),
  },
  {
    name: 'last change', title: 'when the answer changed last', numeric: true, class: 'narrow-hide', sort: (l) => unix(l.view?.lastChange ?? l.rule.lastEvaluation), text: (l) => l.view?.lastChange ?? l.rule.lastEvaluation,
    cell: (l) => { const t = unix(l.view?.lastChange ?? l.rule.lastEvaluation); return t === 0 ? 'never' : `${formatSpan(now.value - t)} ago`; },
  },
];

const WITH_GROUP: Column<Line>[] = [...COLUMNS.slice(0, 1), { name: 'group', text: ({ group }) => group.name, cell: ({ group }) => <span title={group.file}>{group.name}</span> }, ...COLUMNS.slice(1)];
/** More rules than this are one table. */
const MANY = 300;

function lineKey({ rule, group }: Line): string {
  return `${group.file}${group.name}${rule.name}${rule.query}${JSON.stringify(rule.labels)}`;
}

export function Rules() {
  const loaded = useApi<{ groups: RuleGroup[] }>('rules', { exclude_alerts: 'true' }, { topic: 'rules', every: AGAIN_MS });
  const views = useApi<Views>('views', {}, { topic: 'views', every: AGAIN_MS, atMost: AGAIN_MS });
  const [filter] = useSearch();
  const state = route.value.params.get('state') ?? route.value.params.get('health');
  const groups = loaded.data?.groups ?? [];
  const viewOf = useMemo(() => {
    const key = (name: string, recorded: boolean) => `${recorded ? 'record' : 'alert'} ${name}`;
    const rules = new Map((views.data?.views ?? []).filter((v) => v.name !== '').map((v) => [key(v.name, v.kind === 'recorded'), v]));
    return (rule: Rule) => rules.get(key(rule.name, rule.type === 'recording')) ?? null;
  }, [views.data]);
  const all = groups.flatMap((g) => g.rules);
  // A table for each group would have all rows in the document.
  const many = all.length > MANY;
  const shown = useMemo(() => groups.flatMap((group) => group.rules
    .filter((r) => (!state || r.health === state) && matches(filter, `${r.name} ${r.query} ${group.name} ${group.file}`, [r.labels ?? {}]))
    .map((rule) => ({ rule, group, view: viewOf(rule) }))), [loaded.data, state, filter, viewOf]);
  const asked = route.value.params.get('rule');
  if (asked !== null) {
    const one = groups.flatMap((group) => group.rules.map((rule) => ({ rule, group }))).find(({ rule, group }) => ruleKey(group, rule) === asked);
    if (one) return <RuleDetail key={asked} {...one} groups={groups} view={viewOf(one.rule)} />;
    return loaded.data
      ? <div class="box">There is no rule {asked} any more. <a class="plain-link" href={href('/rules')} data-page="1">All rules</a></div>
      : <Problem of={loaded} />;
  }
  const count = (health: string) => all.filter((r) => r.health === health).length;
  return (
    <>
      <div class="head">
        <h1>Rules</h1>
        <StateButton name="err" label="Broken" count={count('err')} kind="err" />
        <StateButton name="ok" label="Working" count={count('ok')} kind="ok" />
        <span class="grow" />
        <FindBox label="Filter rules" />
      </div>
      <Problem of={loaded} />
      {loaded.data && all.length === 0 && <div class="box">There are no rules. <code>rule_files</code> in the configuration names files of rules.</div>}
      {many
        ? <DataTable class="stacked" rows={shown} columns={WITH_GROUP} rowKey={lineKey} caption="Rules" />
        : groups.map((group) => {
          const lines = shown.filter((l) => l.group === group);
          return lines.length > 0 && (
            <section key={`${group.file};${group.name}`}>
              <div class="group-head"><h2 style={{ margin: 0 }}>{group.name}</h2><span class="dim wrap">{group.file}</span><span class="dim">every {formatDuration(group.interval)}</span></div>
              <DataTable class="stacked" rows={lines} columns={COLUMNS} rowKey={lineKey} caption={`Rules of ${group.name}`} />
            </section>
          );
        })}
    </>
  );
}
