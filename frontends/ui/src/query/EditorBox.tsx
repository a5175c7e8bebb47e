// The box of the expression: a plain text area at once, the editor when its chunk is loaded.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { Editor, Events } from './codemirror';

interface Props {
  language: 'promql' | 'sql';
  text: string;
  fault: string | null;
  /** Grows when the text is set from outside. */
  revision: number;
  change(text: string): void;
  run(): void;
  history(direction: 1 | -1): void;
  autofocus: boolean;
}

type Create = (parent: HTMLElement, text: string, events: Events) => Editor;

const LANGUAGES: Record<Props['language'], { label: string; load(): Promise<Create> }> = {
  promql: { label: 'PromQL expression', load: () => import('./editor').then((m) => m.createEditor) },
  sql: { label: 'SQL statement', load: () => import('../sql/editor').then((m) => m.createEditor) },
};

/** The position that an error of the server names: "1:5: parse error: …", or "line 1, column 8: …". */
function position(message: string): { line: number; column: number; message: string } | null {
  const match = /(\d+):(\d+): (parse error: .*)/s.exec(message) ?? /^line (\d+), column (\d+): ([^\n]*)/.exec(message);
  return match ? { line: Number(match[1]), column: Number(match[2]), message: match[3]! } : null;
}

export function EditorBox(props: Props) {
  const host = useRef<HTMLDivElement>(null);
  const area = useRef<HTMLTextAreaElement>(null);
  const editor = useRef<Editor | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const [loaded, setLoaded] = useState(false);
  const refocus = useRef(false);
  // What is hidden cannot have the focus: only after the editor is shown.
  useLayoutEffect(() => {
    if (loaded && refocus.current) editor.current?.focus();
  }, [loaded]);

  useEffect(() => {
    let gone = false;
    if (props.autofocus) area.current?.focus();
    void LANGUAGES[props.language].load().then((createEditor) => {
      if (gone || !host.current) return;
      refocus.current = document.activeElement === area.current;
      editor.current = createEditor(host.current, latest.current.text, {
        change: (text) => latest.current.change(text),
        run: () => latest.current.run(),
        history: (direction) => latest.current.history(direction),
      });
      setLoaded(true);
    });
    return () => {
      gone = true;
      editor.current?.destroy();
    };
  }, []);
  useEffect(() => editor.current?.set(latest.current.text), [props.revision]);
  useEffect(() => editor.current?.fault(props.fault === null ? null : position(props.fault)), [props.fault, loaded]);

  const key = (event: KeyboardEvent) => {
    // In SQL, which has lines, Enter makes one.
    const runs = props.language === 'sql' ? event.ctrlKey || event.metaKey : !event.shiftKey;
    if (event.key !== 'Enter' || !runs) return;
    event.preventDefault();
    props.run();
  };
  return (
    <div class="editor">
      {!loaded && (
        <textarea ref={area} aria-label={LANGUAGES[props.language].label} rows={Math.max(1, props.text.split('\n').length)} spellcheck={false} value={props.text}
          onInput={(e) => props.change(e.currentTarget.value)} onKeyDown={key} />
      )}
      <div ref={host} hidden={!loaded} />
    </div>
  );
}
