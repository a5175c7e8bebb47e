// Targets: those that are down first, each with its error.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { call } from '../api';
import { selector, link, type Labels } from '../format/labels';
import { formatSpan, formatValue } from '../format/numbers';
import { useApi, useFrame } from '../hooks';
import { now, paused, watch, watchRows } from '../live';
import { href, route, setParam } from '../router';
import type { Target, Targets as TargetsData } from '../types';
import { FindBox, LabelList, Problem, QueryLink, StateButton, matches, unix, useSearch } from './common';

/** How often the list is asked while the server cannot tell that it changed, ms. */
const AGAIN_MS = 5000;

/** What the last scrapes found, by job and instance. */
interface Scrapes { samples: Map<string, number>; durations: Map<string, { seconds: number; at: number }> }

function targetKey(labels: Labels): string {
  return `${labels['job']};${labels['instance']}`;
}

/** The last scrapes, told by the series that every scrape writes: the list of targets changes with their health only. */
function useScrapes(): Scrapes {
  const scrapes = useRef<Scrapes>({ samples: new Map(), durations: new Map() });
  const [, bump] = useFrame();
  useEffect(() => {
    const { samples, durations } = scrapes.current;
    const show = () => !paused.value && bump();
    const ends = [
      watchRows('scrape_samples_scraped', (rows) => {
        samples.clear();
        for (const [key, row] of rows) samples.set(key, Number(row.value));
        show();
      }, targetKey),
      watch('scrape_duration_seconds', {
        // When the scrapes of a snapshot were, the list says.
        snapshot: () => undefined,
        delta(t, upsert) {
          for (const row of upsert) durations.set(targetKey(row.labels), { seconds: Number(row.value), at: t });
          show();
        },
      }),
    ];
    return () => ends.forEach((end) => end());
  }, []);
  return scrapes.current;
}

export function Targets() {
  const loaded = useApi<TargetsData>('targets', { state: 'active' }, { topic: 'targets', every: AGAIN_MS });
  const scrapes = useScrapes();
  const [filter] = useSearch();
  const state = route.value.params.get('state') ?? route.value.params.get('health');
  const pool = route.value.params.get('scrapePool') ?? route.value.params.get('pool') ?? '';
  const all = loaded.data?.activeTargets ?? [];
  const pools = useMemo(() => [...new Set(all.map((t) => t.scrapePool))].sort(), [all]);
  const shown = all.filter((t) => (!state || t.health === state) && (pool === '' || t.scrapePool === pool)
    && matches(filter, `${t.scrapeUrl} ${t.scrapePool} ${Object.values(t.labels).join(' ')} ${t.lastError}`, [t.labels, t.discoveredLabels]));
  const down = shown.filter((t) => t.health === 'down');
  const count = (health: string) => all.filter((t) => t.health === health).length;
  return (
    <>
      <div class="head">
        <h1>Targets</h1>
        <StateButton name="down" label="Down" count={count('down')} kind="err" />
        <StateButton name="up" label="Up" count={count('up')} kind="ok" />
        {count('unknown') > 0 && <StateButton name="unknown" label="Not scraped yet" count={count('unknown')} kind="warn" />}
        <span class="grow" />
        <select aria-label="Scrape pool" value={pool} onChange={(e) => setParam('scrapePool', e.currentTarget.value)}>
          <option value="">all pools</option>
          {pools.map((name) => <option key={name} value={name}>{name}</option>)}
        </select>
        <FindBox label="Filter targets" />
      </div>
      <Problem of={loaded} />
      {loaded.data && all.length === 0 && <div class="box">No target is scraped. Targets come from <code>scrape_configs</code>; <a href={href('/service-discovery')} data-page="1">service discovery</a> shows what was found and dropped.</div>}
      {down.length > 0 && <Section name="Down" targets={down} scrapes={scrapes} down />}
      {pools.map((name) => {
        const mine = shown.filter((t) => t.scrapePool === name && t.health !== 'down');
        const total = all.filter((t) => t.scrapePool === name);
        return mine.length > 0 && <Section key={name} name={name} targets={mine} scrapes={scrapes} note={`${total.filter((t) => t.health === 'up').length} of ${total.length} up`} pool={name} />;
      })}
      {loaded.data && all.length > 0 && shown.length === 0 && <div class="box">No target has this state and this text.</div>}
    </>
  );
}

interface SectionProps { name: string; targets: Target[]; scrapes: Scrapes; down?: boolean; note?: string; pool?: string }

function Section({ name, targets, scrapes, down, note, pool }: SectionProps) {
  const [config, setConfig] = useState<string | null>(null);
  const show = () => {
    if (config !== null) return setConfig(null);
    call<{ yaml: string }>('scrape_pools/config', { scrapePool: pool! }).then(({ data }) => setConfig(data.yaml), (e: Error) => setConfig(e.message));
  };
  return (
    <section>
      <div class="group-head">
        <h2 class={down ? 'err' : ''} style={{ margin: 0 }}>{name}</h2>
        {note && <span class="dim">{note}</span>}
        {pool && <button type="button" class="plain" aria-expanded={config !== null} onClick={show}>{config === null ? 'Configuration' : 'Hide configuration'}</button>}
      </div>
      {config !== null && <div class="box"><pre>{config}</pre></div>}
      {targets.map((t) => <TargetItem key={`${t.scrapePool}${t.scrapeUrl}${JSON.stringify(t.labels)}`} target={t} scrapes={scrapes} showPool={down === true} />)}
    </section>
  );
}

function TargetItem({ target, scrapes, showPool }: { target: Target; scrapes: Scrapes; showPool: boolean }) {
  const [open, setOpen] = useState(false);
  const sign = { up: ['✔', 'ok'], down: ['✖', 'err'], unknown: ['◌', 'warn'] }[target.health]!;
  const key = targetKey(target.labels);
  const samples = scrapes.samples.get(key);
  const heard = scrapes.durations.get(key);
  const listed = unix(target.lastScrape);
  const last = Math.max(listed, heard?.at ?? 0);
  const took = heard && heard.at > listed ? heard.seconds : target.lastScrapeDuration;
  return (
    <details class="item" open={open} onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>
        <span class={sign[1]!} title={target.health}><span aria-hidden="true">{sign[0]}</span><span class="hide">{target.health}</span></span>
        <span class="name wrap">{target.scrapeUrl}</span>
        <LabelList labels={target.labels} without={showPool ? [] : ['job']} />
        <span class="grow" />
        <span class="dim num" title="since the last scrape">{last === 0 ? 'never' : `${formatSpan(now.value - last)} ago`}</span>
        <span class="dim num" title="how long the last scrape took">{formatValue(took, 'seconds', 3)}</span>
        {samples !== undefined && <span class="dim num" title="samples of the last scrape">{samples} samples</span>}
        {target.lastError !== '' && <span class="err wrap" style={{ flexBasis: '100%', paddingLeft: '24px' }}>{target.lastError}</span>}
      </summary>
      {open && <TargetDetails target={target} />}
    </details>
  );
}

function TargetDetails({ target }: { target: Target }) {
  const own = { job: target.labels['job'] ?? '', instance: target.labels['instance'] ?? '' };
  const url = link(target.scrapeUrl);
  return (
    <div class="body">
      <p class="row">
        {url && <a href={url} rel="noopener noreferrer" target="_blank">Open {target.scrapeUrl}</a>}
        <QueryLink expr={selector({ __name__: 'up', ...own })}>up</QueryLink>
        <QueryLink expr={selector({ __name__: 'scrape_duration_seconds', ...own })}>scrape duration</QueryLink>
        <QueryLink expr={selector({ __name__: 'scrape_samples_scraped', ...own })}>samples</QueryLink>
        <span class="dim">every {target.scrapeInterval}, timeout {target.scrapeTimeout}</span>
      </p>
      <dl class="kv">
        <dt>discovered</dt><dd><LabelList labels={target.discoveredLabels} /></dd>
        <dt>after relabelling</dt><dd><LabelList labels={target.labels} /></dd>
      </dl>
      <RelabelSteps pool={target.scrapePool} labels={target.discoveredLabels} />
    </div>
  );
}

/** What one relabelling rule did. */
export interface Step { rule: Record<string, unknown>; output: Record<string, string>; keep: boolean }

/** What each relabelling rule did to a target's labels. */
export function RelabelSteps({ pool, labels }: { pool: string; labels: Record<string, string> }) {
  const loaded = useApi<{ steps: Step[] | null }>('targets/relabel_steps', { scrapePool: pool, labels: JSON.stringify(labels) });
  if (loaded.error) return <p class="dim">The relabelling steps are not available: {loaded.error.message}</p>;
  const steps = loaded.data?.steps ?? [];
  if (loaded.data && steps.length === 0) return <p class="dim">The pool has no relabelling rules.</p>;
  return (
    <>
      <ol>
        {steps.map((step, i) => <li key={i}><StepLine step={step} before={i === 0 ? labels : steps[i - 1]!.output} /></li>)}
      </ol>
      {steps.length > 0 && <p><a href={href(tryPath(steps, labels))} data-page="1">Try other rules on it</a></p>}
    </>
  );
}

/** The relabel debugger with the rules that were applied to a target, and its labels. */
function tryPath(steps: Step[], labels: Labels): string {
  // JSON is YAML.
  const rules = steps.map(({ rule }) => Object.entries(rule).map(([key, value], i) => `${i === 0 ? '- ' : '  '}${key}: ${JSON.stringify(value)}`).join('\n')).join('\n');
  const text = Object.entries(labels).map(([name, value]) => `${name}=${JSON.stringify(value)}`).join('\n');
  return `/relabel?${new URLSearchParams({ rules, labels: text }).toString()}`;
}

/** One step as a difference. */
export function StepLine({ step, before }: { step: Step; before: Record<string, string> }) {
  const after = step.keep ? step.output : {};
  const changed = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((n) => before[n] !== after[n]).sort();
  const rule = Object.entries(step.rule).map(([k, v]) => `${k}: ${Array.isArray(v) ? `[${v.join(', ')}]` : String(v)}`).join('  ');
  return (
    <>
      <code class="dim">{rule}</code>
      <div>
        {!step.keep ? <span class="err">✖ dropped here</span> : changed.length === 0 ? <span class="dim">nothing changes</span> : changed.map((n) => (
          <div key={n} class="mono">
            {before[n] !== undefined && <span class="del">− {n}="{before[n]}"</span>} {after[n] !== undefined && <span class="add">+ {n}="{after[n]}"</span>}
          </div>
        ))}
      </div>
    </>
  );
}
