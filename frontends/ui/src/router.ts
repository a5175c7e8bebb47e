// Which page is shown: the path below the base of the page, and its parameters.
import { signal } from '@preact/signals';
import { HOME } from './settings';

/** A place in the application. */
export interface Route {
  /** The path without the server's prefix: "/query". */
  path: string;
  params: URLSearchParams;
}

const base = new URL(document.baseURI).pathname.replace(/\/$/, '');

function current(): Route {
  const path = location.pathname.startsWith(base) ? location.pathname.slice(base.length) : location.pathname;
  return { path: path === '' || path === '/' ? HOME : path, params: new URLSearchParams(location.search) };
}

/** The place that is shown. */
export const route = signal<Route>(current());

/** The address of a path of the application, as browsers need it. */
export function href(path: string): string {
  return base + path;
}

/** Goes to a path, with an entry in the history. */
export function go(path: string): void {
  if (href(path) !== location.pathname + location.search) history.pushState(null, '', href(path));
  route.value = current();
}

/** Changes the address of the page that is shown, without an entry in the history. */
export function replace(path: string): void {
  history.replaceState(null, '', href(path));
  route.value = current();
}

/** Changes one parameter of this page; "" removes it. */
export function setParam(name: string, value: string): void {
  const params = new URLSearchParams(location.search);
  if (value === '') params.delete(name);
  else params.set(name, value);
  const text = params.toString();
  replace(route.value.path + (text === '' ? '' : `?${text}`));
}

/** The address of exactly what a page shows; pages whose own address says less put theirs here. */
export const exactLink: { of: (() => string) | null } = { of: null };

/** Follows the history and clicks on links of this application. */
export function startRouter(): void {
  addEventListener('popstate', () => (route.value = current()));
  document.addEventListener('click', (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const anchor = (event.composedPath() as Element[]).find((e) => e instanceof HTMLAnchorElement);
    if (!(anchor instanceof HTMLAnchorElement) || anchor.target !== '' || anchor.origin !== location.origin) return;
    if (!anchor.dataset['page']) return;
    event.preventDefault();
    go(anchor.pathname.slice(base.length) + anchor.search);
    scrollTo(0, 0);
  });
}
