// What several pages need: a list that is asked again when something changes.
import { useEffect, useRef, useState } from 'preact/hooks';
import { ApiError, call, type Params } from './api';
import { connection, paused } from './live';

/** An answer that is being shown. */
export interface Loaded<T> { data: T | null; error: ApiError | null; loading: boolean; reload(): void }

/** Asks for `path`, and again every `every` milliseconds while the tab is looked at and not paused (0: once). */
export function useApi<T>(path: string | null, params: Params = {}, every = 0, trigger = 0): Loaded<T> {
  const [state, setState] = useState<{ data: T | null; error: ApiError | null; loading: boolean }>({ data: null, error: null, loading: path !== null });
  const again = useRef<() => void>(() => undefined);
  const key = JSON.stringify([path, params]);
  const shown = useRef(key);
  useEffect(() => {
    if (path === null) return undefined;
    const abort = new AbortController();
    let busy = false;
    const ask = async () => {
      if (busy) return;
      busy = true;
      try {
        const { data } = await call<T>(path, params, abort.signal);
        shown.current = key;
        setState({ data, error: null, loading: false });
      } catch (e) {
        if (abort.signal.aborted) return;
        const error = e instanceof ApiError ? e : new ApiError('internal', String(e), 0);
        // What was shown stays: an old list with a message says more than a message alone.
        setState((old) => ({ data: old.data, error, loading: false }));
      } finally {
        busy = false;
      }
    };
    again.current = () => void ask();
    void ask();
    const timer = every > 0 ? setInterval(() => !document.hidden && !paused.value && void ask(), every) : undefined;
    return () => {
      abort.abort();
      clearInterval(timer);
    };
  }, [key, every]);
  const back = connection.value === 'open';
  useEffect(() => {
    if (!paused.value && (trigger > 0 || back)) again.current();
  }, [trigger, back]);
  return { ...state, reload: () => again.current() };
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
