// One query: editor, tools, chart, table, explanation.
import type { ComponentChildren } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { call } from '../api';
import { Chart } from '../chart/Chart';
import { formatDuration, formatValue, parseDuration } from '../format/numbers';
import { dateTime, parseTime } from '../format/time';
import { lag, now, paused } from '../live';
import { print } from '../promql/ast';
import { recall, remember, zone } from '../settings';
import { download, toCsv } from '../table';
import { useFrame } from '../hooks';
import { inspect } from '../inspect';
import { useToast } from '../toast';
import { PanelData, type Result } from './data';
import { EditorBox } from './EditorBox';
import { Explain } from './Explain';
import { InstantTable } from './InstantTable';
import { SeriesTable, columnsOf, rowsOf, shortName, splitLabels } from './SeriesTable';
import { nextRange, stepOf, type Panel as Settings, type Tab } from './url';

interface Props {
  settings: Settings;
  first: boolean;
  change(next: Settings, push: boolean): void;
  remove: (() => void) | null;
}

const HISTORY = 50;
/** A frontier older than this is said to be behind. */
const BEHIND_SECONDS = 12;

function readHistory(): string[] {
  try {
    const list: unknown = JSON.parse(recall('history') ?? '[]');
    return Array.isArray(list) ? list.filter((x): x is string => typeof x === 'string') : [];
  } catch {
    return [];
  }
}

/** The values that a chart shows, by time. For tests, and for whoever opens the console of the browser. */
function shownValues(result: Result | null): { labels: Record<string, string>; values: Record<number, number> }[] {
  const store = result?.store;
  if (!store) return [];
  return [...store.series.values()].map((series) => {
    const values: Record<number, number> = {};
    for (let i = store.first; i < store.length; i++) if (!Number.isNaN(series.values[i]!)) values[store.time(i)] = series.values[i]!;
    return { labels: series.labels, values };
  });
}

/** Runs the panel's query whenever its settings change. */
function useData(settings: Settings, run: number): [Result | null, number] {
  const [version, bump] = useFrame();
  const data = useRef<PanelData | null>(null);
  const key = JSON.stringify([settings.expr, settings.range, settings.end, settings.step, settings.density, settings.literal, settings.live, run]);
  useEffect(() => {
    if (settings.expr.trim() === '') {
      data.current = null;
      bump();
      return undefined;
    }
    const started = new PanelData(settings, bump, data.current?.result ?? null);
    data.current = started;
    bump();
    return () => started.stop();
  }, [key]);
  const standing = paused.value;
  useEffect(() => {
    if (!standing) bump();
  }, [standing]);
  useEffect(() => inspect(() => shownValues(data.current?.result ?? null)), []);
  return [data.current?.result ?? null, version];
}

export function Panel({ settings, first, change, remove }: Props) {
  const [text, setText] = useState(settings.expr);
  const [revision, setRevision] = useState(0);
  const [run, setRun] = useState(0);
  const [focus, setFocus] = useState<string | null>(null);
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const zoomed = useRef<{ range: number; end: number | null }[]>([]);
  const place = useRef(-1);
  const [result, version] = useData(settings, run);
  const put = (next: Partial<Settings>, push = false) => change({ ...settings, ...next }, push);
  const write = (next: string) => {
    setText(next);
    setRevision((n) => n + 1);
  };

  useEffect(() => {
    // Back and forward change the expression from outside.
    if (settings.expr !== text) write(settings.expr);
    setHidden(new Set());
  }, [settings.expr]);

  const execute = (expression = text) => {
    if (expression.trim() === '') return;
    remember('history', JSON.stringify([expression, ...readHistory().filter((q) => q !== expression)].slice(0, HISTORY)));
    place.current = -1;
    if (expression !== text) write(expression);
    if (expression === settings.expr) setRun((n) => n + 1);
    else put({ expr: expression }, true);
  };
  const recallQuery = (direction: 1 | -1) => {
    const list = readHistory();
    place.current = Math.max(-1, Math.min(list.length - 1, place.current + direction));
    write(place.current < 0 ? settings.expr : list[place.current]!);
  };
  const zoom = (from: number, to: number) => {
    zoomed.current.push({ range: settings.range, end: settings.end });
    const range = Math.max(to - from, 1);
    put({ range, end: Math.round(to * 1000) / 1000 });
  };
  const back = () => {
    const before = zoomed.current.pop();
    if (before) put(before);
  };
  const toggle = (key: string, alone: boolean) => {
    const all = [...(result?.store?.series.keys() ?? [])];
    if (!alone) {
      const next = new Set(hidden);
      if (!next.delete(key)) next.add(key);
      return setHidden(next);
    }
    const isAlone = hidden.size === all.length - 1 && !hidden.has(key);
    setHidden(isAlone ? new Set() : new Set(all.filter((k) => k !== key)));
  };
  const sumBy = (label: string) => execute(`sum by (${label}) (${settings.expr})`);
  const keys = (event: KeyboardEvent) => {
    if ((event.target as Element).closest('input, textarea, select, .editor') || event.ctrlKey || event.metaKey || event.altKey) return;
    const actions: Record<string, () => void> = {
      '0': () => put({ zero: !settings.zero }), z: back,
      '+': () => put({ range: nextRange(settings.range, -1) }), '-': () => put({ range: nextRange(settings.range, 1) }),
      ArrowLeft: () => put({ end: (settings.end ?? now.value) - settings.range / 2 }),
      ArrowRight: () => settings.end !== null && put({ end: settings.end + settings.range / 2 > now.value ? null : settings.end + settings.range / 2 }),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  };

  const fault = result?.error?.type === 'bad_data' ? result.error.message : null;
  return (
    <section class="panel" onKeyDown={keys} aria-label="Query">
      {result?.loading && <div class="bar" />}
      <div class="ask">
        <EditorBox language="promql" text={text} fault={fault} revision={revision} change={setText} run={() => execute()} history={recallQuery} autofocus={first && settings.expr === ''} />
        <button class="main" type="button" onClick={() => execute()} title="Enter">Run</button>
        {remove && <button class="plain" type="button" aria-label="Remove this query" title="Remove this query" onClick={remove}>✕</button>}
      </div>
      <Tools settings={settings} put={put} canGoBack={zoomed.current.length > 0} back={back} />
      {settings.expr === '' && <Starters run={execute} />}
      {result?.error && <div class="box err" role="alert" style={{ margin: '0 8px 8px' }}><pre>{result.error.message}</pre></div>}
      <Notes result={result} />
      {result && (result.store || result.instant) && (
        <Body settings={settings} result={result} version={version} hidden={hidden} focus={focus} setFocus={setFocus} zoom={zoom} toggle={toggle} sumBy={sumBy} put={put} execute={execute} />
      )}
    </section>
  );
}

function Notes({ result }: { result: Result | null }) {
  const notes = [...(result?.warnings ?? []).map((text) => ({ text, kind: 'warn' })), ...(result?.infos ?? []).map((text) => ({ text, kind: 'info' }))];
  return <>{notes.map(({ text, kind }) => <div key={text} class={`box ${kind}`} style={{ margin: '0 8px 8px' }}>{text}</div>)}</>;
}

interface BodyProps {
  settings: Settings; result: Result; version: number; hidden: ReadonlySet<string>; focus: string | null;
  setFocus(key: string | null): void; zoom(from: number, to: number): void; toggle(key: string, alone: boolean): void;
  sumBy(label: string): void; put(next: Partial<Settings>): void; execute(text: string): void;
}

function Body(props: BodyProps) {
  const { settings, result, version, hidden } = props;
  const { store } = result;
  const count = store?.series.size ?? 0;
  const shown = useMemo(() => [...(store?.series.values() ?? [])].filter((s) => !hidden.has(s.key)), [store, count, hidden]);
  const names = useMemo(() => splitLabels(shown.map((s) => s.labels)).names, [shown]);
  if (result.instant) return <InstantTable data={result.instant} />;
  if (!store) return null;
  const look = {
    unit: result.unit, stacked: settings.stacked, zero: settings.zero,
    threshold: result.threshold ? { op: result.threshold.op, value: result.threshold.value } : null,
    liveEdge: result.live.kind === 'fixed' ? 0 : store.liveAt, behind: lag.value > BEHIND_SECONDS,
  };
  return (
    <>
      {settings.tab === 'graph' && (count === 0
        ? <div class="box" style={{ margin: '0 8px 8px' }}><Nothing result={result} put={props.put} settings={settings} /></div>
        : <Chart store={store} shown={shown} version={version} look={look} focus={props.focus} setFocus={props.setFocus} zoom={props.zoom} name={(s) => shortName(s, names)} />)}
      {settings.tab === 'explain' && result.tree && <Explain tree={result.tree} />}
      {settings.tab === 'table' && count === 0 && <div class="box" style={{ margin: '0 8px 8px' }}>Empty: no series has a value now.</div>}
      {settings.tab !== 'explain' && count > 0 && (
        <SeriesTable store={store} version={version} unit={result.unit} hidden={hidden} whole={settings.tab === 'table'} focus={props.setFocus} toggle={props.toggle} sumBy={props.sumBy} focused={props.focus} />
      )}
      <Foot {...props} />
    </>
  );
}

/** What to do when there is nothing to draw. */
function Nothing({ result, settings, put }: { result: Result; settings: Settings; put(next: Partial<Settings>): void }) {
  return (
    <>
      <p>No series has a value between {dateTime(result.store!.t0, zone.value)} and {dateTime(result.store!.end, zone.value)}.</p>
      <p class="row">
        <button type="button" onClick={() => put({ range: nextRange(settings.range, 1) })}>Look at {formatDuration(nextRange(settings.range, 1))}</button>
        {settings.end !== null && <button type="button" onClick={() => put({ end: null })}>Look at now</button>}
        <button type="button" onClick={() => put({ tab: 'explain' })}>Explain: which part is empty?</button>
      </p>
    </>
  );
}

function Foot({ settings, result, put }: BodyProps) {
  const toast = useToast();
  const store = result.store!;
  const csv = () => {
    const { names } = splitLabels([...store.series.values()].map((s) => s.labels));
    download('query.csv', 'text/csv', toCsv(rowsOf(store), columnsOf([...new Set([...names, ...Object.keys([...store.series.values()][0]?.labels ?? {})])], result.unit)));
  };
  const format = async () => {
    const { data } = await call<string>('format_query', { query: settings.expr });
    put({ expr: data });
  };
  const live = result.live.kind === 'live' ? 'live: updated with every sample' : result.live.kind === 'asked' ? 'live: evaluated once a second' : result.live.why;
  return (
    <div class="foot">
      <span>{store.series.size} series</span>
      <span>· step {formatDuration(store.step)}</span>
      <span>· {formatValue(result.took, 'seconds', 2)}</span>
      {live !== '' && <span class={result.live.kind === 'fixed' ? '' : 'live'}>· {live}</span>}
      {settings.end === null && (result.live.kind === 'fixed'
        ? <button type="button" class="plain" onClick={() => put({ live: settings.live === 'off' ? 'auto' : 'on' })}>Make it live</button>
        : <button type="button" class="plain" onClick={() => put({ live: 'off' })}>Hold it</button>)}
      {result.threshold && !settings.literal && (
        <span>· drawn: <code>{print(result.threshold.left)}</code> <button type="button" class="plain" onClick={() => put({ literal: true })}>show only where {result.threshold.op} {result.threshold.value}</button></span>
      )}
      {settings.literal && <button type="button" class="plain" onClick={() => put({ literal: false })}>draw the left side with the threshold</button>}
      <span class="grow" />
      <button type="button" class="plain" onClick={() => void format()}>Format</button>
      <button type="button" class="plain" onClick={csv}>CSV</button>
      <button type="button" class="plain" title="The address of exactly this picture, with absolute times" onClick={() => permalink(settings, store.end, toast)}>Copy link</button>
    </div>
  );
}

function permalink(settings: Settings, end: number, toast: (text: string) => void): void {
  const url = new URL(location.href);
  url.searchParams.set('g0.end_input', dateTime(settings.end ?? end, 'utc'));
  if (settings.step === null) {
    url.searchParams.set('g0.res_type', 'fixed');
    url.searchParams.set('g0.res_step', formatDuration(stepOf(settings)));
  }
  navigator.clipboard?.writeText(url.href).then(() => toast('Link copied'), () => toast('The browser does not allow copying'));
}

function Tools({ settings, put, canGoBack, back }: { settings: Settings; put(next: Partial<Settings>): void; canGoBack: boolean; back(): void }) {
  const tab = (name: Tab, label: string) => (
    <button type="button" aria-pressed={settings.tab === name} onClick={() => put({ tab: name })}>{label}</button>
  );
  return (
    <div class="tools">
      <span class="group" role="group" aria-label="View">{tab('graph', 'Chart')}{tab('table', 'Table')}{tab('explain', 'Explain')}</span>
      <span class="group">
        <button type="button" aria-label="Shorter range" title="Shorter range (+)" onClick={() => put({ range: nextRange(settings.range, -1) })}>−</button>
        <Field label="Range" value={formatDuration(settings.range)} submit={(text) => {
          const range = parseDuration(text);
          if (range !== null && range > 0) put({ range });
          return range !== null && range > 0;
        }} />
        <button type="button" aria-label="Longer range" title="Longer range (-)" onClick={() => put({ range: nextRange(settings.range, 1) })}>+</button>
      </span>
      <span class="group">
        <button type="button" aria-label="Earlier" title="Earlier (←)" onClick={() => put({ end: (settings.end ?? now.value) - settings.range / 2 })}>‹</button>
        <Field label="End time" class="time" placeholder="now" value={settings.end === null ? '' : dateTime(settings.end, zone.value)} submit={(text) => {
          const end = text.trim() === '' || text.trim() === 'now' ? null : parseTime(text, zone.value);
          const ok = end !== null || text.trim() === '' || text.trim() === 'now';
          if (ok) put({ end });
          return ok;
        }} />
        <button type="button" aria-label="Later" title="Later (→)" disabled={settings.end === null} onClick={() => {
          const end = (settings.end ?? 0) + settings.range / 2;
          put({ end: end >= now.value ? null : end });
        }}>›</button>
        {settings.end !== null && <button type="button" onClick={() => put({ end: null })}>now</button>}
      </span>
      <Field label="Step" placeholder={`step ${formatDuration(stepOf(settings))}`} value={settings.step === null ? '' : formatDuration(settings.step)} submit={(text) => {
        const step = text.trim() === '' ? null : parseDuration(text);
        const ok = text.trim() === '' || (step !== null && step > 0);
        if (ok) put({ step });
        return ok;
      }} />
      {settings.tab === 'graph' && (
        <span class="group">
          <button type="button" aria-pressed={settings.stacked} onClick={() => put({ stacked: !settings.stacked })}>Stack</button>
          <button type="button" aria-pressed={settings.zero} title="The axis begins at zero (0)" onClick={() => put({ zero: !settings.zero })}>From 0</button>
        </span>
      )}
      {canGoBack && <Back back={back} />}
    </div>
  );
}

function Back({ back }: { back(): void }): ComponentChildren {
  return <button type="button" title="z" onClick={back}>Zoom back</button>;
}

function Field(props: { label: string; value: string; placeholder?: string; class?: string; submit(text: string): boolean }) {
  const [text, setText] = useState(props.value);
  const [wrong, setWrong] = useState(false);
  useEffect(() => setText(props.value), [props.value]);
  const submit = () => {
    if (text !== props.value) setWrong(!props.submit(text));
    else setWrong(false);
  };
  return (
    <input class={props.class ?? ''} aria-label={props.label} title={props.label} placeholder={props.placeholder ?? ''} value={text} aria-invalid={wrong} spellcheck={false}
      style={wrong ? { borderColor: 'var(--err)' } : {}}
      onInput={(e) => setText(e.currentTarget.value)} onBlur={submit} onKeyDown={(e) => e.key === 'Enter' && submit()} />
  );
}

const STARTERS = ['up', 'scrape_duration_seconds', 'ALERTS'];

/** What to ask when nothing has been asked yet. */
function Starters({ run }: { run(text: string): void }) {
  const recent = readHistory().slice(0, 6);
  const [names, setNames] = useState<string[]>([]);
  useEffect(() => {
    const abort = new AbortController();
    call<{ seriesCountByMetricName: { name: string }[] }>('status/tsdb', { limit: 8 }, abort.signal).then(
      ({ data }) => setNames(data.seriesCountByMetricName.map((s) => s.name)),
      () => undefined,
    );
    return () => abort.abort();
  }, []);
  const starters = [...STARTERS, ...names.map((n) => (/_(total|count)$/.test(n) ? `rate(${n}[1m])` : n)).filter((n) => !/_bucket/.test(n))];
  return (
    <>
      {recent.length > 0 && <div class="starters"><span class="dim">Asked before</span>{recent.map((q) => <button key={q} type="button" onClick={() => run(q)}>{q}</button>)}</div>}
      <div class="starters"><span class="dim">Begin with</span>{[...new Set(starters)].slice(0, 9).map((q) => <button key={q} type="button" onClick={() => run(q)}>{q}</button>)}</div>
    </>
  );
}
