// The PromQL editor.
import { acceptCompletion, completionStatus, type Completion, type CompletionContext, type CompletionResult } from '@codemirror/autocomplete';
import { insertNewlineAndIndent } from '@codemirror/commands';
import { syntaxTree } from '@codemirror/language';
import { PromQLExtension, type CompleteStrategy } from '@prometheus-io/codemirror-promql';
import { HybridComplete } from '@prometheus-io/codemirror-promql/dist/esm/complete/hybrid';
import { search, type SearchResult } from '../api';
import { isPlainMetric, labelName, quote } from '../format/labels';
import { editorIn, type Editor, type Events } from './codemirror';

const LIMIT = 60;
const PAUSE_MS = 60;

/** Completes names by asking the server what looks like the typed text: nothing is loaded before. */
class ServerCompletion implements CompleteStrategy {
  private readonly words = new HybridComplete();
  private asked: AbortController | null = null;

  async promQL(context: CompletionContext): Promise<CompletionResult | null> {
    const own = await this.names(context);
    const words = await this.words.promQL(context);
    if (!own) return words;
    const keywords = words && words.from === own.from ? words.options : [];
    return { ...own, options: [...own.options, ...keywords] };
  }

  private async names(context: CompletionContext): Promise<CompletionResult | null> {
    const place = placeOf(context);
    if (!place) return null;
    this.asked?.abort();
    const asked = new AbortController();
    this.asked = asked;
    context.addEventListener('abort', () => asked.abort());
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    if (context.aborted || asked.signal.aborted) return null;
    const typed = context.state.sliceDoc(place.from, context.pos).replace(/^"/, '');
    const params = {
      ...(typed === '' ? {} : { 'search[]': [typed], sort_by: 'score', case_sensitive: 'false' }),
      ...(place.match ? { 'match[]': [place.match] } : {}), limit: LIMIT,
    };
    try {
      if (place.kind === 'metric') return this.result(place, await search('metric_names', { ...params, include_metadata: 'true' }, asked.signal));
      if (place.kind === 'label') return this.result(place, await search('label_names', params, asked.signal));
      return this.result(place, await search('label_values', { ...params, label: place.label ?? '' }, asked.signal));
    } catch {
      return null;
    }
  }

  private result(place: TypedName, found: SearchResult[]): CompletionResult {
    const options: Completion[] = found.map(({ name, type, help }, i) => ({
      label: name, apply: textToInsert(place, name), type: place.kind === 'metric' ? 'constant' : 'text',
      // The server has sorted them: the best first.
      boost: 99 - i,
      ...(type ? { detail: type } : {}), ...(help ? { info: help } : {}),
    }));
    return { from: place.from, options, filter: false };
  }
}

function textToInsert(place: TypedName, name: string): string {
  if (place.kind === 'value') return quote(name).slice(place.quoted ? 1 : 0, place.quoted ? -1 : undefined);
  if (place.kind === 'label') return place.quoted ? quote(name).slice(1, -1) : labelName(name);
  return isPlainMetric(name) ? name : `{${quote(name)}}`;
}

interface TypedName { kind: 'metric' | 'label' | 'value'; from: number; label?: string; match?: string; quoted: boolean }

/** What is typed at the cursor: the name of a metric, of a label, or a value. */
function placeOf(context: CompletionContext): TypedName | null {
  const before = context.state.sliceDoc(0, context.pos);
  const open = before.lastIndexOf('{');
  const inSelector = open > before.lastIndexOf('}');
  if (inSelector) return placeInSelector(context, before, open);
  const grouping = /\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)$/.exec(before);
  if (grouping) {
    const word = /[a-zA-Z0-9_]*$/.exec(before)![0];
    const match = selectorAfter(context.state.doc.toString(), context.pos);
    return { kind: 'label', from: context.pos - word.length, quoted: false, ...(match ? { match } : {}) };
  }
  const node = syntaxTree(context.state).resolveInner(context.pos, -1);
  if (['StringLiteral', 'LineComment', 'NumberDurationLiteral', 'NumberLiteral', 'DurationLiteral'].includes(node.name)) return null;
  const word = /[a-zA-Z_:][a-zA-Z0-9_:.]*$/.exec(before)?.[0] ?? '';
  if (word === '' && !context.explicit) return null;
  return { kind: 'metric', from: context.pos - word.length, quoted: false };
}

/** The first selector after or before a grouping clause: its series decide which labels there are. */
function selectorAfter(text: string, position: number): string | undefined {
  const after = /[a-zA-Z_:][a-zA-Z0-9_:]*(?:\{[^}]*\})?(?=\s*(?:\[|\)|$))/.exec(text.slice(position));
  return after && isPlainMetric(after[0].replace(/\{.*/, '')) ? after[0] : undefined;
}

function placeInSelector(context: CompletionContext, before: string, open: number): TypedName | null {
  const inside = before.slice(open + 1);
  const name = /[a-zA-Z_:][a-zA-Z0-9_:]*$/.exec(before.slice(0, open))?.[0];
  const value = /([a-zA-Z_][a-zA-Z0-9_]*|"(?:[^"\\]|\\.)*")\s*(?:=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)$/.exec(inside);
  const done = inside.slice(0, value ? value.index : inside.lastIndexOf(',') + 1).replace(/,\s*$/, '');
  const quotes = (done.match(/(?<!\\)"/g) ?? []).length;
  const match = quotes % 2 === 0 && (name || done.trim() !== '') ? `${name ?? ''}{${done}}` : undefined;
  const scope = match ? { match } : {};
  if (value) {
    const label = value[1]!.startsWith('"') ? (JSON.parse(value[1]!) as string) : value[1]!;
    return { kind: 'value', from: context.pos - value[2]!.length, label, quoted: true, ...scope };
  }
  const word = /(?:^|[,\s])("?)([a-zA-Z0-9_]*)$/.exec(inside);
  if (!word) return null;
  return { kind: 'label', from: context.pos - word[2]!.length, quoted: word[1] === '"', ...scope };
}

/** Puts an editor of PromQL into `parent`. */
export function createEditor(parent: HTMLElement, text: string, events: Events): Editor {
  const promql = new PromQLExtension().activateLinter(false).setComplete({ completeStrategy: new ServerCompletion() });
  return editorIn(parent, text, events, {
    label: 'PromQL expression', placeholder: 'up, or a part of a metric name', extensions: [promql.asExtension()],
    keys: [
      {
        key: 'Enter',
        run: (view) => {
          if (completionStatus(view.state) === 'active' && acceptCompletion(view)) return true;
          events.run();
          return true;
        },
      },
      { key: 'Shift-Enter', run: insertNewlineAndIndent },
    ],
  });
}
