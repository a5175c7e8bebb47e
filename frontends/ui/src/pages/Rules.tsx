// Rules: what each costs, what it answers, and whether it works. Sorted by any column.
import { useMemo } from 'preact/hooks';
import { formatDuration, formatSpan, formatValue } from '../format/numbers';
import { useApi } from '../hooks';
import { now } from '../live';
import { href, route } from '../router';
import { DataTable, type Column } from '../table';
import type { Rule, RuleGroup, View, Views } from '../types';
import { FindBox, Problem, QueryLink, StateButton, matches, unix, useSearch } from './common';

interface Line { rule: Rule; group: RuleGroup; view: View | null }

const COLUMNS: Column<Line>[] = [
  {
    name: 'rule', text: ({ rule }) => rule.name,
    cell: ({ rule, view }) => <>
      <span class={rule.health === 'err' ? 'err' : rule.health === 'ok' ? 'ok' : 'warn'} title={rule.health}>{rule.health === 'err' ? '✖' : rule.health === 'ok' ? '✔' : '◌'}</span>{' '}
      <span class="dim">{rule.type === 'alerting' ? 'alert' : 'record'}</span>{' '}
      {view ? <a class="name" href={href(`/views/${view.id}`)} data-page="1">{rule.name}</a> : <span class="name">{rule.name}</span>}
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

export function Rules() {
  const loaded = useApi<{ groups: RuleGroup[] }>('rules', { exclude_alerts: 'true' }, 5000);
  const views = useApi<Views>('views', {}, 5000);
  const [filter] = useSearch();
  const state = route.value.params.get('state') ?? route.value.params.get('health');
  const groups = loaded.data?.groups ?? [];
  const viewOf = useMemo(() => {
    const rules = (views.data?.views ?? []).filter((v) => v.name !== '');
    return (rule: Rule) => rules.find((v) => v.name === rule.name && (rule.type === 'recording') === (v.kind === 'recorded')) ?? null;
  }, [views.data]);
  const all = groups.flatMap((g) => g.rules);
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
      {groups.map((group) => {
        const lines = group.rules.filter((r) => (!state || r.health === state) && matches(filter, `${r.name} ${r.query} ${group.name} ${group.file}`, [r.labels ?? {}])).map((rule) => ({ rule, group, view: viewOf(rule) }));
        return lines.length > 0 && (
          <section key={`${group.file};${group.name}`}>
            <div class="group-head"><h2 style={{ margin: 0 }}>{group.name}</h2><span class="dim wrap">{group.file}</span><span class="dim">every {formatDuration(group.interval)}</span></div>
            <DataTable class="stacked" rows={lines} columns={COLUMNS} rowKey={(l) => `${l.rule.name}${l.rule.query}${JSON.stringify(l.rule.labels)}`} caption={`Rules of ${group.name}`} />
          </section>
        );
      })}
    </>
  );
}
