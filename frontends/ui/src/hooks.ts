// What several pages need: a list that is asked again when something changes.
import { signal } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import { ApiError, call, type Params } from './api';
import { connection, now, paused, watch, watchTopic, type Row, type Topic } from './live';
import { labelKey } from './format/labels';
import type { InstantData } from './types';

/** How many first answers, and parts of the program, the page that is shown waits for. */
export const awaited = signal(0);

/** Counts something that is waited for. The returned function says that it came, or that nobody waits any more. */
export function waitForFirst(): () => void {
  let waits = true;
  awaited.value++;
  return () => {
    if (waits) awaited.value--;
    waits = false;
  };
}

/** An answer that is being shown. */
export interface Loaded<T> {
  data: T | null; error: ApiError | null; loading: boolean;
  /** When it was read: the server's time, Unix seconds. 0: not yet. */
  at: number;
  reload(): void;
}

/** When an answer is asked again. */
export interface Again {
  /** Milliseconds; of a topic only while the server cannot tell. */
  every?: number;
  /** The list that it is of: the server tells when it changed. */
  topic?: Topic;
  /** Milliseconds that pass at least between two questions because of a topic. */
  atMost?: number;
}

/** Asks for `path`, and again while the tab is looked at and not paused. */
export function useApi<T>(path: string | null, params: Params = {}, { every = 0, topic, atMost = 0 }: Again = {}): Loaded<T> {
  const [state, setState] = useState<Omit<Loaded<T>, 'reload'>>({ data: null, error: null, loading: path !== null, at: 0 });
  const again = useRef<() => void>(() => undefined);
  const key = JSON.stringify([path, params]);
  const version = useRef<number | null>(null);
  const asked = useRef(0);
  /** The list changed while the pictures stood still. */
  const stale = useRef(false);
  useEffect(() => {
    if (path === null) return undefined;
    const abort = new AbortController();
    const came = waitForFirst();
    let busy = false;
    let once = false;
    const ask = async () => {
      // What changes while an answer is on its way may not be in it.
      once = busy;
      if (busy) return;
      busy = true;
      stale.current = false;
      asked.current = Date.now();
      try {
        const answer = await call<T>(path, params, abort.signal);
        version.current = answer.version;
        setState({ data: answer.data, error: null, loading: false, at: now.peek() });
      } catch (e) {
        if (abort.signal.aborted) return;
        const error = e instanceof ApiError ? e : new ApiError('internal', String(e), 0);
        // What was shown stays: an old list with a message says more than a message alone.
        setState((old) => ({ ...old, error, loading: false }));
      } finally {
        busy = false;
        came();
      }
      if (once) void ask();
    };
    again.current = () => void ask();
    void ask();
    const isTold = () => topic !== undefined && connection.value === 'open';
    const timer = every > 0 ? setInterval(() => !document.hidden && !paused.value && !isTold() && void ask(), every) : undefined;
    return () => {
      abort.abort();
      clearInterval(timer);
      came();
    };
  }, [key, every, topic]);
  useEffect(() => {
    if (topic === undefined || path === null) return undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const end = watchTopic(topic, (heard) => {
      if (heard === version.current) return;
      stale.current = true;
      if (paused.value) return;
      clearTimeout(timer);
      timer = setTimeout(() => !paused.value && again.current(), Math.max(0, asked.current + atMost - Date.now()));
    });
    return () => {
      end();
      clearTimeout(timer);
    };
  }, [topic, path, atMost]);
  const back = connection.value === 'open';
  const stands = paused.value;
  useEffect(() => {
    // A topic tells after the connection is back, too.
    if (!stands && (topic === undefined ? back : stale.current)) again.current();
  }, [back, stands]);
  return { ...state, reload: () => again.current() };
}

/** The rows of an expression, and how they are kept current. */
export interface LiveRows {
  /** null: none came yet. */
  rows: Row[] | null;
  error: ApiError | null;
  /** Why they are asked again and again; "": they come with every sample. */
  asked: string;
}

/**
 * The rows of an expression, with every sample. What the server does not keep current is asked every `every`
 * milliseconds: a list need not be evaluated once a second.
 */
export function useRows(query: string | null, every: number): LiveRows {
  const [state, setState] = useState<LiveRows>({ rows: null, error: null, asked: '' });
  const stands = paused.value;
  const waiting = useRef<Row[] | null>(null);
  useEffect(() => {
    if (!stands && waiting.current) setState((old) => ({ ...old, rows: waiting.current }));
  }, [stands]);
  useEffect(() => {
    setState({ rows: null, error: null, asked: '' });
    waiting.current = null;
    if (query === null) return undefined;
    const abort = new AbortController();
    const came = waitForFirst();
    const known = new Map<string, Row>();
    let timer: ReturnType<typeof setInterval> | undefined;
    let frame = 0;
    const show = () => {
      waiting.current = [...known.values()];
      if (paused.peek()) return;
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => {
        setState((old) => ({ ...old, rows: waiting.current, error: null }));
        came();
      });
    };
    const put = (rows: Row[]) => rows.forEach((row) => known.set(labelKey(row.labels), row));
    const ask = async () => {
      try {
        const { data } = await call<InstantData>('query', { query }, abort.signal);
        known.clear();
        if (data.resultType === 'vector') put(data.result.map(({ metric, value }) => ({ labels: metric, value: value?.[1] ?? '' })));
        show();
      } catch (e) {
        if (!abort.signal.aborted) setState((old) => ({ ...old, error: e instanceof ApiError ? e : new ApiError('internal', String(e), 0) }));
        came();
      }
    };
    const again = (why: string) => {
      end();
      setState((old) => ({ ...old, asked: why }));
      void ask();
      timer ??= setInterval(() => !document.hidden && !paused.peek() && void ask(), every);
    };
    const end = watch(query, {
      // Not in the message itself: the subscription is not listed yet while it begins.
      started: (standing, why) => void (standing || setTimeout(() => !abort.signal.aborted && again(why || 'it cannot be kept current'))),
      snapshot: (_, rows) => {
        known.clear();
        put(rows);
        show();
      },
      delta: (_, upsert, remove) => {
        put(upsert);
        remove.forEach((labels) => known.delete(labelKey(labels)));
        show();
      },
      // A refusal has no time, and the API says why.
      error: (message, final) => final && !abort.signal.aborted && again(message),
    });
    return () => {
      abort.abort();
      cancelAnimationFrame(frame);
      clearInterval(timer);
      end();
      came();
    };
  }, [query, every]);
  return state;
}

/** Renders again at most once in a frame, however often the returned function is called. */
export function useFrame(): [number, () => void] {
  const [version, setVersion] = useState(0);
  const waiting = useRef(0);
  const bump = useRef(() => {
    if (waiting.current !== 0) return;
    waiting.current = requestAnimationFrame(() => {
      waiting.current = 0;
      setVersion((n) => n + 1);
    });
  });
  useEffect(() => () => cancelAnimationFrame(waiting.current), []);
  return [version, bump.current];
}
