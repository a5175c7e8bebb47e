// Ctrl-K: pages, metrics, rules and targets by a part of their name.
import { signal } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import { call, search } from './api';
import { isPlainMetric, quote } from './format/labels';
import { go } from './router';
import { PAGES } from './shell';
import type { RuleGroup, Targets } from './types';

const open = signal(false);

/** Opens the palette. */
export function openPalette(): void {
  open.value = true;
}

interface Entry { kind: string; name: string; more: string; path: string }

const PAUSE_MS = 80;
const EACH = 8;

export function Palette() {
  return open.value ? <Opened /> : null;
}

function queryPath(expression: string): string {
  return `/query?${new URLSearchParams({ 'g0.expr': expression, 'g0.tab': '0' }).toString()}`;
}

async function find(text: string, signal: AbortSignal, known: { rules: RuleGroup[]; targets: Targets | null }): Promise<Entry[]> {
  const like = (name: string) => name.toLowerCase().includes(text.toLowerCase());
  const pages = PAGES.filter((p) => like(p.name)).map((p) => ({ kind: 'page', name: p.name, more: p.key ? `g ${p.key}` : '', path: p.path }));
  const rules = known.rules.flatMap((g) => g.rules.map((r) => ({ r, g }))).filter(({ r }) => text !== '' && like(r.name)).slice(0, EACH)
    .map(({ r, g }) => ({ kind: r.type === 'alerting' ? 'alert' : 'rule', name: r.name, more: g.name, path: `/${r.type === 'alerting' ? 'alerts' : 'rules'}?search=${encodeURIComponent(r.name)}` }));
  const targets = (known.targets?.activeTargets ?? []).filter((t) => text !== '' && like(t.scrapeUrl)).slice(0, EACH)
    .map((t) => ({ kind: 'target', name: t.scrapeUrl, more: t.scrapePool, path: `/targets?search=${encodeURIComponent(t.scrapeUrl)}` }));
  if (text === '') return pages;
  let metrics: Entry[] = [];
  try {
    const found = await search('metric_names', { 'search[]': [text], sort_by: 'score', case_sensitive: 'false', include_metadata: 'true', limit: EACH }, signal);
    metrics = found.map((m) => ({ kind: 'metric', name: m.name, more: m.help ?? '', path: queryPath(isPlainMetric(m.name) ? m.name : `{${quote(m.name)}}`) }));
  } catch {
    // Without the search the pages and rules are still found.
  }
  return [...pages, ...metrics, ...rules, ...targets];
}

function Opened() {
  const dialog = useRef<HTMLDialogElement>(null);
  const [text, setText] = useState('');
  const [entries, setEntries] = useState<Entry[]>([]);
  const [at, setAt] = useState(0);
  const known = useRef<{ rules: RuleGroup[]; targets: Targets | null }>({ rules: [], targets: null });
  useEffect(() => {
    dialog.current?.showModal();
    call<{ groups: RuleGroup[] }>('rules', { exclude_alerts: 'true' }).then(({ data }) => (known.current.rules = data.groups), () => undefined);
    call<Targets>('targets', { state: 'active' }).then(({ data }) => (known.current.targets = data), () => undefined);
  }, []);
  useEffect(() => {
    const abort = new AbortController();
    const timer = setTimeout(() => {
      find(text.trim(), abort.signal, known.current).then((found) => {
        if (abort.signal.aborted) return;
        setEntries(found);
        setAt(0);
      }, () => undefined);
    }, text === '' ? 0 : PAUSE_MS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [text]);
  const close = () => dialog.current?.close();
  const choose = (entry: Entry | undefined) => {
    if (!entry) return;
    close();
    go(entry.path);
  };
  const key = (event: KeyboardEvent) => {
    if (event.key === 'ArrowDown') setAt((n) => Math.min(n + 1, entries.length - 1));
    else if (event.key === 'ArrowUp') setAt((n) => Math.max(n - 1, 0));
    else if (event.key === 'Enter') choose(entries[at]);
    else return;
    event.preventDefault();
  };
  return (
    <dialog ref={dialog} class="palette" aria-label="Find" onClose={() => (open.value = false)} onClick={(e) => e.target === dialog.current && close()}>
      <input role="combobox" aria-expanded="true" aria-controls="found" aria-label="Find a page, metric, rule or target" placeholder="Page, metric, rule or target" value={text}
        aria-activedescendant={entries[at] ? `found-${at}` : undefined} onInput={(e) => setText(e.currentTarget.value)} onKeyDown={key} />
      <div role="listbox" id="found" aria-label="Found">
        {entries.map((entry, i) => (
          <div key={`${entry.kind}${entry.name}${entry.path}`} id={`found-${i}`} role="option" aria-selected={i === at} onMouseEnter={() => setAt(i)} onClick={() => choose(entry)}>
            <span class="dim">{entry.kind}</span><span class="grow one-line">{entry.name}</span><span class="dim one-line" style={{ maxWidth: '45%' }}>{entry.more}</span>
          </div>
        ))}
      </div>
    </dialog>
  );
}
