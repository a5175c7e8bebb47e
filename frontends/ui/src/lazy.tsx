// Pages whose code is loaded when they are first opened.
import type { ComponentType } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { waitForFirst } from './hooks';

/** A component that is loaded when it is shown. */
export function Lazy<P extends object = object>(load: () => Promise<ComponentType<P>>): ComponentType<P> {
  let loaded: ComponentType<P> | null = null;
  return function LazyPage(props: P) {
    const [Component, set] = useState<ComponentType<P> | null>(() => loaded);
    const [failed, setFailed] = useState(false);
    const came = useRef<() => void>(() => undefined);
    // After the effects of the component, which ask for what it shows.
    useEffect(() => {
      if (Component || failed) came.current();
    }, [Component, failed]);
    useEffect(() => {
      if (loaded) return undefined;
      came.current = waitForFirst();
      load().then((component) => {
        loaded = component;
        set(() => component);
      }, () => setFailed(true));
      return () => came.current();
    }, []);
    if (failed) return <div class="box err">This page could not be loaded: the server was perhaps replaced by another version. Reload the page.</div>;
    return Component ? <Component {...props} /> : null;
  };
}
