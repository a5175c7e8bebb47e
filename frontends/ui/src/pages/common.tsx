// Parts that the list pages share.
import type { ComponentChildren } from 'preact';
import type { ApiError } from '../api';
import { link, type Labels } from '../format/labels';
import { clockTime } from '../format/time';
import { gone, paused } from '../live';
import { href, route, setParam } from '../router';
import { zone } from '../settings';
import { isStatement } from '../sql/language';

/** The text of a filter, kept in the address as `search`. */
export function useSearch(): [string, (text: string) => void] {
  return [route.value.params.get('search') ?? '', (text) => setParam('search', text)];
}

export function FindBox({ label }: { label: string }) {
  const [text, set] = useSearch();
  return <input class="find" type="search" aria-label={label} placeholder={`${label} ( / )`} value={text} onInput={(e) => set(e.currentTarget.value)} style={{ width: '260px' }} />;
}

/** Whether a row has all words of the filter: plain words anywhere, `name=value` as a label. */
export function matches(filter: string, text: string, labels: Labels[]): boolean {
  const lower = text.toLowerCase();
  return filter.trim().split(/\s+/).every((word) => {
    const pair = /^([^=]+)=(.*)$/.exec(word);
    if (pair && labels.some((l) => pair[1]! in l)) return labels.some((l) => (l[pair[1]!] ?? '').toLowerCase().includes(pair[2]!.toLowerCase()));
    return lower.includes(word.toLowerCase());
  });
}

/** When a list was read that nothing tells changes of, and how often it is; 0: when the page was opened. */
export function ReadAt({ of, every = 0 }: { of: { at: number }; every?: number }) {
  if (of.at === 0) return null;
  return <span class="dim">read at {clockTime(of.at, zone.value)}{every === 0 ? '' : paused.value ? ', paused' : `, every ${every / 1000} s`}</span>;
}

/** The error of a list, above what is still shown. */
export function Problem({ of }: { of: { error: ApiError | null } }) {
  // Said once for the whole page.
  if (of.error?.type === 'network' && gone.value) return null;
  return of.error ? <div class="box err" role="alert"><pre>{of.error.message}</pre></div> : null;
}

/** Labels as text: name="value". */
export function LabelList({ labels, without = [] }: { labels: Labels; without?: string[] }) {
  const names = Object.keys(labels).filter((n) => !without.includes(n)).sort();
  return <span class="label">{names.map((name, i) => <span key={name}>{i > 0 ? ', ' : ''}{name}=<b>"{labels[name]}"</b></span>)}</span>;
}

/** A text, as a link where it is an address of the web. */
export function External({ text }: { text: string }) {
  const url = link(text);
  return url === undefined ? <>{text}</> : <a href={url} rel="noopener noreferrer" target="_blank">{text}</a>;
}

/** A link to the query page. */
export function QueryLink({ expr, children, class: kind }: { expr: string; children: ComponentChildren; class?: string }) {
  return <a class={kind ?? ''} href={href(queryPath(expr))} data-page="1">{children}</a>;
}

/** The page that asks a text: that of SQL for a statement. */
export function queryPath(expr: string): string {
  if (isStatement(expr)) return `/sql?${new URLSearchParams({ q: expr, every: 'live' }).toString()}`;
  return `/query?${new URLSearchParams({ 'g0.expr': expr, 'g0.tab': '0' }).toString()}`;
}

/** A button that filters by one state, with how many there are. */
export function StateButton({ name, label, count, kind }: { name: string; label: string; count: number; kind: string }) {
  const on = route.value.params.get('state') === name;
  return (
    <button type="button" aria-pressed={on} onClick={() => setParam('state', on ? '' : name)}>
      {label}<span class={`badge ${count > 0 ? kind : ''}`}>{count}</span>
    </button>
  );
}

/** The Unix time of a time of the API; 0 for Go's zero time. */
export function unix(text: string | undefined): number {
  const t = text ? Date.parse(text) / 1000 : 0;
  return t > 0 ? t : 0;
}

/** What a page shows that counts series, while there are none. */
export function NoSeries() {
  return (
    <div class="box">
      There are no series yet: nothing has been scraped or received. <a class="plain-link" href={href('/targets')} data-page="1">Targets</a> says what is scraped,{' '}
      <a class="plain-link" href={href('/config')} data-page="1">the configuration</a> what should be.
    </div>
  );
}
