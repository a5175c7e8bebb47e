// The SQL page: a statement, its answer as a table, as a chart where there is a time, and its plan.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { ApiError, call, search, type SearchResult } from '../api';
import { Chart } from '../chart/Chart';
import { paintOf, usualColoring, type Coloring } from '../chart/paint';
import { formatValue, type Unit } from '../format/numbers';
import { dateTime } from '../format/time';
import { useApi } from '../hooks';
import { gone, paused, watchSql, type Upkeep } from '../live';
import { unitOfName } from '../promql/ast';
import { EditorBox } from '../query/EditorBox';
import { SeriesTable, shortName, splitLabels } from '../query/SeriesTable';
import { go, route, setParam } from '../router';
import { recall, remember, zone } from '../settings';
import { LiveRows, isNumeric, isTime, numberOf, storeOf, textOf, type Cell, type SqlAnswer } from '../sql/answer';
import { RELATIONS, metricsOf, relationName } from '../sql/statement';
import { DataTable, download, toCsv, type Column } from '../table';
import { toast } from '../toast';
import { QueryLink } from './common';

/** Rows beyond this many are in the CSV of the server only. */
const ROWS_SHOWN = 50_000;
const HISTORY = 50;
const EVERY = [5, 30, 60];

const STARTERS: [string, string][] = [
  ['How many targets are up and down, by job', "SELECT job, count(*) AS targets, count(*) FILTER (WHERE value = 0) AS down\nFROM up GROUP BY job ORDER BY down DESC"],
  ['How scrapes did in the last 15 minutes', "SELECT date_bin('15 seconds', ts) AS t, job, avg(value) AS seconds\nFROM scrape_duration_seconds\nWHERE ts BETWEEN now() - interval '15 minutes' AND now()\nGROUP BY 1, 2"],
  ['Which labels have the most values', 'SELECT metric, name AS label, count(DISTINCT value) AS label_values, count(DISTINCT series) AS series\nFROM label_pairs GROUP BY metric, name ORDER BY label_values DESC LIMIT 20'],
  ['Metrics that no rule and no view reads', 'SELECT s.metric, count(*) AS series FROM series s\nWHERE NOT EXISTS (SELECT 1 FROM uses u WHERE u.metric = s.metric)\nGROUP BY s.metric ORDER BY series DESC LIMIT 50'],
  ['Rules by what they cost', 'SELECT "group", name, kind, health, evaluation_seconds FROM rules ORDER BY evaluation_seconds DESC LIMIT 20'],
];

interface Run {
  answer: SqlAnswer | null; error: string; warnings: string[]; seconds: number; running: boolean; statement: string;
  /** How it is kept current; "": it is not. */
  live: string;
}

const NOTHING: Run = { answer: null, error: '', warnings: [], seconds: 0, running: false, statement: '', live: '' };

function readHistory(): string[] {
  try {
    const list: unknown = JSON.parse(recall('sql') ?? '[]');
    return Array.isArray(list) ? list.filter((x): x is string => typeof x === 'string') : [];
  } catch {
    return [];
  }
}

function liveText(how: Upkeep): string {
  if (how.kind === 'plan') return 'live: updated with every sample';
  if (how.kind === 'dataflow') return `live: updated with every change${how.keeps.length === 0 ? '' : `; keeps ${how.keeps.join(', ')}`}`;
  return `live: run again every second${how.why === '' ? '' : `, because ${how.why}`}`;
}

/** Keeps a statement current. The returned function ends it. */
function follow(statement: string, setRun: (change: (old: Run) => Run) => void): () => void {
  const began = performance.now();
  let rows = new LiveRows([]);
  let live = '';
  let frame = 0;
  const show = () => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => !paused.peek() && setRun((old) => ({ ...NOTHING, answer: rows.answer(), statement, live, seconds: old.seconds || (performance.now() - began) / 1000 })));
  };
  setRun((old) => ({ ...old, seconds: 0, running: true }));
  const end = watchSql(statement, {
    started(columns, how) {
      rows = new LiveRows(columns);
      live = liveText(how);
    },
    snapshot(_, changes) {
      rows.reset(changes);
      show();
    },
    delta(_, changes) {
      rows.change(changes);
      show();
    },
    error: (error) => setRun((old) => ({ ...old, error, running: false, live: '' })),
  });
  return () => {
    cancelAnimationFrame(frame);
    end();
  };
}

/** The answer of the statement in the address; again after `every` seconds if that is not 0, or live. */
function useRun(statement: string, count: number, every: number | 'live'): [Run, () => void] {
  const [run, setRun] = useState<Run>(NOTHING);
  const abort = useRef<AbortController | null>(null);
  const ask = async () => {
    abort.current?.abort();
    const mine = new AbortController();
    abort.current = mine;
    const began = performance.now();
    setRun((old) => ({ ...old, running: true }));
    try {
      const { data, warnings } = await call<SqlAnswer>('sql', { sql: statement }, mine.signal, 'POST');
      setRun({ answer: data, error: '', warnings, seconds: (performance.now() - began) / 1000, running: false, statement, live: '' });
    } catch (e) {
      if (mine.signal.aborted && abort.current !== mine) return;
      const error = mine.signal.aborted ? 'Stopped.' : e instanceof ApiError ? e.message : String(e);
      // The old answer stays while its statement is being mended.
      setRun((old) => ({ ...old, error, warnings: [], running: false }));
    }
  };
  useEffect(() => {
    if (statement.trim() === '') {
      setRun(NOTHING);
      return undefined;
    }
    if (every === 'live') return follow(statement, setRun);
    void ask();
    const timer = every > 0 ? setInterval(() => !document.hidden && !paused.value && void ask(), every * 1000) : undefined;
    return () => {
      clearInterval(timer);
      abort.current?.abort();
    };
  }, [statement, count, every]);
  return [run, () => abort.current?.abort()];
}

export function Sql() {
  const { params } = route.value;
  const statement = params.get('q') ?? '';
  const every = params.get('every') === 'live' ? 'live' : Number(params.get('every') ?? 0) || 0;
  const [text, setText] = useState(statement);
  const [revision, setRevision] = useState(0);
  const [count, setCount] = useState(0);
  const place = useRef(-1);
  const [run, stop] = useRun(statement, count, every);
  const write = (next: string) => {
    setText(next);
    setRevision((n) => n + 1);
  };
  useEffect(() => {
    if (statement !== text) write(statement);
  }, [statement]);
  const execute = (next = text) => {
    if (next.trim() === '') return;
    remember('sql', JSON.stringify([next, ...readHistory().filter((q) => q !== next)].slice(0, HISTORY)));
    place.current = -1;
    if (next === statement) return setCount((n) => n + 1);
    const search = new URLSearchParams(location.search);
    search.set('q', next);
    search.delete('view');
    go(`/sql?${search.toString()}`);
  };
  const past = (direction: 1 | -1) => {
    const list = readHistory();
    place.current = Math.max(-1, Math.min(list.length - 1, place.current + direction));
    write(place.current < 0 ? statement : list[place.current]!);
  };
  return (
    <div onKeyDown={(e) => e.key === 'Escape' && run.running && stop()}>
      {run.running && <div class="bar" />}
      <div class="head">
        <h1>SQL</h1>
        <span class="grow" />
        <select aria-label="Ask again" value={String(every)} onChange={(e) => setParam('every', e.currentTarget.value === '0' ? '' : e.currentTarget.value)}>
          <option value="0">once</option>
          <option value="live">live</option>
          {EVERY.map((n) => <option key={n} value={n}>every {n} s</option>)}
        </select>
      </div>
      <div class="sql">
        <Relations show={execute} />
        <div>
          <section class="panel" aria-label="Statement">
            <div class="ask">
              <EditorBox language="sql" text={text} fault={run.error === '' ? null : run.error} revision={revision} change={setText} run={() => execute()} history={past} autofocus={statement === ''} />
              {run.running
                ? <button type="button" onClick={stop} title="Esc">Stop</button>
                : <button class="main" type="button" onClick={() => execute()} title="Ctrl-Enter">Run</button>}
            </div>
          </section>
          {run.error !== '' && <div class="box err scroll" role="alert" tabIndex={0}><pre class="caret">{run.error}</pre></div>}
          {run.warnings.map((w) => <div key={w} class="box warn"><pre>{w}</pre></div>)}
          {statement === '' ? <Starters run={execute} /> : run.answer && <Answer run={run} answer={run.answer} />}
        </div>
      </div>
    </div>
  );
}

function Starters({ run }: { run(statement: string): void }) {
  const recent = readHistory().slice(0, 5);
  return (
    <>
      <p class="dim">A metric is a relation with a row for each series, <code>samples.…</code> has every sample, and the server is one, too: targets, rules, series. Functions of PromQL take the column: <code>rate(value, '5m')</code>. Ctrl-Enter asks.</p>
      {recent.length > 0 && <h2>Asked before</h2>}
      {recent.map((q) => <button key={q} type="button" class="plain statement" onClick={() => run(q)}><code>{q}</code></button>)}
      <h2>Begin with</h2>
      {STARTERS.map(([title, q]) => <button key={title} type="button" class="plain statement" onClick={() => run(q)}>{title}<code>{q}</code></button>)}
    </>
  );
}

type View = 'table' | 'chart' | 'plan';

function Answer({ run, answer }: { run: Run; answer: SqlAnswer }) {
  const store = useMemo(() => storeOf(answer), [answer]);
  const wanted = route.value.params.get('view') as View | null;
  const view: View = wanted ?? (store ? 'chart' : 'table');
  const tab = (name: View, label: string, disabled = false) => (
    <button type="button" aria-pressed={view === name} disabled={disabled} title={disabled ? 'a chart needs a column of times and one of numbers' : undefined} onClick={() => setParam('view', name)}>{label}</button>
  );
  const columns = useMemo(() => columnsOf(answer), [answer, zone.value]);
  const rows = useMemo(() => answer.rows.slice(0, ROWS_SHOWN).map((cells, i) => ({ cells, i })), [answer]);
  const csv = async () => {
    if (answer.rows.length <= ROWS_SHOWN) return download('answer.csv', 'text/csv', toCsv(rows, columns));
    try {
      const response = await fetch('api/v1/sql', { method: 'POST', body: new URLSearchParams({ sql: run.statement, format: 'csv' }) });
      const text = await response.text();
      if (response.ok) download('answer.csv', 'text/csv', text);
      else toast('The server did not answer with a file');
    } catch {
      toast('The server cannot be reached');
    }
  };
  return (
    <>
      <div class="head">
        <span class="group" role="group" aria-label="View">{tab('table', 'Table')}{tab('chart', 'Chart', store === null)}{tab('plan', 'Plan')}</span>
        <span class="dim">{answer.rows.length.toLocaleString('en')} {answer.rows.length === 1 ? 'row' : 'rows'} · {formatValue(run.seconds, 'seconds', 2)}</span>
        {run.live !== '' && <span class={gone.value ? 'warn' : 'live'}>{gone.value ? 'waits for the server' : run.live}</span>}
        <span class="grow" />
        <button type="button" class="plain" onClick={() => void csv()}>CSV</button>
      </div>
      {view === 'plan' && <Plan statement={run.statement} />}
      {view === 'chart' && store && <Lines store={store} unit={unitOf(answer, run.statement)} />}
      {view !== 'plan' && !(view === 'chart' && store) && (rows.length === 0
        ? <div class="box">No rows.</div>
        : <DataTable class="stacked" rows={rows} columns={columns} rowKey={(r) => String(r.i)} caption="Rows" />)}
      {answer.rows.length > ROWS_SHOWN && view === 'table' && <p class="dim">{answer.rows.length - ROWS_SHOWN} more rows are in the CSV.</p>}
    </>
  );
}

interface RowOf { cells: Cell[]; i: number }

function columnsOf(answer: SqlAnswer): Column<RowOf>[] {
  const names = new Map<string, number>();
  return answer.columns.map((column, at) => {
    // Two columns may have one name.
    const nth = (names.get(column.name) ?? 0) + 1;
    names.set(column.name, nth);
    const name = nth === 1 ? column.name : `${column.name} (${nth})`;
    const text = (row: RowOf) => textOf(row.cells[at]);
    const base = { name, title: column.type, text };
    if (isNumeric(column)) return { ...base, numeric: true, sort: (row: RowOf) => numberOf(row.cells[at]) };
    const cell = (row: RowOf) => {
      const value = row.cells[at];
      if (value === null || value === undefined) return <span class="dim">NULL</span>;
      if (!isTime(column)) return <span title={text(row)}>{text(row)}</span>;
      const t = Date.parse(String(value)) / 1000;
      return <span title={String(value)}>{Number.isNaN(t) ? String(value) : dateTime(t, zone.value, t % 1 !== 0)}</span>;
    };
    return { ...base, cell, class: isTime(column) ? 'time' : 'cell' };
  });
}

/** What the columns of numbers measure, if all say the same: by their names, or by the metric whose value they are. */
function unitOf({ columns }: SqlAnswer, statement: string): Unit {
  const metrics = metricsOf(statement);
  const one = metrics.length === 1 ? metrics[0]! : '';
  const units = new Set(columns.filter(isNumeric).map((c) => unitOfName(c.name === 'value' ? one : c.name)));
  return units.size === 1 ? [...units][0]! : '';
}

function Lines({ store, unit }: { store: ReturnType<typeof storeOf> & object; unit: Unit }) {
  const [focus, setFocus] = useState<string | null>(null);
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [chosen, setChosen] = useState<Coloring | null>(null);
  const shown = useMemo(() => [...store.series.values()].filter((s) => !hidden.has(s.key)), [store, hidden]);
  const names = useMemo(() => splitLabels(shown.map((s) => s.labels)).names, [shown]);
  const toggle = (key: string, alone: boolean) => {
    const next = new Set(hidden);
    const others = [...store.series.keys()].filter((k) => k !== key);
    if (!alone) {
      if (!next.delete(key)) next.add(key);
      return setHidden(next);
    }
    setHidden(hidden.size === others.length && !hidden.has(key) ? new Set() : new Set(others));
  };
  const look = { unit, stacked: false, zero: false, threshold: null, liveEdge: 0, behind: false, before: null };
  const coloring = chosen ?? usualColoring(store.series.size);
  const paint = useMemo(() => paintOf(store, coloring), [store, coloring]);
  return (
    <section class="panel" aria-label="Chart">
      <Chart store={store} shown={shown} version={store.version} look={look} paint={paint} heat={false} exemplars={[]} focus={focus} setFocus={setFocus} zoom={() => undefined} name={(s) => shortName(s, names)} />
      <SeriesTable store={store} version={store.version} unit={unit} hidden={hidden} whole={false} focus={setFocus} toggle={toggle} focused={focus}
        paint={paint} before={null} compare={0} showAll={() => setHidden(new Set())} coloring={coloring} setColoring={setChosen} />
    </section>
  );
}

const PARTS: Record<string, string> = { plan: 'the same as in PromQL', read: 'read from the store', 'not a plan': 'not said by PromQL, because', run: 'run over the rows', stands: 'how it is kept current' };

/** What EXPLAIN says. */
function Plan({ statement }: { statement: string }) {
  const explain = /^\s*explain\b/i.test(statement) ? statement : `EXPLAIN ${statement}`;
  const loaded = useApi<SqlAnswer>('sql', { sql: explain });
  const lines = (loaded.data?.rows ?? []).map(([line]) => /^([^:]+): (.*)$/s.exec(textOf(line)) ?? ['', '', textOf(line)]);
  return (
    <div class="plan">
      {loaded.error && <div class="box err"><pre class="caret">{loaded.error.message}</pre></div>}
      {Object.entries(PARTS).map(([kind, title]) => {
        const own = lines.filter(([, k]) => k === kind).map(([, , text]) => text!);
        return own.length > 0 && (
          <section key={kind}>
            <h2>{title}</h2>
            {kind === 'plan' && own.map((text) => <div key={text} class="box"><QueryLink expr={text}><code class="wrap">{text}</code></QueryLink></div>)}
            {kind !== 'plan' && <div class="box scroll" tabIndex={0} role="region" aria-label={title}><pre class="caret">{own.join('\n')}</pre></div>}
          </section>
        );
      })}
    </div>
  );
}

/** What can be asked: metrics by a part of their name, and the relations of the server. */
function Relations({ show }: { show(statement: string): void }) {
  const [find, setFind] = useState('');
  const [metrics, setMetrics] = useState<SearchResult[]>([]);
  useEffect(() => {
    const abort = new AbortController();
    const timer = setTimeout(() => {
      const typed = find === '' ? {} : { 'search[]': [find], sort_by: 'score', case_sensitive: 'false' };
      search('metric_names', { ...typed, include_metadata: 'true', limit: 30 }, abort.signal).then(setMetrics, () => undefined);
    }, find === '' ? 0 : 80);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [find]);
  return (
    <details class="relations" open={innerWidth > 900}>
      <summary>Relations</summary>
      <h2>The server</h2>
      {RELATIONS.map((r) => <Relation key={r.name} name={r.name} from={r.name} about={r.about} show={show} />)}
      <h2>Metrics</h2>
      <input type="search" aria-label="Find a metric" placeholder="Find a metric" value={find} onInput={(e) => setFind(e.currentTarget.value)} />
      {metrics.map((m) => <Relation key={m.name} name={m.name} from={`metrics.${relationName(m.name)}`} about={m.help ?? ''} show={show} />)}
    </details>
  );
}

function Relation({ name, from, about, show }: { name: string; from: string; about: string; show(statement: string): void }) {
  const [open, setOpen] = useState(false);
  const loaded = useApi<SqlAnswer>(open ? 'sql' : null, { sql: `SELECT * FROM ${from} LIMIT 0` });
  return (
    <details onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary title={about}><span class="one-line">{name}</span></summary>
      {about !== '' && <p class="dim">{about}</p>}
      {loaded.error && <p class="err">{loaded.error.message}</p>}
      {loaded.data?.columns.map((c) => <div key={c.name} class="column"><span>{c.name}</span><span class="dim">{c.type}</span></div>)}
      <button type="button" onClick={() => show(`SELECT * FROM ${from} LIMIT 100`)}>Show rows</button>
    </details>
  );
}
