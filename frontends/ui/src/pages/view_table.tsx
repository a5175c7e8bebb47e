// The table of views, and the head that it shares with the list of subscriptions.
import { formatSpan, formatValue } from '../format/numbers';
import { now } from '../live';
import { href, setParam } from '../router';
import type { Column } from '../table';
import type { View } from '../types';
import { unix } from './common';

/** How often views are asked while the server cannot tell that they changed, ms. */
export const AGAIN_MS = 1000;

export const COLUMNS: Column<View>[] = [
  { name: 'id', sort: (v) => Number(v.id.replace(/\D/g, '')), text: (v) => v.id, cell: (v) => <a href={href(`/views/${v.id}`)} data-page="1">{v.id}</a> },
  {
    name: 'name', text: (v) => v.name,
    cell: (v) => <><span class={v.health === 'err' ? 'err' : v.health === 'ok' ? 'ok' : 'warn'} title={v.health}>{v.health === 'err' ? '✖' : v.health === 'ok' ? '✔' : '◌'}</span> <a href={href(`/views/${v.id}`)} data-page="1" class="wrap">{v.name || v.plan.split('\n')[0]}</a>{v.lastError && v.health === 'err' ? <div class="err wrap">{v.lastError}</div> : null}</>,
    class: 'wrap',
  },
  { name: 'kind', text: (v) => (v.standing ? v.kind : 'scheduled'), class: 'narrow-hide' },
  { name: 'taps', title: 'who reads it now', numeric: true, sort: (v) => v.taps, text: (v) => String(v.taps) },
  { name: 'rows', numeric: true, sort: (v) => v.rows, text: (v) => String(v.rows) },
  { name: 'touched', title: 'rows that the latest tick looked at', numeric: true, class: 'narrow-hide', sort: (v) => v.rowsTouched ?? -1, text: (v) => String(v.rowsTouched ?? '') },
  { name: 'CPU', title: 'since it was installed', numeric: true, class: 'narrow-hide', sort: (v) => v.cpuSeconds ?? -1, text: (v) => String(v.cpuSeconds ?? ''), cell: (v) => (v.cpuSeconds === undefined ? '' : formatValue(v.cpuSeconds, 'seconds', 3)) },
  {
    name: 'own state', title: 'bytes that removing it would free', numeric: true, class: 'narrow-hide', sort: (v) => (v.stateBytes ? v.stateBytes.total - v.stateBytes.shared : -1), text: (v) => String(v.stateBytes ? v.stateBytes.total - v.stateBytes.shared : ''),
    cell: (v) => (v.stateBytes ? formatValue(Math.max(0, v.stateBytes.total - v.stateBytes.shared), 'bytes', 3) : ''),
  },
  { name: 'lag', title: 'since the time as of which it is complete', numeric: true, sort: (v) => -unix(v.frontier), text: (v) => v.frontier ?? '', cell: (v) => (v.frontier ? formatSpan(now.value - unix(v.frontier)) : '') },
];

export function Tabs({ subscriptions }: { subscriptions: boolean }) {
  return (
    <span class="group" role="group" aria-label="View">
      <button type="button" aria-pressed={!subscriptions} onClick={() => setParam('tab', '')}>All</button>
      <button type="button" aria-pressed={subscriptions} onClick={() => setParam('tab', 'subscriptions')}>Subscriptions</button>
    </span>
  );
}
