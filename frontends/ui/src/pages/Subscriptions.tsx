// Who reads live answers: every connection with what it hears, what it was sent and what it lost.
import { useState } from 'preact/hooks';
import { call } from '../api';
import { formatSpan, formatValue } from '../format/numbers';
import { useApi } from '../hooks';
import { heard, now, tabName, type Heard } from '../live';
import { href } from '../router';
import { server } from '../settings';
import { DataTable, type Column } from '../table';
import type { Subscriber, Subscribers, SubscriptionOf, Views as ViewsData } from '../types';
import { FindBox, Problem, QueryLink, matches, queryPath, useSearch } from './common';
import { AGAIN_MS, COLUMNS, Tabs } from './view_table';

const MINE: Column<Heard>[] = [
  {
    name: 'query', class: 'wrap', text: (h) => h.query, cell: (h) => (h.language === 'topic' ? <>the list of {h.query}</> : h.language === 'sql'
      ? <a href={href(`/sql?${new URLSearchParams({ q: h.query, every: 'live' }).toString()}`)} data-page="1"><code class="wrap">{h.query}</code></a>
      : <QueryLink expr={h.query}><code class="wrap">{h.query}</code></QueryLink>),
  },
  { name: 'kept current', text: (h) => (h.language === 'topic' ? 'when it changes' : h.standing ? 'with every sample' : 'asked once a second') },
  { name: 'messages', numeric: true, sort: (h) => h.messages, text: (h) => String(h.messages) },
  { name: 'received', numeric: true, sort: (h) => h.size, text: (h) => String(h.size), cell: (h) => formatValue(h.size, 'bytes', 3) },
  { name: 'lost', title: 'how often changes were dropped because this tab was slow', numeric: true, sort: (h) => h.lost, text: (h) => String(h.lost), cell: (h) => <span class={h.lost > 0 ? 'err' : ''}>{h.lost}</span> },
  { name: 'complete', numeric: true, class: 'narrow-hide', sort: (h) => h.frontier, text: (h) => String(h.frontier), cell: (h) => (h.frontier === 0 ? '' : `${formatSpan(now.value - h.frontier)} ago`) },
];

const TRANSPORTS: Record<string, string> = { websocket: 'websocket', sse: 'server-sent events', ndjson: 'lines of JSON' };

const HEARD: Column<SubscriptionOf>[] = [
  { name: 'query', class: 'wrap', text: (s) => s.query, cell: (s) => (s.envelope === undefined ? <>the list of {s.query}</> : <a href={href(queryPath(s.query))} data-page="1"><code class="wrap">{s.query}</code></a>) },
  { name: 'view', text: (s) => s.view ?? '', cell: (s) => (s.view === undefined ? '' : <a href={href(`/views/${s.view}`)} data-page="1">{s.view}</a>) },
  { name: 'when slow', class: 'narrow-hide', text: (s) => s.backpressure ?? '' },
  { name: 'waiting', title: 'bytes that wait for this client', numeric: true, sort: (s) => s.waitingBytes, text: (s) => String(s.waitingBytes), cell: (s) => formatValue(s.waitingBytes, 'bytes', 3) },
  { name: 'messages', numeric: true, sort: (s) => s.sent, text: (s) => String(s.sent) },
  { name: 'sent', numeric: true, sort: (s) => s.bytes, text: (s) => String(s.bytes), cell: (s) => formatValue(s.bytes, 'bytes', 3) },
  { name: 'lost', title: 'how often changes were dropped because the client was slow', numeric: true, sort: (s) => s.lost, text: (s) => String(s.lost), cell: (s) => <span class={s.lost > 0 ? 'err' : ''}>{s.lost}</span> },
];

function sum(subscriber: Subscriber, value: (one: SubscriptionOf) => number): number {
  return subscriber.subscriptions.reduce((n, one) => n + value(one), 0);
}

/** A connection; opened, its subscriptions. */
function Connection({ of, again }: { of: Subscriber; again(): void }) {
  const [asked, setAsked] = useState(false);
  const [error, setError] = useState('');
  const lost = sum(of, (s) => s.lost);
  const close = async () => {
    setAsked(false);
    try {
      await call(`subscriptions/${of.id}`, {}, undefined, 'DELETE');
    } catch (e) {
      setError(e instanceof Error ? e.message : String(e));
    }
    again();
  };
  return (
    <details class="item">
      <summary>
        <span class="name">{of.client === '' ? of.id : of.client}</span>
        {of.name === tabName ? <span class="badge info">this tab</span> : of.name !== '' && <span class="dim">{of.name}</span>}
        <span class="dim">{TRANSPORTS[of.transport] ?? of.transport}</span>
        <span class="dim">since {formatSpan(now.value - of.since)}</span>
        <span class="grow" />
        <span class="num">{of.subscriptions.length} {of.subscriptions.length === 1 ? 'subscription' : 'subscriptions'}</span>
        <span class="num dim">{formatValue(sum(of, (s) => s.bytes), 'bytes', 3)} sent</span>
        {lost > 0 && <span class="err">▲ slow: lost {lost} times</span>}
      </summary>
      <div class="body">
        <p class="row">
          {of.origin !== '' && <span class="dim">opened by a page of {of.origin}</span>}
          {!asked && <button type="button" disabled={!server.admin} title={server.admin ? 'Close this connection' : 'needs --web.enable-admin-api'} onClick={() => setAsked(true)}>Close…</button>}
          {asked && <><span>Its client may come back.</span><button type="button" class="main" onClick={() => void close()}>Close it</button><button type="button" onClick={() => setAsked(false)}>Keep it</button></>}
          {error !== '' && <span class="err" role="alert">{error}</span>}
        </p>
        {of.subscriptions.length === 0 ? <p class="dim">It hears nothing now.</p> : <DataTable class="stacked" rows={of.subscriptions} columns={HEARD} rowKey={(s) => s.id} caption={`Subscriptions of ${of.client}`} />}
      </div>
    </details>
  );
}

export function Subscriptions() {
  const loaded = useApi<Subscribers>('subscriptions', {}, { topic: 'views', every: AGAIN_MS, atMost: AGAIN_MS });
  const views = useApi<ViewsData>('views', {}, { topic: 'views', every: AGAIN_MS, atMost: AGAIN_MS });
  const [filter] = useSearch();
  void now.value;
  const mine = heard().filter((h) => matches(filter, h.query, [])).map((h) => ({ ...h }));
  const read = (views.data?.views ?? []).filter((v) => v.taps > 0 && matches(filter, `${v.id} ${v.name} ${v.plan}`, []));
  const connections = (loaded.data?.sockets ?? []).filter((s) => matches(filter, [s.client, s.name, s.origin, ...s.subscriptions.map((one) => one.query)].join(' '), []));
  const all = connections.reduce((n, s) => n + s.subscriptions.length, 0);
  return (
    <>
      <div class="head">
        <h1>Live views</h1>
        <Tabs subscriptions />
        {loaded.data && <span class="dim">{all} of {loaded.data.limits.subscriptions.toLocaleString('en')} subscriptions, by {connections.length} {connections.length === 1 ? 'connection' : 'connections'}</span>}
        <span class="grow" />
        <FindBox label="Filter queries" />
      </div>
      <Problem of={loaded} />
      <h2>Connections</h2>
      {connections.map((s) => <Connection key={s.id} of={s} again={loaded.reload} />)}
      {loaded.data && connections.length === 0 && <div class="box">Nobody subscribes.</div>}
      <h2>Of this tab</h2>
      <DataTable class="stacked" rows={mine} columns={MINE} rowKey={(h) => h.id} caption="Live queries of this tab" />
      <h2>Views that somebody reads</h2>
      {read.length === 0 ? <div class="box">None.</div> : <DataTable class="stacked" rows={read} columns={COLUMNS} rowKey={(v) => v.id} caption="Views that somebody reads" />}
      <p class="dim"><QueryLink expr="perennial_subscriptions">Subscriptions over time</QueryLink></p>
    </>
  );
}
