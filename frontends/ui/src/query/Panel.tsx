// One query: editor, tools, chart, table, explanation.
import type { ComponentChildren } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { call } from '../api';
import { Chart } from '../chart/Chart';
import { isClassic, isNative } from '../chart/heat';
import { paintOf, usualColoring } from '../chart/paint';
import type { Series } from '../chart/store';
import { shortKey } from '../format/labels';
import { formatDuration, formatValue, parseDuration } from '../format/numbers';
import { dateTime, parseTime } from '../format/time';
import { ASKED_MS, behind, gone, now, paused, withoutSocket } from '../live';
import { firstSelector, print, unitOfName } from '../promql/ast';
import { exactLink } from '../router';
import { recall, remember, zone } from '../settings';
import { download, toCsv } from '../table';
import { useFrame } from '../hooks';
import { inspect } from '../inspect';
import { NoSeries } from '../pages/common';
import { useToast } from '../toast';
import { PanelData, type Result } from './data';
import { EditorBox } from './EditorBox';
import { Explain } from './Explain';
import { Lazy } from '../lazy';
import { InstantTable } from './InstantTable';
import { SeriesTable, columnsOf, rowsOf, shortName, splitLabels } from './SeriesTable';
import { nextRange, stepOf, type Panel as Settings, type Tab } from './url';

interface Props {
  settings: Settings;
  first: boolean;
  change(next: Settings, push: boolean): void;
  /** Sets the stretch of time of all panels: they are looked at together. */
  stretch(range: number, end: number | null): void;
  remove: (() => void) | null;
}

const MakeRule = Lazy<{ expr: string }>(() => import('./MakeRule').then((m) => m.MakeRule));

const HISTORY = 50;

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
  const key = JSON.stringify([settings.expr, settings.range, settings.end, settings.step, settings.density, settings.literal, settings.live, settings.compare, settings.exemplars, run]);
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

export function Panel({ settings, first, change, stretch, remove }: Props) {
  const [text, setText] = useState(settings.expr);
  const [revision, setRevision] = useState(0);
  const [run, setRun] = useState(0);
  const [focus, setFocus] = useState<string | null>(null);
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
  }, [settings.expr]);

  const execute = (expression = text) => {
    if (expression.trim() === '') return;
    remember('history', JSON.stringify([expression, ...readHistory().filter((q) => q !== expression)].slice(0, HISTORY)));
    place.current = -1;
    if (expression !== text) write(expression);
    if (expression === settings.expr) setRun((n) => n + 1);
    else put({ expr: expression, hidden: [], only: [] }, true);
  };
  const recallQuery = (direction: 1 | -1) => {
    const list = readHistory();
    place.current = Math.max(-1, Math.min(list.length - 1, place.current + direction));
    write(place.current < 0 ? settings.expr : list[place.current]!);
  };
  const zoom = (from: number, to: number) => {
    zoomed.current.push({ range: settings.range, end: settings.end });
    const range = Math.max(to - from, 1);
    stretch(range, Math.round(to * 1000) / 1000);
  };
  const back = () => {
    const before = zoomed.current.pop();
    if (before) stretch(before.range, before.end);
  };
  const toggle = (key: string, alone: boolean) => {
    const short = shortKey(key);
    const without = (list: string[]) => list.filter((k) => k !== short);
    if (alone) return put({ hidden: [], only: settings.only.length === 1 && settings.only[0] === short ? [] : [short] });
    if (settings.only.length > 0) return put({ only: settings.only.includes(short) ? without(settings.only) : [...settings.only, short] });
    return put({ hidden: settings.hidden.includes(short) ? without(settings.hidden) : [...settings.hidden, short] });
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

  const store = result?.store;
  useEffect(() => {
    if (!first || !store) return undefined;
    const link = () => permalink(settings, store.end);
    exactLink.of = link;
    return () => {
      if (exactLink.of === link) exactLink.of = null;
    };
  }, [first, store, settings]);
  const fault = result?.error?.type === 'bad_data' ? result.error.message : null;
  return (
    <section class="panel" onKeyDown={keys} aria-label="Query" tabIndex={-1}
      onPointerDown={(e) => e.target instanceof HTMLCanvasElement && e.currentTarget.focus({ preventScroll: true })}>
      {result?.loading && <div class="bar" />}
      <div class="ask">
        <EditorBox language="promql" text={text} fault={fault} revision={revision} change={setText} run={() => execute()} history={recallQuery} autofocus={first && settings.expr === ''} />
        <button class="main" type="button" onClick={() => execute()} title="Enter">Run</button>
        {remove && <button class="plain" type="button" aria-label="Remove this query" title="Remove this query" onClick={remove}>✕</button>}
      </div>
      <Tools settings={settings} result={result} put={put} canGoBack={zoomed.current.length > 0} back={back} />
      {settings.expr === '' && <Starters run={execute} />}
      {result?.error && <div class="box err" role="alert" style={{ margin: '0 8px 8px' }}><pre>{result.error.message}</pre></div>}
      <Notes result={result} />
      {result && (result.store || result.instant) && (
        <Body settings={settings} result={result} version={version} focus={focus} setFocus={setFocus} zoom={zoom} toggle={toggle} sumBy={sumBy} put={put} execute={execute} />
      )}
      {/* The chart has its place before its first answer: what is below does not jump. */}
      {settings.expr !== '' && settings.tab === 'graph' && !result?.error && !result?.store && !result?.instant && <div class="chart" />}
    </section>
  );
}

function Notes({ result }: { result: Result | null }) {
  const notes = [...(result?.warnings ?? []).map((text) => ({ text, kind: 'warn' })), ...(result?.infos ?? []).map((text) => ({ text, kind: 'info' }))];
  return <>{notes.map(({ text, kind }) => <div key={text} class={`box ${kind}`} style={{ margin: '0 8px 8px' }}>{text}</div>)}</>;
}

interface BodyProps {
  settings: Settings; result: Result; version: number; focus: string | null;
  setFocus(key: string | null): void; zoom(from: number, to: number): void; toggle(key: string, alone: boolean): void;
  sumBy(label: string): void; put(next: Partial<Settings>): void; execute(text: string): void;
}

function Body(props: BodyProps) {
  const { settings, result, version, put } = props;
  const { store } = result;
  const count = store?.series.size ?? 0;
  const chosen = `${settings.hidden.join()};${settings.only.join()}`;
  const hidden = useMemo(() => {
    const { hidden: off, only } = settings;
    const isHidden = (key: string) => (only.length > 0 ? !only.includes(shortKey(key)) : off.includes(shortKey(key)));
    return new Set(off.length + only.length === 0 ? [] : [...(store?.series.keys() ?? [])].filter(isHidden));
  }, [store, count, chosen]);
  const shown = useMemo(() => [...(store?.series.values() ?? [])].filter((s) => !hidden.has(s.key)), [store, count, hidden]);
  const names = useMemo(() => splitLabels(shown.map((s) => s.labels)).names, [shown]);
  const coloring = settings.color === '' ? usualColoring(count) : settings.color;
  // Ranks are those of the first picture and of each new set of series: colours that change all the time say nothing.
  const paint = useMemo(() => (store ? paintOf(store, coloring) : new Map<string, number>()), [store, count, coloring, store?.rewrites]);
  if (result.instant) return <InstantTable data={result.instant} />;
  if (!store) return null;
  const heat = hasHeat(settings, shown);
  // Of histograms, what was observed is drawn, whatever is done to their counts.
  const observed = unitOfName((result.tree && (firstSelector(result.tree)?.['name'] as string | undefined)) ?? '');
  const unit = isNative(shown) ? observed : result.unit;
  const look = {
    unit: heat ? observed : unit, stacked: settings.stacked, zero: settings.zero, before: result.before,
    threshold: result.threshold ? { op: result.threshold.op, value: result.threshold.value } : null,
    liveEdge: result.live.kind === 'fixed' ? 0 : store.liveAt, behind: behind.value,
  };
  return (
    <>
      {settings.tab === 'graph' && (count === 0
        ? <div class="box" style={{ margin: '0 8px 8px' }}><Nothing result={result} put={put} settings={settings} /></div>
        : <Chart store={store} shown={shown} version={version} look={look} paint={paint} heat={heat} exemplars={result.exemplars}
          focus={props.focus} setFocus={props.setFocus} zoom={props.zoom} name={(s) => shortName(s, names)} />)}
      {settings.tab === 'explain' && result.tree && <Explain tree={result.tree} />}
      {settings.tab === 'table' && count === 0 && <div class="box" style={{ margin: '0 8px 8px' }}>Empty: no series has a value now.</div>}
      {settings.tab !== 'explain' && count > 0 && (
        <SeriesTable store={store} version={version} unit={unit} hidden={hidden} whole={settings.tab === 'table'} focus={props.setFocus} toggle={props.toggle} sumBy={props.sumBy} focused={props.focus}
          paint={paint} before={result.before} compare={settings.compare} showAll={() => put({ hidden: [], only: [] })}
          coloring={coloring} setColoring={(color) => put({ color: color === usualColoring(count) ? '' : color })} />
      )}
      <Foot {...props} />
    </>
  );
}

/** Whether the series are drawn as cells. */
function hasHeat(settings: Settings, shown: Series[]): boolean {
  if (settings.stacked || settings.heat === 'off') return false;
  return isNative(shown) || (settings.heat === 'on' && isClassic(shown));
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
  const [making, setMaking] = useState(false);
  const store = result.store!;
  const csv = () => {
    const { names } = splitLabels([...store.series.values()].map((s) => s.labels));
    const all = [...new Set([...names, ...Object.keys([...store.series.values()][0]?.labels ?? {})])];
    download('query.csv', 'text/csv', toCsv(rowsOf(store), columnsOf({ names: all, unit: result.unit, before: null, compare: 0 })));
  };
  const format = async () => {
    const { data } = await call<string>('format_query', { query: settings.expr });
    put({ expr: data });
  };
  // Without a socket no subscription has said how it is kept current.
  const isAsked = withoutSocket.value && (result.live.kind !== 'fixed' || result.live.why === '');
  const waits = gone.value && result.live.kind !== 'fixed';
  const live = waits ? 'waits for the server' : isAsked ? `asked every ${ASKED_MS / 1000} s, because no socket opens` : result.live.kind === 'live' ? 'live: updated with every sample' : result.live.kind === 'asked' ? 'live: evaluated once a second' : result.live.why;
  return (
    <div class="foot">
      <span>{store.series.size} series</span>
      <span>· step {formatDuration(store.step)}</span>
      <span>· {formatValue(result.took, 'seconds', 2)}</span>
      {live !== '' && <span class={isAsked || waits ? 'warn' : result.live.kind === 'fixed' ? '' : 'live'} title={result.live.kind === 'asked' ? result.live.why : undefined}>· {live}</span>}
      {settings.end === null && (result.live.kind === 'fixed' && !isAsked
        ? <button type="button" class="plain" onClick={() => put({ live: settings.live === 'off' ? 'auto' : 'on' })}>Make it live</button>
        : <button type="button" class="plain" onClick={() => put({ live: 'off' })}>Hold it</button>)}
      {result.threshold && !settings.literal && (
        <span>· drawn: <code>{print(result.threshold.left)}</code> <button type="button" class="plain" onClick={() => put({ literal: true })}>show only where {result.threshold.op} {result.threshold.value}</button></span>
      )}
      {settings.literal && <button type="button" class="plain" onClick={() => put({ literal: false })}>draw the left side with the threshold</button>}
      <span class="grow" />
      <button type="button" class="plain" onClick={() => setMaking(!making)} aria-expanded={making} title="Make an alert of this expression, and try it on the past">Make a rule…</button>
      <button type="button" class="plain" onClick={() => void format()}>Format</button>
      <button type="button" class="plain" onClick={csv}>CSV</button>
      <button type="button" class="plain" title="The address of exactly this picture, with absolute times" onClick={() => copy(permalink(settings, store.end), toast)}>Copy link</button>
      {making && <MakeRule expr={settings.expr} />}
    </div>
  );
}

/** The address with absolute times. */
function permalink(settings: Settings, end: number): string {
  const url = new URL(location.href);
  url.searchParams.set('g0.end_input', dateTime(settings.end ?? end, 'utc'));
  if (settings.step === null) {
    url.searchParams.set('g0.res_type', 'fixed');
    url.searchParams.set('g0.res_step', formatDuration(stepOf(settings)));
  }
  return url.href;
}

function copy(text: string, toast: (text: string) => void): void {
  navigator.clipboard?.writeText(text).then(() => toast('Link copied'), () => toast('The browser does not allow copying'));
}

const COMPARED: [number, string][] = [[0, 'no comparison'], [3600, '1 hour ago'], [86_400, '1 day ago'], [604_800, '1 week ago']];

function Tools({ settings, result, put, canGoBack, back }: { settings: Settings; result: Result | null; put(next: Partial<Settings>): void; canGoBack: boolean; back(): void }) {
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
      {settings.tab === 'graph' && <Looks settings={settings} series={[...(result?.store?.series.values() ?? [])]} put={put} />}
      {canGoBack && <Back back={back} />}
    </div>
  );
}

/** How the values are drawn. */
function Looks({ settings, series, put }: { settings: Settings; series: Series[]; put(next: Partial<Settings>): void }) {
  const native = isNative(series);
  const heat = hasHeat(settings, series);
  const other = COMPARED.some(([seconds]) => seconds === settings.compare) ? [] : [[settings.compare, `${formatDuration(settings.compare)} ago`] as [number, string]];
  return (
    <>
      <span class="group" role="group" aria-label="Drawn as">
        <button type="button" aria-pressed={!settings.stacked && !heat} onClick={() => put({ stacked: false, heat: native ? 'off' : 'auto' })}>Lines</button>
        <button type="button" aria-pressed={settings.stacked} onClick={() => put({ stacked: !settings.stacked, heat: 'auto' })}>Stack</button>
        {(native || isClassic(series)) && <button type="button" aria-pressed={heat} title="Buckets of histograms over time" onClick={() => put({ stacked: false, heat: native ? 'auto' : 'on' })}>Heat</button>}
      </span>
      <span class="group">
        <button type="button" aria-pressed={settings.zero} title="The axis begins at zero (0)" onClick={() => put({ zero: !settings.zero })}>From 0</button>
        <button type="button" aria-pressed={settings.exemplars} title="Observations that the program marked, such as traces" onClick={() => put({ exemplars: !settings.exemplars })}>Exemplars</button>
      </span>
      <select aria-label="Compare with" title="Draws the values of then dashed" value={String(settings.compare)} onChange={(e) => put({ compare: Number(e.currentTarget.value) })}>
        {[...COMPARED, ...other].map(([seconds, text]) => <option key={seconds} value={seconds}>{text}</option>)}
      </select>
    </>
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
  const [names, setNames] = useState<string[] | null>(null);
  useEffect(() => {
    const abort = new AbortController();
    call<{ seriesCountByMetricName: { name: string }[] }>('status/tsdb', { limit: 8 }, abort.signal).then(
      ({ data }) => setNames(data.seriesCountByMetricName.map((s) => s.name)),
      () => undefined,
    );
    return () => abort.abort();
  }, []);
  if (names?.length === 0) return <div style={{ margin: '0 8px 8px' }}><NoSeries /></div>;
  const starters = [...STARTERS, ...(names ?? []).map((n) => (/_(total|count)$/.test(n) ? `rate(${n}[1m])` : n)).filter((n) => !/_bucket/.test(n))];
  return (
    <>
      {recent.length > 0 && <div class="starters"><span class="dim">Asked before</span>{recent.map((q) => <button key={q} type="button" onClick={() => run(q)}>{q}</button>)}</div>}
      <div class="starters"><span class="dim">Begin with</span>{[...new Set(starters)].slice(0, 9).map((q) => <button key={q} type="button" onClick={() => run(q)}>{q}</button>)}</div>
    </>
  );
}
