// The PromQL editor: CodeMirror in a shadow root, so that its styles need no exception in the content policy.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap, completionStatus, acceptCompletion, type Completion, type CompletionContext, type CompletionResult } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap, insertNewlineAndIndent } from '@codemirror/commands';
import { HighlightStyle, bracketMatching, indentOnInput, syntaxHighlighting, syntaxTree } from '@codemirror/language';
import { setDiagnostics } from '@codemirror/lint';
import { EditorState, Prec } from '@codemirror/state';
import { EditorView, highlightSpecialChars, keymap, placeholder } from '@codemirror/view';
import { tags } from '@lezer/highlight';
import { PromQLExtension, type CompleteStrategy } from '@prometheus-io/codemirror-promql';
import { HybridComplete } from '@prometheus-io/codemirror-promql/dist/esm/complete/hybrid';
import { search, type SearchResult } from '../api';
import { isPlainMetric, labelName, quote } from '../format/labels';

/** What the panel needs of the editor. */
export interface Editor {
  set(text: string): void;
  focus(): void;
  /** Underlines a position of the text with a message; null: nothing is wrong. */
  fault(at: { line: number; column: number; message: string } | null): void;
  destroy(): void;
}

const colors = HighlightStyle.define([
  { tag: [tags.name, tags.labelName], color: 'var(--text)' },
  { tag: [tags.number, tags.literal], color: 'var(--ok)' },
  { tag: tags.string, color: 'var(--warn)' },
  { tag: [tags.keyword, tags.modifier, tags.operatorKeyword], color: 'var(--info)', fontWeight: '600' },
  { tag: tags.function(tags.variableName), color: 'var(--link)' },
  { tag: tags.comment, color: 'var(--text-3)' },
]);

const look = EditorView.theme({
  '&': { fontSize: '14px', color: 'var(--text)', backgroundColor: 'transparent' },
  '&.cm-focused': { outline: 'none' },
  '.cm-scroller': { fontFamily: 'var(--mono)', lineHeight: '22px' },
  '.cm-content': { padding: '4px 0', caretColor: 'var(--text)' },
  '.cm-line': { padding: '0 8px' },
  '.cm-cursor': { borderLeftColor: 'var(--text)' },
  '.cm-placeholder': { color: 'var(--text-3)' },
  '&.cm-focused .cm-matchingBracket': { backgroundColor: 'var(--sunk)', outline: '1px solid var(--edge)' },
  '.cm-selectionBackground, .cm-content ::selection': { backgroundColor: 'var(--info-tint)' },
  '.cm-tooltip': { backgroundColor: 'var(--bg)', border: '1px solid var(--line)', borderRadius: '4px', boxShadow: '0 4px 16px #0003' },
  '.cm-tooltip.cm-tooltip-autocomplete > ul': { fontFamily: 'var(--mono)', fontSize: '12.5px', maxHeight: '280px' },
  '.cm-tooltip.cm-tooltip-autocomplete > ul > li': { padding: '2px 8px', color: 'var(--text)' },
  '.cm-tooltip-autocomplete ul li[aria-selected]': { backgroundColor: 'var(--info-tint)', color: 'var(--text)' },
  '.cm-completionDetail': { color: 'var(--text-3)', fontStyle: 'normal' },
  '.cm-completionMatchedText': { textDecoration: 'none', fontWeight: '700', color: 'var(--link)' },
  '.cm-completionInfo': { maxWidth: '320px', padding: '4px 8px', fontFamily: 'system-ui, sans-serif', fontSize: '12.5px' },
  '.cm-diagnostic': { fontFamily: 'var(--mono)', fontSize: '12.5px' },
});

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

  private result(place: Place, found: SearchResult[]): CompletionResult {
    const options: Completion[] = found.map(({ name, type, help }, i) => ({
      label: name, apply: textToInsert(place, name), type: place.kind === 'metric' ? 'constant' : 'text',
      // The server has sorted them: the best first.
      boost: 99 - i,
      ...(type ? { detail: type } : {}), ...(help ? { info: help } : {}),
    }));
    return { from: place.from, options, filter: false };
  }
}

function textToInsert(place: Place, name: string): string {
  if (place.kind === 'value') return quote(name).slice(place.quoted ? 1 : 0, place.quoted ? -1 : undefined);
  if (place.kind === 'label') return place.quoted ? quote(name).slice(1, -1) : labelName(name);
  return isPlainMetric(name) ? name : `{${quote(name)}}`;
}

interface Place { kind: 'metric' | 'label' | 'value'; from: number; label?: string; match?: string; quoted: boolean }

/** What is typed at the cursor: the name of a metric, of a label, or a value. */
function placeOf(context: CompletionContext): Place | null {
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

function placeInSelector(context: CompletionContext, before: string, open: number): Place | null {
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

/** Puts an editor into `parent`. */
export function createEditor(parent: HTMLElement, text: string, events: { change(text: string): void; run(): void; history(direction: 1 | -1): void }): Editor {
  const root = parent.shadowRoot ?? parent.attachShadow({ mode: 'open', delegatesFocus: true });
  const promql = new PromQLExtension().activateLinter(false).setComplete({ completeStrategy: new ServerCompletion() });
  const keys = Prec.highest(keymap.of([
    {
      key: 'Enter',
      run: (view) => {
        if (completionStatus(view.state) === 'active' && acceptCompletion(view)) return true;
        events.run();
        return true;
      },
    },
    { key: 'Shift-Enter', run: insertNewlineAndIndent },
    { key: 'Alt-ArrowUp', run: () => (events.history(1), true) },
    { key: 'Alt-ArrowDown', run: () => (events.history(-1), true) },
  ]));
  const view = new EditorView({
    parent: root as unknown as Element,
    root,
    state: EditorState.create({
      doc: text,
      extensions: [
        keys, history(), highlightSpecialChars(), indentOnInput(), bracketMatching(), closeBrackets(), EditorView.lineWrapping, look,
        autocompletion({ interactionDelay: 30, defaultKeymap: true, icons: false }),
        keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...historyKeymap, ...completionKeymap]),
        placeholder('An expression: up, or a part of a metric name'), syntaxHighlighting(colors), promql.asExtension(),
        EditorView.contentAttributes.of({ 'aria-label': 'PromQL expression' }),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) events.change(update.state.doc.toString());
        }),
      ],
    }),
  });
  return {
    set: (next) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: next }, selection: { anchor: next.length } }),
    focus: () => view.focus(),
    fault: (at) => {
      if (!at) return view.dispatch(setDiagnostics(view.state, []));
      const line = view.state.doc.line(Math.min(Math.max(at.line, 1), view.state.doc.lines));
      const from = Math.min(line.from + at.column - 1, Math.max(line.from, line.to - 1));
      const word = /^[\w:]+/.exec(view.state.sliceDoc(from, line.to))?.[0].length ?? 1;
      view.dispatch(setDiagnostics(view.state, [{ from, to: Math.min(from + word, view.state.doc.length), severity: 'error', message: at.message }]));
    },
    destroy: () => view.destroy(),
  };
}
