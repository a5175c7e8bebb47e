// One websocket for all live queries of the tab: docs/subscribe.md has the protocol. The socket reconnects by itself,
// and every subscription then begins again with a snapshot.
import { computed, signal } from '@preact/signals';
import { below } from './api';
import type { HistogramValue } from './types';
import type { Labels } from './format/labels';
import { server } from './settings';

/** A row of an answer. */
export interface Row { labels: Labels; value?: string; histogram?: HistogramValue }

/** What a subscription hears. Times are Unix seconds. */
export interface Listener {
  /** The subscription stands; with `standing` false it is evaluated once a second, and `why` may say why. */
  started?(standing: boolean, why: string): void;
  snapshot(t: number, rows: Row[]): void;
  /** What changed at `t`; it holds from `since` on, which may be before times that were told. */
  delta(t: number, upsert: Row[], remove: Labels[], since: number): void;
  /** The answer is complete up to `t`. */
  progress?(t: number): void;
  /** Changes of this stretch were dropped; a snapshot follows. */
  lost?(from: number, to: number): void;
  /** Evaluating failed (`final` false), or the subscription is over. */
  error?(message: string, final: boolean): void;
}

/** What a live query of this tab has heard. */
export interface Heard {
  /** A topic has its name for a query. */
  id: string; query: string; language: 'promql' | 'sql' | 'topic';
  /** Time as of which it is complete, Unix seconds; 0: not yet. */
  frontier: number;
  standing: boolean;
  messages: number;
  /** Characters of its messages. */
  size: number;
  /** How often changes were dropped because this tab was slow. */
  lost: number;
}

interface Subscription extends Heard {
  listener: Listener | SqlListener | TopicListener;
  /** The labels of the rows by their numbers: they are sent once. */
  labels: Map<number, Labels>;
}

/** A list of the server that is no query. */
export type Topic = 'alerts' | 'targets' | 'rules' | 'views' | 'queries' | 'notifications' | 'history' | 'status' | 'alertmanagers';

/** What a subscription to a topic hears. */
interface TopicListener {
  /** The list has this version now; equal versions are the same list. */
  changed(version: number): void;
  error?(message: string, final: boolean): void;
}

/** A row of a statement, and how many more equal rows there are (negative: fewer). */
export interface SqlChange { row: Record<string, string | number | boolean | null>; diff: number }

/** How the answer of a statement is kept current. */
export type Upkeep = { kind: 'plan' } | { kind: 'dataflow'; keeps: string[] } | { kind: 'again'; why: string };

/** What a subscription to a statement hears. */
export interface SqlListener {
  started?(columns: { name: string; type: string }[], how: Upkeep): void;
  snapshot(t: number, rows: SqlChange[]): void;
  delta(t: number, rows: SqlChange[]): void;
  progress?(t: number): void;
  error?(message: string, final: boolean): void;
}

/** How the connection is. */
export type Connection = 'connecting' | 'open' | 'waiting' | 'asleep';

export const connection = signal<Connection>('connecting');
/** When the next attempt is made, ms since 1970. */
export const retryAt = signal(0);
/** The time as of which everything that is watched is complete, Unix seconds; 0: nothing came yet. */
export const frontier = signal(0);
/** Whether all pictures stand still. */
export const paused = signal(false);
/** Seconds by which the clock of this machine is ahead of the server's. */
export const skew = signal(0);
/** The time at the server, every second. */
export const now = signal(Date.now() / 1000);
/** Seconds since the answers are complete. */
export const lag = computed(() => (frontier.value === 0 ? 0 : now.value - frontier.value));
/** Seconds without news after which the page says so. */
const BEHIND_SECONDS = 12;
/** Whether news are late: who only asks this is not rendered again with every second. */
export const behind = computed(() => lag.value > BEHIND_SECONDS);
/** The name by which the server lists the connection of this tab. */
export const tabName = `page ${Math.random().toString(36).slice(2, 10)}`;

/** Whether the server answers, but no socket opens, as behind some proxies: then charts ask again and again. */
export const withoutSocket = signal(false);
/** Whether the server does not answer at all: what is shown stays as it was. */
export const gone = signal(false);
/** How often charts ask without a socket, ms. */
export const ASKED_MS = 5000;
const ATTEMPTS_BEFORE_ASKING = 2;

const HIDDEN_BEFORE_SLEEP_MS = 60_000;
const SUBSCRIPTIONS_PER_SOCKET = 95;
const AGAIN_MS = 1000;

let socket: WebSocket | null = null;
let attempts = 0;
let nextId = 1;
let timer: ReturnType<typeof setTimeout> | undefined;
let sleeper: ReturnType<typeof setTimeout> | undefined;
const subscriptions = new Map<string, Subscription>();

/** Watches a query. The returned function ends it. */
export function watch(query: string, listener: Listener): () => void {
  return begin(query, 'promql', listener);
}

/** Watches a statement in SQL. The returned function ends it. */
export function watchSql(statement: string, listener: SqlListener): () => void {
  return begin(statement, 'sql', listener);
}

/** Hears when the list of a topic changes, and once at the beginning. The returned function ends it. */
export function watchTopic(topic: Topic, changed: (version: number) => void): () => void {
  return begin(topic, 'topic', { changed });
}

function begin(query: string, language: Subscription['language'], listener: Subscription['listener']): () => void {
  if (subscriptions.size >= SUBSCRIPTIONS_PER_SOCKET) {
    queueMicrotask(() => listener.error?.('too many live queries on this page', true));
    return () => undefined;
  }
  const subscription: Subscription = { id: `q${nextId++}`, query, language, listener, frontier: 0, standing: true, messages: 0, size: 0, lost: 0, labels: new Map() };
  subscriptions.set(subscription.id, subscription);
  sendSubscribe(subscription);
  return () => {
    if (!subscriptions.delete(subscription.id)) return;
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ unsubscribe: subscription.id }));
  };
}

function sendSubscribe({ id, query, language }: Subscription): void {
  const asked = { promql: { id, query, envelope: 'indexed' }, sql: { id, sql: query }, topic: { id, topic: query } };
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ subscribe: asked[language] }));
}

/** The live queries of this tab. */
export function heard(): Heard[] {
  return [...subscriptions.values()];
}

/** Opens the socket, and keeps it open while the tab is looked at. */
export function startLive(): void {
  // An agent has no live queries.
  if (!server.agent) connect();
  setInterval(() => {
    now.value = Date.now() / 1000 - skew.value;
    let least = Infinity;
    for (const s of subscriptions.values()) if (s.frontier > 0 && s.standing) least = Math.min(least, s.frontier);
    if (!paused.value && least < Infinity) frontier.value = least;
  }, 250);
  document.addEventListener('visibilitychange', () => {
    clearTimeout(sleeper);
    if (document.hidden) sleeper = setTimeout(sleep, HIDDEN_BEFORE_SLEEP_MS);
    else if (connection.value === 'asleep' && !server.agent) connect();
  });
}

function sleep(): void {
  connection.value = 'asleep';
  clearTimeout(timer);
  const old = socket;
  socket = null;
  old?.close();
}

function connect(): void {
  clearTimeout(timer);
  connection.value = 'connecting';
  const url = below('api/v1/subscribe');
  url.searchParams.set('name', tabName);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  const opened = new WebSocket(url);
  socket = opened;
  opened.onopen = () => {
    connection.value = 'open';
    withoutSocket.value = false;
    gone.value = false;
    for (const s of subscriptions.values()) sendSubscribe(s);
  };
  opened.onmessage = (event) => receive(JSON.parse(String(event.data)) as Record<string, Message>, String(event.data).length);
  opened.onclose = () => {
    if (socket === opened) reconnectLater();
  };
}

/** After 1, 2, 4 … 30 s, with some chance so that tabs do not come together. */
function reconnectLater(): void {
  socket = null;
  const seconds = Math.min(30, 2 ** attempts++) * (0.8 + 0.4 * Math.random());
  connection.value = 'waiting';
  retryAt.value = Date.now() + seconds * 1000;
  const answers = (ok: boolean) => {
    gone.value = !ok && socket?.readyState !== WebSocket.OPEN;
    withoutSocket.value = ok && socket === null && attempts >= ATTEMPTS_BEFORE_ASKING;
  };
  fetch(below('-/healthy'), { cache: 'no-store' }).then((r) => answers(r.ok), () => answers(false));
  timer = setTimeout(connect, seconds * 1000);
}

/** Tries at once. */
export function reconnectNow(): void {
  if (connection.value === 'waiting') connect();
}

interface Message {
  id?: string; t?: number; since?: number; rows?: unknown[]; columns?: { name: string; type: string }[]; class?: string; why?: string; keeps?: string[]; from?: number; to?: number;
  upsert?: [number, Value][]; new?: NewRow[]; remove?: number[]; version?: number;
  error?: string; standing?: boolean; reason?: string;
}

/** A value of a row: a histogram is an object. */
type Value = string | HistogramValue;
type NewRow = [number, Labels, Value];

function rowOf(labels: Labels, value: Value): Row {
  return typeof value === 'string' ? { labels, value } : { labels, histogram: value };
}

/** New rows, whose labels are kept under their numbers. */
function newRows(known: Map<number, Labels>, rows: NewRow[]): Row[] {
  return rows.map(([number, labels, value]) => {
    known.set(number, labels);
    return rowOf(labels, value);
  });
}

/** The rows that changed and those that are gone. */
function changesOf({ labels }: Subscription, body: Message): { upsert: Row[]; remove: Labels[] } {
  const changed = (body.upsert ?? []).flatMap(([number, value]) => (labels.has(number) ? [rowOf(labels.get(number)!, value)] : []));
  const remove = (body.remove ?? []).flatMap((number) => {
    const gone = labels.get(number);
    labels.delete(number);
    return gone ? [gone] : [];
  });
  return { upsert: [...changed, ...newRows(labels, body.new ?? [])], remove };
}

function receive(message: Record<string, Message>, size: number): void {
  const kind = Object.keys(message)[0] ?? '';
  const body = message[kind]!;
  attempts = 0;
  const subscription = subscriptions.get(body.id ?? '');
  if (!subscription) return;
  subscription.messages++;
  subscription.size += size;
  const t = body.t ?? 0;
  if (t > 0) {
    // A list is as it is until it changes: it says nothing about how far the answers are complete.
    if (subscription.language !== 'topic') subscription.frontier = t;
    // The frontier never is ahead of the server's clock: a clock of ours that is behind is noticed.
    const ahead = Date.now() / 1000 - t;
    if (ahead < skew.value || skew.value === 0) skew.value = ahead < 0 ? ahead : Math.min(skew.value, 0);
  }
  if (subscription.language === 'topic') receiveTopic(subscription, subscription.listener as TopicListener, kind, body);
  else if (subscription.language === 'sql') receiveSql(subscription, subscription.listener as SqlListener, kind, body);
  else receiveRows(subscription, subscription.listener as Listener, kind, body);
}

function upkeepOf({ class: kind, why, keeps, reason }: Message): Upkeep {
  // What may not be kept is run again, whatever it could be.
  if (reason !== undefined) return { kind: 'again', why: reason };
  if (kind === 'plan') return { kind };
  return kind === 'dataflow' ? { kind, keeps: keeps ?? [] } : { kind: 'again', why: why ?? '' };
}

function receiveSql(subscription: Subscription, listener: SqlListener, kind: string, body: Message): void {
  const rows = (body.rows ?? []) as SqlChange[];
  if (kind === 'subscribed') return listener.started?.(body.columns ?? [], upkeepOf(body));
  if (kind === 'snapshot') return listener.snapshot(body.t ?? 0, rows);
  if (kind === 'delta') return listener.delta(body.t ?? 0, rows);
  if (kind === 'progress') return listener.progress?.(body.t ?? 0);
  receiveEnd(subscription, listener, kind, body);
}

function receiveTopic(subscription: Subscription, listener: TopicListener, kind: string, body: Message): void {
  if (kind === 'changed') return listener.changed(body.version ?? 0);
  receiveEnd(subscription, listener, kind, body);
}

function receiveRows(subscription: Subscription, listener: Listener, kind: string, body: Message): void {
  const t = body.t ?? 0;
  switch (kind) {
    case 'subscribed':
      subscription.standing = body.standing !== false;
      return listener.started?.(subscription.standing, body.reason ?? '');
    case 'snapshot':
      subscription.labels.clear();
      return listener.snapshot(t, newRows(subscription.labels, (body.rows ?? []) as NewRow[]));
    case 'delta': {
      const { upsert, remove } = changesOf(subscription, body);
      return listener.delta(t, upsert, remove, body.since ?? t);
    }
    case 'progress':
      return listener.progress?.(t);
    case 'lost':
      subscription.lost++;
      return listener.lost?.(body.from ?? 0, body.to ?? 0);
    default:
      receiveEnd(subscription, listener, kind, body);
  }
}

/** Failures, and ends. */
function receiveEnd(subscription: Subscription, listener: Pick<Listener, 'error'>, kind: string, body: Message): void {
  if (kind === 'error') {
    // Without a time the request was refused.
    if (body.t === undefined) subscriptions.delete(subscription.id);
    listener.error?.(body.error ?? '', body.t === undefined);
  } else if (kind === 'unsubscribed' && body.reason === 'view_removed' && subscriptions.has(subscription.id)) {
    // What was kept current grew too large; asked again, it is evaluated once a second.
    setTimeout(() => subscriptions.has(subscription.id) && sendSubscribe(subscription), AGAIN_MS);
  } else if (kind === 'unsubscribed' && subscriptions.delete(subscription.id)) {
    listener.error?.(`the subscription ended: ${body.reason ?? ''}`, true);
  }
}

/** The newest answer of a query as a map, for pages that show a list. `changed` is called after every change. */
export function watchRows(query: string, changed: (rows: Map<string, Row>, t: number) => void, key: (labels: Labels) => string): () => void {
  const rows = new Map<string, Row>();
  const put = (row: Row) => rows.set(key(row.labels), row);
  return watch(query, {
    snapshot(t, all) {
      rows.clear();
      all.forEach(put);
      changed(rows, t);
    },
    delta(t, upsert, remove) {
      upsert.forEach(put);
      remove.forEach((labels) => rows.delete(key(labels)));
      changed(rows, t);
    },
  });
}
