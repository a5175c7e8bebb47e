// Pages whose code is loaded when they are first opened.
import type { ComponentType } from 'preact';
import { useEffect, useState } from 'preact/hooks';

/** A component that is loaded when it is shown. */
export function Lazy<P extends object = object>(load: () => Promise<ComponentType<P>>): ComponentType<P> {
  let loaded: ComponentType<P> | null = null;
  return function LazyPage(props: P) {
    const [Component, set] = useState<ComponentType<P> | null>(() => loaded);
    const [failed, setFailed] = useState(false);
    useEffect(() => {
      if (loaded) return;
      load().then((component) => {
        loaded = component;
        set(() => component);
      }, () => setFailed(true));
    }, []);
    if (failed) return <div class="box err">This page could not be loaded: the server was perhaps replaced by another version. Reload the page.</div>;
    return Component ? <Component {...props} /> : null;
  };
}
