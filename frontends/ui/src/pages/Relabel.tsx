// The relabel debugger: rules and labels as text, what each rule does as a difference, while one types.
import { useEffect, useState } from 'preact/hooks';
import { ApiError, call } from '../api';
import { useApi } from '../hooks';
import type { Labels } from '../format/labels';
import { replace, route } from '../router';
import { remember, recall } from '../settings';
import type { Targets } from '../types';
import { LabelList } from './common';
import { StepLine, type Step } from './Targets';

const PAUSE_MS = 200;
/** Longer texts are not in the address. */
const ADDRESS_MAX = 6000;
const RULES = `- source_labels: [__address__]
  regex: '(.*):.*'
  target_label: host
- action: labeldrop
  regex: __meta_.*
`;
const LABELS = `__address__="127.0.0.1:9100"
job="node"`;

/** The labels that a text lists, as name="value" or name: value, one a line. */
export function parseLabels(text: string): Labels {
  const labels: Labels = {};
  for (const line of text.split('\n')) {
    const match = /^\s*("?)([^"=:\s]+)\1\s*[=:]\s*(.*?)\s*,?\s*$/.exec(line);
    if (!match) continue;
    const value = match[3]!;
    labels[match[2]!] = /^".*"$/.test(value) ? (safeJson(value) ?? value.slice(1, -1)) : value;
  }
  return labels;
}

function safeJson(text: string): string | null {
  try {
    return JSON.parse(text) as string;
  } catch {
    return null;
  }
}

export function Relabel() {
  const { params } = route.peek();
  const [rules, setRules] = useState(params.get('rules') ?? recall('relabel.rules') ?? RULES);
  const [text, setText] = useState(params.get('labels') ?? recall('relabel.labels') ?? LABELS);
  // The steps are shown with the labels that they were made of: those of the text may be newer.
  const [answer, setAnswer] = useState<{ steps: Step[]; labels: Labels; error: string }>({ steps: [], labels: {}, error: '' });
  const targets = useApi<Targets>('targets');
  const labels = parseLabels(text);
  useEffect(() => {
    remember('relabel.rules', rules);
    remember('relabel.labels', text);
    // A colleague who gets the address sees the same.
    const own = new URLSearchParams({ rules, labels: text }).toString();
    if (own.length <= ADDRESS_MAX) replace(`/relabel?${own}`);
    const abort = new AbortController();
    const timer = setTimeout(() => {
      call<{ steps: Step[] }>('relabel', { rules, labels: JSON.stringify(labels) }, abort.signal, 'POST').then(
        ({ data }) => setAnswer({ steps: data.steps, labels, error: '' }),
        (e: unknown) => abort.signal.aborted || setAnswer({ steps: [], labels, error: e instanceof ApiError ? e.message : String(e) }),
      );
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [rules, text]);
  const known = [...(targets.data?.activeTargets ?? []), ...(targets.data?.droppedTargets ?? [])];
  const last = answer.steps.at(-1);
  const result = answer.steps.length === 0 ? answer.labels : last!.output;
  return (
    <>
      <div class="head">
        <h1>Relabel debugger</h1>
        <span class="grow" />
        <select aria-label="Labels of a target" style={{ width: '200px' }} value="" onChange={(e) => {
          const found = known[Number(e.currentTarget.value)]?.discoveredLabels;
          if (found) setText(Object.entries(found).map(([n, v]) => `${n}=${JSON.stringify(v)}`).join('\n'));
        }}>
          <option value="">labels of a target…</option>
          {known.map((t, i) => <option key={i} value={i}>{t.scrapePool}: {t.discoveredLabels['__address__']}</option>)}
        </select>
      </div>
      <div class="two">
        <label>Rules, as in <code>relabel_configs</code><textarea spellcheck={false} value={rules} onInput={(e) => setRules(e.currentTarget.value)} /></label>
        <label>Labels<textarea spellcheck={false} value={text} onInput={(e) => setText(e.currentTarget.value)} /></label>
      </div>
      {answer.error !== '' && <div class="box err" role="alert"><pre>{answer.error}</pre></div>}
      {answer.error === '' && (
        <>
          <h2>Steps</h2>
          <ol>{answer.steps.map((step, i) => <li key={i}><StepLine step={step} before={i === 0 ? answer.labels : answer.steps[i - 1]!.output} /></li>)}</ol>
          <h2>Result</h2>
          {last && !last.keep ? <p class="err">✖ dropped by rule {answer.steps.length}</p> : <p><span class="ok">✔ kept</span> <LabelList labels={result} /></p>}
        </>
      )}
    </>
  );
}
