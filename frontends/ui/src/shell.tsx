// What all pages have: the head with navigation, counts and the clock; keys; the list of pages.
import { effect } from '@preact/signals';
import type { ComponentChildren, ComponentType } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { formatSpan } from './format/numbers';
import { clockTime, zoneName } from './format/time';
import { ASKED_MS, behind, connection, frontier, gone, lag, now, paused, reconnectNow, retryAt, watch, withoutSocket } from './live';
import { awaited } from './hooks';
import { Lazy } from './lazy';
import { Palette, openPalette } from './palette';
import { Query } from './pages/Query';
import { exactLink, go, href, route } from './router';
import { HOME, server, theme, toggleDensity, toggleTheme, toggleZone, zone } from './settings';
import { Toast, toast } from './toast';
import { Starting } from './starting';

/** A page of the application. */
export interface Page {
  path: string;
  name: string;
  /** The key after `g` that leads there. */
  key?: string;
  /** Whether it stands in the head; the others are in the menu. */
  main?: boolean;
  /** Whether one can type at once; other pages are shown when they have what they ask for first. */
  atOnce?: boolean;
  component: ComponentType;
}

const ALL: Page[] = [
  { path: '/agent', name: 'Agent', main: true, component: Lazy(() => import('./pages/Agent').then((m) => m.Agent)) },
  { path: '/query', name: 'Query', key: 'q', main: true, atOnce: true, component: Query },
  { path: '/alerts', name: 'Alerts', key: 'a', main: true, component: Lazy(() => import('./pages/Alerts').then((m) => m.Alerts)) },
  { path: '/targets', name: 'Targets', key: 't', main: true, component: Lazy(() => import('./pages/Targets').then((m) => m.Targets)) },
  { path: '/rules', name: 'Rules', key: 'r', main: true, component: Lazy(() => import('./pages/Rules').then((m) => m.Rules)) },
  { path: '/views', name: 'Live views', key: 'v', main: true, component: Lazy(() => import('./pages/Views').then((m) => m.Views)) },
  { path: '/sql', name: 'SQL', key: 'e', main: true, atOnce: true, component: Lazy(() => import('./pages/Sql').then((m) => m.Sql)) },
  { path: '/service-discovery', name: 'Service discovery', key: 'd', component: Lazy(() => import('./pages/Discovery').then((m) => m.Discovery)) },
  { path: '/alerts/history', name: 'Alert history', key: 'h', component: Lazy(() => import('./pages/History').then((m) => m.History)) },
  { path: '/cardinality', name: 'Cardinality', key: 'c', component: Lazy(() => import('./pages/Cardinality').then((m) => m.Cardinality)) },
  { path: '/queries', name: 'Queries', key: 'w', component: Lazy(() => import('./pages/Queries').then((m) => m.Queries)) },
  { path: '/lint', name: 'Lint', key: 'l', component: Lazy(() => import('./pages/Lint').then((m) => m.Lint)) },
  { path: '/relabel', name: 'Relabel debugger', component: Lazy(() => import('./pages/Relabel').then((m) => m.Relabel)) },
  { path: '/tsdb-status', name: 'TSDB status', component: Lazy(() => import('./pages/Tsdb').then((m) => m.Tsdb)) },
  { path: '/status', name: 'Status', key: 's', component: Lazy(() => import('./pages/Status').then((m) => m.Status)) },
  { path: '/config', name: 'Configuration', component: Lazy(() => import('./pages/Status').then((m) => m.Config)) },
  { path: '/flags', name: 'Flags', component: Lazy(() => import('./pages/Status').then((m) => m.Flags)) },
  { path: '/alertmanager-discovery', name: 'Alertmanagers', component: Lazy(() => import('./pages/Status').then((m) => m.Alertmanagers)) },
];
/** What an agent has. */
const OF_AGENTS = ['/agent', '/targets', '/service-discovery', '/relabel', '/status', '/config', '/flags'];

/** The pages, in the order of the navigation. */
export const PAGES = ALL.filter((p) => (server.agent ? OF_AGENTS.includes(p.path) : p.path !== '/agent'));

export function Shell() {
  const page = PAGES.find((p) => p.path === route.value.path || (p.path === '/views' && route.value.path.startsWith('/views/')));
  const [help, setHelp] = useState(false);
  const main = useRef<HTMLElement>(null);
  useKeys(() => setHelp(true));
  useEffect(() => {
    document.title = page ? `${page.name} · ${server.title}` : server.title;
  }, [page?.name]);
  const Shown = page?.component;
  return (
    <>
      <a class="skip" href="#main" onClick={(e) => {
        e.preventDefault();
        main.current?.focus();
      }}>To the content</a>
      <Head current={page} />
      <main id="main" ref={main} tabIndex={-1}>
        <Starting />
        {Shown ? <Whole key={placeOf()} atOnce={page.atOnce === true}><Shown /></Whole> : <Missing />}
      </main>
      <Gone />
      <Palette />
      <Toast />
      {help && <Help close={() => setHelp(false)} />}
    </>
  );
}

/** What a page is about: another one is another picture, which has to come first. */
function placeOf(): string {
  const { path, params } = route.value;
  return path === '/rules' ? `${path} ${params.get('rule') ?? ''}` : path;
}

/** How long a page may wait for its first answers until it is shown with what there is, ms. */
const WHOLE_MS = 1000;
/** How long nothing is waited for until a page is whole: what came may make it ask for more, ms. */
const CALM_MS = 20;

/** A page, shown when its first answers have come: parts that come one after the other would move each other. */
function Whole({ atOnce, children }: { atOnce: boolean; children: ComponentChildren }) {
  const [whole, setWhole] = useState(atOnce);
  useEffect(() => {
    if (atOnce) return undefined;
    const show = () => setWhole(true);
    const latest = setTimeout(show, WHOLE_MS);
    let calm: ReturnType<typeof setTimeout> | undefined;
    const end = effect(() => {
      clearTimeout(calm);
      if (awaited.value === 0) calm = setTimeout(show, CALM_MS);
    });
    return () => {
      end();
      clearTimeout(latest);
      clearTimeout(calm);
    };
  }, []);
  return <div class={whole ? '' : 'part'}>{children}</div>;
}

function Missing() {
  return (
    <div class="box">
      <h1>There is no page here</h1>
      <p>Nothing is at <code>{route.value.path}</code>. <a href={href(HOME)} data-page="1">Go to the first page</a>, or press <kbd>Ctrl</kbd> <kbd>K</kbd>.</p>
    </div>
  );
}

function Head({ current }: { current: Page | undefined }) {
  // null: not known yet.
  const [alerts, setAlerts] = useState<Counts | null>(null);
  const [down, setDown] = useState<Counts | null>(null);
  // An agent answers no queries.
  useEffect(() => (server.agent ? undefined : watchCounts('count by (alertstate) (ALERTS)', 'alertstate', setAlerts)), []);
  useEffect(() => (server.agent ? undefined : watchCounts('count(up == 0)', '', setDown)), []);
  const menu = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    if (menu.current) menu.current.open = false;
  }, [route.value]);
  const badge = (path: string) => {
    if (server.agent) return null;
    if (path === '/alerts' && alerts?.['pending'] && !alerts['firing']) return <CountBadge kind="warn" title="alerts that are pending" count={alerts['pending']} />;
    if (path === '/alerts') return <CountBadge kind="err" title="alerts that fire" count={alerts && (alerts['firing'] ?? 0)} />;
    if (path === '/targets') return <CountBadge kind="warn" title="targets that are down" count={down && (down[''] ?? 0)} />;
    return null;
  };
  const link = (p: Page) => (
    <a key={p.path} href={href(p.path)} data-page="1" aria-current={p === current ? 'page' : undefined} class={badge(p.path) ? 'always' : ''}>{p.name}{badge(p.path)}</a>
  );
  const others = PAGES.filter((p) => !p.main);
  return (
    <header>
      <a class="brand" href={href(HOME)} data-page="1" aria-label="Start"><img src="favicon.svg" alt="" /><span>Perennial</span></a>
      <nav aria-label="Pages">
        {PAGES.filter((p) => p.main).map(link)}
        {current && !current.main && link(current)}
        <details ref={menu}>
          <summary>More ▾</summary>
          <div class="menu">
            {PAGES.filter((p) => p.main).map((p) => <a key={p.path} class="phone always" href={href(p.path)} data-page="1">{p.name}</a>)}
            <button type="button" class="phone plain" onClick={toggleTheme}>Light or dark</button>
            <button type="button" class="phone plain" onClick={toggleZone}>UTC or local time</button>
            {others.map((p) => <a key={p.path} class="always" href={href(p.path)} data-page="1">{p.name}</a>)}
            {server.consoles && <a class="always" href={href(server.consoles)}>Consoles</a>}
          </div>
        </details>
      </nav>
      <span class="grow" />
      <button class="plain wide" type="button" onClick={openPalette} title="Find pages, metrics, rules and targets (Ctrl-K)">⌕ <kbd>Ctrl K</kbd></button>
      <button class="plain wide" type="button" onClick={toggleZone} title="UTC or local time (u)">{zoneName(now.value, zone.value)}</button>
      <button class="plain wide" type="button" onClick={toggleTheme} title="Light or dark" aria-label={`Switch to the ${theme.value === 'dark' ? 'light' : 'dark'} theme`}>◐</button>
      {!server.agent && <Clock />}
    </header>
  );
}

/** A number in the head. It has its place from the beginning: what stands beside it must not move under the pointer. */
function CountBadge({ kind, title, count }: { kind: string; title: string; count: number | null }) {
  return <span class={`badge count ${count ? kind : ''}`} title={title} style={count === null ? { visibility: 'hidden' } : {}}>{count ?? 0}</span>;
}

type Counts = Record<string, number>;

/** The rows of a counting query by the value of one label. */
function watchCounts(query: string, label: string, set: (counts: Counts) => void): () => void {
  const counts: Counts = {};
  const put = (rows: { labels: Record<string, string>; value?: string }[]) => rows.forEach((r) => (counts[r.labels[label] ?? ''] = Number(r.value)));
  const show = () => !paused.value && set({ ...counts });
  return watch(query, {
    snapshot(_, rows) {
      for (const key of Object.keys(counts)) delete counts[key];
      put(rows);
      show();
    },
    delta(_, upsert, remove) {
      remove.forEach((labels) => delete counts[labels[label] ?? '']);
      put(upsert);
      show();
    },
  });
}

/** As of when everything on the page is complete. Pressing it stops the pictures. */
function Clock() {
  const at = frontier.value === 0 ? '…' : clockTime(frontier.value, zone.value);
  const state = paused.value ? 'paused' : withoutSocket.value && connection.value !== 'open' ? 'asked' : connection.value === 'open' && behind.value ? 'behind' : connection.value;
  const words: Record<string, [string, string]> = {
    paused: ['warn', at],
    behind: ['warn', `${formatSpan(lag.value)} behind`],
    open: ['live', at],
    asked: ['warn', `every ${ASKED_MS / 1000} s`],
    connecting: ['dim', 'connecting'],
    waiting: ['err', `offline, again in ${Math.max(0, Math.ceil((retryAt.value - Date.now()) / 1000))} s`],
    asleep: ['dim', 'asleep'],
  };
  const [kind, text] = words[state] ?? ['dim', state];
  void now.value;
  const press = () => {
    if (connection.value === 'waiting') reconnectNow();
    else paused.value = !paused.value;
  };
  return (
    <button class={`plain clock ${kind}`} type="button" onClick={press} aria-pressed={paused.value}
      title={state === 'asked' ? 'The server answers, but no socket to it opens: a proxy may refuse it. What is shown is asked again and again.' : paused.value ? 'Go on (Space)' : 'Everything on this page is complete up to this time. Press to pause (Space).'}>
      <span class={`dot ${state === 'open' ? '' : 'hollow'}`} />
      {(state === 'open' || state === 'paused') && <span class="word">{state === 'open' ? 'live ' : 'paused '}</span>}{text}{state === 'open' && <span class="word"> ❚❚</span>}
    </button>
  );
}

/** Said on every page while the server does not answer. It lies over the page: what is there does not move. */
function Gone() {
  if (!gone.value) return null;
  void now.value;
  const seconds = Math.max(0, Math.ceil((retryAt.value - Date.now()) / 1000));
  return (
    <div class="box err gone" role="status">
      The server cannot be reached.{frontier.value > 0 && <> What is shown is as of {clockTime(frontier.value, zone.value)}.</>}
      {' '}<button type="button" onClick={reconnectNow} disabled={connection.value !== 'waiting'}>{connection.value === 'waiting' ? `Again in ${seconds} s` : 'Tries now'}</button>
    </div>
  );
}

/** Keys that work on every page, outside of inputs. */
function useKeys(help: () => void): void {
  useEffect(() => {
    let g = 0;
    const press = (event: KeyboardEvent) => {
      if ((event.ctrlKey || event.metaKey) && event.key === 'k') {
        event.preventDefault();
        return openPalette();
      }
      const target = event.composedPath()[0] as Element;
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest('input, textarea, select, [contenteditable]')) return;
      if (Date.now() - g < 1000) {
        g = 0;
        const page = PAGES.find((p) => p.key === event.key);
        if (page) {
          event.preventDefault();
          go(page.path);
        }
        return;
      }
      const actions: Record<string, () => void> = {
        g: () => (g = Date.now()), u: toggleZone, d: toggleDensity, '?': help,
        '/': () => document.querySelector<HTMLInputElement>('input.find')?.focus(),
        y: () => navigator.clipboard?.writeText(exactLink.of?.() ?? location.href).then(() => toast('Link copied'), () => undefined),
        ' ': () => (paused.value = !paused.value),
      };
      const onButton = event.key === ' ' && target.closest('button, a, summary, [tabindex="0"]');
      const action = onButton ? undefined : actions[event.key];
      if (!action) return;
      event.preventDefault();
      action();
    };
    addEventListener('keydown', press);
    return () => removeEventListener('keydown', press);
  }, []);
}

const KEYS: [string, string][] = [
  ['Ctrl K', 'find a page, metric, rule or target'], ['Space', 'pause or go on'], ['/', 'filter'], ['u', 'UTC or local time'], ['d', 'dense or relaxed rows'], ['y', 'copy the link of exactly this picture'],
  ['Enter', 'run the query (SQL: Ctrl Enter)'], ['Shift Enter', 'new line in the editor'], ['Alt ↑ ↓', 'queries asked before'], ['+ −', 'shorter or longer range'], ['← →', 'half a range earlier or later'],
  ['0', 'axis from zero'], ['drag', 'zoom into a stretch of time; with Shift into values, too'], ['z', 'zoom back'], ['?', 'this list'],
];

function Help({ close }: { close(): void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} onClose={close} aria-label="Keys">
      <h1>Keys</h1>
      <table>
        <tbody>
          {KEYS.map(([key, text]) => <tr key={key}><td>{key.split(' ').map((k) => <kbd key={k}>{k}</kbd>)}</td><td>{text}</td></tr>)}
          {PAGES.filter((p) => p.key).map((p) => <tr key={p.path}><td><kbd>g</kbd><kbd>{p.key}</kbd></td><td>{p.name}</td></tr>)}
        </tbody>
      </table>
      <p><button type="button" onClick={() => dialog.current?.close()}>Close</button></p>
    </dialog>
  );
}
