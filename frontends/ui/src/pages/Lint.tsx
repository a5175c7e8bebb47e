// Lint: what rules are perhaps not meant to say. Expressions are parsed by the server, and judged here.
import { useEffect, useMemo, useState } from 'preact/hooks';
import { call } from '../api';
import { useApi } from '../hooks';
import type { Node } from '../promql/ast';
import { lintRule, placeOf, selectors, seriesOf, type Finding, type FileRange, type Severity } from '../promql/lint';
import { href, route } from '../router';
import { isStatement } from '../sql/language';
import { DataTable, type Column } from '../table';
import type { Rule, RuleGroup, RuleSource, RuleSources } from '../types';
import { FindBox, Problem, QueryLink, ReadAt, StateButton, matches, useSearch } from './common';
import { rulePath } from './RuleDetail';

interface Line extends Finding { rule: Rule; group: RuleGroup; place?: FileRange | undefined }

/** Rules beyond this many are not read. */
const RULES_MAX = 1000;
/** Selectors beyond this many are not looked up. */
const SELECTORS_MAX = 200;
const AT_ONCE = 4;
/** Series that ended within this time count as there, seconds. */
const SERIES_WINDOW = 3600;

/** Runs tasks, a few at once, until they are done or the signal aborts. */
async function each<T>(list: T[], signal: AbortSignal, task: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < list.length && !signal.aborted) await task(list[next++]!);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

const SIGN: Record<Severity, [string, string]> = { error: ['err', '✖'], warning: ['warn', '▲'], note: ['dim', '·'] };
const ORDER: Severity[] = ['error', 'warning', 'note'];

const COLUMNS: Column<Line>[] = [
  { name: 'finding', sort: (l) => ORDER.indexOf(l.severity), text: (l) => `${l.severity}: ${l.check}`, cell: (l) => <span class={SIGN[l.severity][0]}>{SIGN[l.severity][1]} {l.check}</span> },
  { name: 'rule', text: (l) => l.rule.name, cell: (l) => <a class="name" href={href(rulePath(l.group, l.rule))} data-page="1">{l.rule.name}</a> },
  {
    name: 'where', sort: (l) => `${l.place?.file ?? ''}:${String(l.place?.line ?? 0).padStart(8, '0')}`, text: (l) => (l.place ? `${l.place.file}:${l.place.line}:${l.place.column}` : ''),
    cell: (l) => (l.place ? <span title={l.place.file}>{l.place.file.split('/').at(-1)}:{l.place.line}:{l.place.column}</span> : ''),
  },
  {
    name: 'what', class: 'wrap widest', text: (l) => `${l.text} ${l.suggestion ?? ''}`,
    cell: (l) => <>{l.text}{l.place && <Marked place={l.place} />}{l.suggestion ? <div class="dim">perhaps: <code>{l.suggestion}</code></div> : null}</>,
  },
  { name: 'expression', class: 'wrap expression', text: (l) => l.rule.query, cell: (l) => <QueryLink expr={l.rule.query}><code class="wrap">{l.rule.query}</code></QueryLink> },
];

/** A line of a file with what is meant marked below it, as compilers show it. */
function Marked({ place }: { place: FileRange }) {
  const blank = place.text.length - place.text.trimStart().length;
  return <pre class="dim caret" tabIndex={0}>{`${place.line} │ ${place.text.trimStart()}\n${' '.repeat(String(place.line).length + 3 + place.column - 1 - blank)}${'^'.repeat(place.length)}`}</pre>;
}

/** The text of a rule by its file, its group and its place in the group. */
function useSources(): (line: { rule: Rule; group: RuleGroup }) => RuleSource | undefined {
  const loaded = useApi<RuleSources>('rules/source');
  return useMemo(() => {
    const key = (file: string, group: string, index: number, name: string) => JSON.stringify([file, group, index, name]);
    const sources = new Map((loaded.data?.rules ?? []).map((s) => [key(s.file, s.group, s.index, s.rule), s]));
    return ({ rule, group }) => sources.get(key(group.file, group.name, group.rules.indexOf(rule), rule.name));
  }, [loaded.data]);
}

export function Lint() {
  const loaded = useApi<{ groups: RuleGroup[] }>('rules', { exclude_alerts: 'true' });
  const sourceOf = useSources();
  const [lines, setLines] = useState<Line[]>([]);
  const [done, setDone] = useState(0);
  const [filter] = useSearch();
  const state = route.value.params.get('state');
  const all = useMemo(() => (loaded.data?.groups ?? []).flatMap((group) => group.rules.map((rule) => ({ rule, group }))).slice(0, RULES_MAX), [loaded.data]);
  useEffect(() => {
    const abort = new AbortController();
    const found: Line[] = [];
    const readers = new Map<string, Set<string>>();
    const trees = new Map<Rule, Node>();
    const show = () => !abort.signal.aborted && setLines([...found]);
    const run = async () => {
      await each(all, abort.signal, async ({ rule, group }) => {
        // Of a statement in SQL only its health is judged.
        const tree = isStatement(rule.query) ? null : await call<Node>('parse_query', { query: rule.query }, abort.signal).then((a) => a.data, () => null);
        if (tree) trees.set(rule, tree);
        found.push(...lintRule(rule, tree).map((f) => ({ ...f, rule, group })));
        for (const one of tree ? selectors(tree) : []) readers.set(String(one['name'] ?? ''), (readers.get(String(one['name'] ?? '')) ?? new Set()).add(rule.name));
        setDone((n) => n + 1);
      });
      show();
      for (const { rule, group } of all) {
        const isRead = [...readers].some(([name, by]) => name === rule.name && [...by].some((reader) => reader !== rule.name || by.size > 1));
        if (rule.type === 'recording' && !isRead) found.push({ severity: 'note', check: 'not read here', text: `No rule reads ${rule.name}. Dashboards may.`, words: `record: ${rule.name}`, rule, group });
      }
      show();
      const wanted = new Map<string, { rule: Rule; group: RuleGroup }>();
      for (const { rule, group } of all) for (const one of trees.has(rule) ? selectors(trees.get(rule)!) : []) wanted.set(seriesOf(one), wanted.get(seriesOf(one)) ?? { rule, group });
      const start = Date.now() / 1000 - SERIES_WINDOW;
      await each([...wanted].slice(0, SELECTORS_MAX), abort.signal, async ([selector, at]) => {
        const series = await call<unknown[]>('series', { 'match[]': [selector], start, limit: 1 }, abort.signal).then((a) => a.data.length, () => 1);
        if (series === 0) found.push({ severity: 'warning', check: 'no series', text: `No series matched ${selector} in the last hour.`, words: /^[\w:]+/.exec(selector)?.[0] ?? selector, ...at });
      });
      show();
    };
    setDone(0);
    setLines([]);
    void run();
    return () => abort.abort();
  }, [all]);
  const count = (severity: Severity) => lines.filter((l) => l.severity === severity).length;
  const shown = useMemo(() => lines.filter((l) => (!state || l.severity === state) && matches(filter, `${l.check} ${l.text} ${l.rule.name} ${l.group.name} ${l.group.file}`, [])).map((l) => {
    const source = sourceOf(l);
    return { ...l, place: source && placeOf(source, l.words) };
  }), [lines, state, filter, sourceOf]);
  return (
    <>
      <div class="head">
        <h1>Lint</h1>
        <StateButton name="error" label="Broken" count={count('error')} kind="err" />
        <StateButton name="warning" label="Warnings" count={count('warning')} kind="warn" />
        <StateButton name="note" label="Notes" count={count('note')} kind="" />
        <span class="dim">{Math.min(done, all.length)} of {all.length} rules read</span>
        <ReadAt of={loaded} />
        <button type="button" onClick={loaded.reload}>Read again</button>
        <span class="grow" />
        <FindBox label="Filter findings" />
      </div>
      <Problem of={loaded} />
      {loaded.data && all.length === 0 && <div class="box">There are no rules to read.</div>}
      {all.length > 0 && done >= all.length && lines.length === 0 && <div class="box">Nothing to say about {all.length} rules.</div>}
      {shown.length > 0 && <DataTable class="stacked" rows={shown} columns={COLUMNS} rowKey={(l) => `${l.group.file}${l.group.name}${l.rule.name}${l.check}${l.text}`} sorted={0} caption="Findings" />}
    </>
  );
}
