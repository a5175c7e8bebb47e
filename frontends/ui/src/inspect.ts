// What the charts of the page show, as `__perennial.panels` in the console of the browser.

type Reader = () => unknown;

const panels: Reader[] = [];
/** How many exemplars the chart that was drawn last has. */
let exemplars = 0;
/** How long the latest pictures took to draw, milliseconds. */
const drawing: number[] = [];
const DRAWING_KEPT = 500;

Object.assign(globalThis, { __perennial: { panels, exemplars: () => exemplars, drawing } });

/** Adds a panel. The returned function removes it. */
export function inspect(read: Reader): () => void {
  panels.push(read);
  return () => void panels.splice(panels.indexOf(read), 1);
}

/** Notes that a picture was drawn. */
export function noteDrawing(milliseconds: number, exemplarsDrawn: number): void {
  exemplars = exemplarsDrawn;
  drawing.push(milliseconds);
  if (drawing.length > DRAWING_KEPT) drawing.shift();
}
