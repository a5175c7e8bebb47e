// What the charts of the page show, as `__perennial.panels` in the console of the browser.

type Reader = () => unknown;

const panels: Reader[] = [];

Object.assign(globalThis, { __perennial: { panels } });

/** Adds a panel. The returned function removes it. */
export function inspect(read: Reader): () => void {
  panels.push(read);
  return () => void panels.splice(panels.indexOf(read), 1);
}
