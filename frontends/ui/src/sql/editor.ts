// The SQL editor: colours, and completion of relations, labels, values and functions.
import { acceptCompletion, autocompletion, completionStatus, type Completion, type CompletionContext, type CompletionResult } from '@codemirror/autocomplete';
import { StreamLanguage, type StreamParser } from '@codemirror/language';
import { call, search } from '../api';
import { quote } from '../format/labels';
import { editorIn, type Editor, type Events } from '../query/codemirror';
import { placeInStatement, relationName, KEYWORDS, RELATIONS, SCHEMAS } from './statement';

interface State { comment: boolean }

const RESERVED = new Set(KEYWORDS.flatMap((k) => k.split(' ')));

/** Colours only: the server is the one that parses. */
const parser: StreamParser<State> = {
  name: 'sql',
  startState: () => ({ comment: false }),
  token(stream, state) {
    if (state.comment || stream.match('/*')) {
      state.comment = !stream.skipTo('*/');
      if (state.comment) stream.skipToEnd();
      else stream.match('*/');
      return 'comment';
    }
    if (stream.eatSpace()) return null;
    if (stream.match('--')) {
      stream.skipToEnd();
      return 'comment';
    }
    if (stream.match(/^'(?:[^']|'')*'?/)) return 'string';
    if (stream.match(/^"(?:[^"]|"")*"?/)) return 'labelName';
    if (stream.match(/^\d+(?:\.\d+)?(?:e[+-]?\d+)?/i)) return 'number';
    const word = stream.match(/^[a-z_][a-z0-9_]*/i) as RegExpMatchArray | null;
    if (word) {
      if (RESERVED.has(word[0].toUpperCase())) return 'keyword';
      return stream.match(/^\s*\(/, false) ? 'variableName.function' : 'name';
    }
    stream.next();
    return 'operator';
  },
  languageData: { commentTokens: { line: '--', block: { open: '/*', close: '*/' } } },
};

const LIMIT = 60;
const PAUSE_MS = 60;
/** Functions of SQL that answer a number for each row or group. */
const AGGREGATES = ['avg', 'coalesce', 'count', 'date_bin', 'lag', 'lead', 'max', 'min', 'now', 'percentile_cont', 'promql', 'row_number', 'stddev_pop', 'sum', 'ago', 'at'];

let functions: Promise<Completion[]> | null = null;

/** The functions of PromQL, which are functions of the column, and those of SQL. */
function allFunctions(): Promise<Completion[]> {
  functions ??= call<{ name: string; doc?: string; result?: string }[]>('promql/functions').then(
    ({ data }) => [...new Set([...AGGREGATES, ...data.map((f) => f.name)])].map((label) => ({ label, type: 'function', apply: `${label}(` })),
    () => AGGREGATES.map((label) => ({ label, type: 'function', apply: `${label}(` })),
  );
  return functions;
}

async function relations(typed: string, scope: string, signal: AbortSignal): Promise<Completion[]> {
  const own = RELATIONS.map((r) => ({ label: r.name, detail: r.about, boost: 20 }));
  if (scope === 'meta') return own;
  const found = await search('metric_names', { ...(typed === '' ? {} : { 'search[]': [typed], sort_by: 'score', case_sensitive: 'false' }), include_metadata: 'true', limit: LIMIT }, signal);
  const metrics = found.map(({ name, type, help }, i) => ({ label: name, apply: relationName(name), boost: 99 - i, ...(type ? { detail: type } : {}), ...(help ? { info: help } : {}) }));
  if (scope !== '') return metrics;
  const like = (c: Completion) => c.label.startsWith(typed.toLowerCase());
  return [...metrics, ...own.filter(like), ...SCHEMAS.map((label) => ({ label, detail: 'schema' })).filter(like)];
}

/** Selectors of the metrics that a statement reads: their labels are its columns. */
function selectors(metrics: string[]): { 'match[]': string[] } {
  return { 'match[]': metrics.length > 0 ? metrics.map((m) => `{__name__=${quote(m)}}`) : ['{__name__=~".+"}'] };
}

async function complete(context: CompletionContext): Promise<CompletionResult | null> {
  const place = placeInStatement(context.state.doc.toString(), context.pos);
  if (!place || (place.typed === '' && place.kind === 'word' && !context.explicit)) return null;
  const asked = new AbortController();
  context.addEventListener('abort', () => asked.abort());
  await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  if (context.aborted) return null;
  const from = context.pos - place.typed.length;
  try {
    if (place.kind === 'relation') return { from, options: await relations(place.typed, place.scope, asked.signal), filter: false };
    const typed = place.typed === '' ? {} : { 'search[]': [place.typed], sort_by: 'score', case_sensitive: 'false' };
    if (place.kind === 'value') {
      const found = await search('label_values', { label: place.label, ...selectors(place.metrics), ...typed, limit: LIMIT }, asked.signal);
      return { from, filter: false, options: found.map(({ name }, i) => ({ label: name, apply: name.replaceAll("'", "''"), boost: 99 - i })) };
    }
    const labels = place.metrics.length === 0 ? [] : await search('label_names', { ...selectors(place.metrics), limit: LIMIT }, asked.signal);
    const columns = ['ts', 'value', 'labels', ...labels.map((l) => l.name).filter((n) => n !== '__name__')];
    return {
      from, validFor: /^[a-z0-9_]*$/i,
      options: [
        ...[...new Set(columns)].map((label) => ({ label, apply: relationName(label), type: 'text', boost: 10 })),
        ...await allFunctions(), ...KEYWORDS.map((label) => ({ label, type: 'keyword', boost: -5 })),
      ],
    };
  } catch {
    return null;
  }
}

/** Puts an editor of SQL into `parent`. */
export function createEditor(parent: HTMLElement, text: string, events: Events): Editor {
  return editorIn(parent, text, events, {
    label: 'SQL statement', placeholder: 'SELECT job, value FROM up',
    extensions: [StreamLanguage.define(parser), autocompletion({ override: [complete] })],
    keys: [
      { key: 'Mod-Enter', run: () => (events.run(), true) },
      { key: 'Enter', run: (view) => completionStatus(view.state) === 'active' && acceptCompletion(view) },
    ],
  });
}
