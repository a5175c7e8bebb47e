// What the editors of both languages share: CodeMirror in a shadow root, so that its styles need no exception in the
// content policy.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap } from '@codemirror/commands';
import { HighlightStyle, bracketMatching, indentOnInput, syntaxHighlighting } from '@codemirror/language';
import { setDiagnostics } from '@codemirror/lint';
import { EditorState, Prec, type Extension } from '@codemirror/state';
import { EditorView, highlightSpecialChars, keymap, placeholder, type KeyBinding } from '@codemirror/view';
import { tags } from '@lezer/highlight';

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

/** What the editor tells. */
export interface Events { change(text: string): void; run(): void; history(direction: 1 | -1): void }

/** What differs between the languages. */
export interface Language {
  /** The name of the box, for those who do not see it. */
  label: string;
  placeholder: string;
  /** The syntax and what completes it. */
  extensions: Extension[];
  /** Keys before all others. */
  keys: KeyBinding[];
}

/** Puts an editor into `parent`. */
export function editorIn(parent: HTMLElement, text: string, events: Events, language: Language): Editor {
  const root = parent.shadowRoot ?? parent.attachShadow({ mode: 'open', delegatesFocus: true });
  const keys = Prec.highest(keymap.of([
    ...language.keys,
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
        placeholder(language.placeholder), syntaxHighlighting(colors), ...language.extensions,
        EditorView.contentAttributes.of({ 'aria-label': language.label }),
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
