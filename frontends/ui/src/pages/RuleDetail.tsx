// One rule: its parts with how many rows they have, its chart, who reads it and what it reads, its history.
import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { call } from '../api';
import { quote } from '../format/labels';
import { formatDuration, formatSpan, formatValue } from '../format/numbers';
import { waitForFirst } from '../hooks';
import { now } from '../live';
import type { Node } from '../promql/ast';
import { lintRule, selectors } from '../promql/lint';
import { Explain } from '../query/Explain';
import { Panel } from '../query/Panel';
import { newPanel, type Panel as Settings } from '../query/url';
import { href } from '../router';
import { isStatement } from '../sql/language';
import type { Rule, RuleGroup, View } from '../types';
import { External, LabelList, QueryLink, unix } from './common';
import { AlertHistory } from './History';

/** The address of a rule. */
export function rulePath(group: RuleGroup, rule: Rule): string {
  return `/rules?${new URLSearchParams({ rule: ruleKey(group, rule) }).toString()}`;
}

/** What the address says of a rule. */
export function ruleKey(group: RuleGroup, rule: Rule): string {
  return `${group.file};${group.name};${rule.name}`;
}

interface Props { rule: Rule; group: RuleGroup; groups: RuleGroup[]; view: View | null }

const HISTORY_SECONDS = 3600;
/** Rules beyond this many are not asked whether they read this one. */
const READ_MAX = 1000;

/** The rules that mention a name, and the trees of their expressions. */
function useReaders(name: string, groups: RuleGroup[]): { group: RuleGroup; rule: Rule }[] {
  const [readers, setReaders] = useState<{ group: RuleGroup; rule: Rule }[]>([]);
  const key = groups.flatMap((g) => g.rules.map((r) => r.query)).join('\n');
  useEffect(() => {
    const abort = new AbortController();
    // Only expressions with the name in their text are parsed.
    const candidates = groups.flatMap((group) => group.rules.map((rule) => ({ group, rule }))).filter(({ rule }) => rule.query.includes(name)).slice(0, READ_MAX);
    void Promise.all(candidates.map(async (one) => {
      const tree = await call<Node>('parse_query', { query: one.rule.query }, abort.signal).then((a) => a.data, () => null);
      return tree && selectors(tree).some((s) => s['name'] === name) ? one : null;
    })).then((found) => !abort.signal.aborted && setReaders(found.filter((one) => one !== null)));
    return () => abort.abort();
  }, [name, key]);
  return readers;
}

export function RuleDetail({ rule, group, groups, view }: Props) {
  const [tree, setTree] = useState<Node | null>(null);
  const isAlert = rule.type === 'alerting';
  const sql = isStatement(rule.query);
  const [settings, setSettings] = useState<Settings>(() => newPanel(isAlert ? rule.query : rule.name));
  const readers = useReaders(isAlert ? 'ALERTS' : rule.name, groups).filter((r) => !isAlert || r.rule.query.includes(rule.name));
  useEffect(() => {
    if (sql) return undefined;
    const abort = new AbortController();
    const came = waitForFirst();
    call<Node>('parse_query', { query: rule.query }, abort.signal).then((a) => setTree(a.data), () => undefined).finally(came);
    return () => {
      abort.abort();
      came();
    };
  }, [rule.query]);
  const reads = tree ? [...new Set(selectors(tree).map((s) => String(s['name'] ?? '')))].filter((name) => name !== '') : [];
  const recorder = (name: string) => groups.flatMap((g) => g.rules.map((r) => ({ group: g, rule: r }))).find((r) => r.rule.type === 'recording' && r.rule.name === name);
  const facts: [string, ComponentChildren][] = [
    ['group', <>{group.name} <span class="dim wrap">{group.file}, every {formatDuration(group.interval)}</span></>],
    ['health', <span class={rule.health === 'err' ? 'err' : rule.health === 'ok' ? 'ok' : 'warn'}>{rule.health}</span>],
    ['labels', Object.keys(rule.labels ?? {}).length > 0 ? <LabelList labels={rule.labels ?? {}} /> : ''],
    ['for', isAlert && rule.duration ? formatDuration(rule.duration) : ''],
    ['keeps firing for', isAlert && rule.keepFiringFor ? formatDuration(rule.keepFiringFor) : ''],
    ['rows', view ? String(view.rows) : ''],
    ['rows touched', view?.rowsTouched === undefined ? '' : String(view.rowsTouched)],
    ['CPU', view?.cpuSeconds === undefined ? '' : formatValue(view.cpuSeconds, 'seconds', 3)],
    ['state', view?.stateBytes ? `${formatValue(view.stateBytes.total, 'bytes', 3)}, of which ${formatValue(view.stateBytes.shared, 'bytes', 3)} shared` : ''],
    ['last change', view?.lastChange ? `${formatSpan(now.value - unix(view.lastChange))} ago` : ''],
    ['dataflow', view ? <a href={href(`/views/${view.id}`)} data-page="1">view {view.id}</a> : ''],
    ['reads', reads.map((name, i) => {
      const by = recorder(name);
      return <span key={name}>{i > 0 ? ', ' : ''}{by ? <a href={href(rulePath(by.group, by.rule))} data-page="1">{name}</a> : <QueryLink expr={`{__name__=${quote(name)}}`}>{name}</QueryLink>}</span>;
    })],
    ['read by', readers.map((r, i) => <span key={ruleKey(r.group, r.rule)}>{i > 0 ? ', ' : ''}<a href={href(rulePath(r.group, r.rule))} data-page="1">{r.rule.name}</a></span>)],
  ];
  const findings = lintRule(rule, tree).filter((f) => f.severity !== 'error');
  return (
    <>
      <div class="head"><h1>{isAlert ? 'Alert' : 'Recording rule'} {rule.name}</h1><a href={href('/rules')} data-page="1">all rules</a></div>
      {rule.lastError ? <div class="box err" role="alert"><pre>{rule.lastError}</pre></div> : null}
      <dl class="kv">{facts.filter(([, v]) => v !== '' && !(Array.isArray(v) && v.length === 0)).map(([k, v]) => [<dt key={`${k}t`}>{k}</dt>, <dd key={k}>{v}</dd>])}</dl>
      {isAlert && Object.entries(rule.annotations ?? {}).map(([k, v]) => <p key={k}><span class="dim">{k}:</span> <External text={v} /></p>)}
      {findings.length > 0 && <h2>Lint</h2>}
      {findings.map((f) => <p key={f.check + f.text} class={f.severity === 'warning' ? 'warn' : 'dim'}>{f.text}{f.suggestion ? <> Perhaps <code>{f.suggestion}</code>.</> : null}</p>)}
      <h2>{sql ? 'Statement' : 'Expression'}</h2>
      {sql && <div class="box"><QueryLink expr={rule.query}><pre>{rule.query}</pre></QueryLink></div>}
      {tree && <Explain tree={tree} />}
      {!(sql && isAlert) && <h2>{isAlert ? 'What it looks at' : 'What it recorded'}</h2>}
      {!(sql && isAlert) && <Panel settings={settings} first={false} change={(next) => setSettings(next)} stretch={(range, end) => setSettings({ ...settings, range, end })} remove={null} />}
      {isAlert && <><h2>The last hour</h2><AlertHistory rule={rule.name} range={HISTORY_SECONDS} /></>}
    </>
  );
}
