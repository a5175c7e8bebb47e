// What differs between two texts, line by line.

/** A line of a comparison: added, removed, or one beside them. */
export interface ChangedLine { sign: '+' | '-' | ' '; text: string }

/** Lines beside a change that are shown. */
const AROUND = 2;
/** Texts with more differing lines in a row are shown as removed and added whole. */
const CELLS_MAX = 4_000_000;

/** The lines that differ, with a few around them; a gap is a line "…". Empty: the texts are equal. */
export function changedLines(before: string[], after: string[]): ChangedLine[] {
  let head = 0;
  while (head < before.length && head < after.length && before[head] === after[head]) head++;
  let tail = 0;
  while (tail < before.length - head && tail < after.length - head && before.at(-1 - tail) === after.at(-1 - tail)) tail++;
  if (head === before.length && head === after.length) return [];
  const same = (text: string): ChangedLine => ({ sign: ' ', text });
  const middle = align(before.slice(head, before.length - tail), after.slice(head, after.length - tail));
  const all = [...before.slice(Math.max(0, head - AROUND), head).map(same), ...middle, ...(tail === 0 ? [] : before.slice(-tail).slice(0, AROUND)).map(same)];
  return all.flatMap((line, i) => {
    const near = all.slice(Math.max(0, i - AROUND), i + AROUND + 1).some((l) => l.sign !== ' ');
    const wasNear = i > 0 && all.slice(Math.max(0, i - 1 - AROUND), i + AROUND).some((l) => l.sign !== ' ');
    return near ? [line] : wasNear ? [same('…')] : [];
  });
}

/** The longest common sequence, by the table of lengths. */
function align(before: string[], after: string[]): ChangedLine[] {
  const [n, m] = [before.length, after.length];
  const removed = (text: string): ChangedLine => ({ sign: '-', text });
  const added = (text: string): ChangedLine => ({ sign: '+', text });
  if ((n + 1) * (m + 1) > CELLS_MAX) return [...before.map(removed), ...after.map(added)];
  const width = m + 1;
  const lengths = new Uint32Array((n + 1) * width);
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) {
      lengths[i * width + j] = before[i] === after[j] ? lengths[(i + 1) * width + j + 1]! + 1 : Math.max(lengths[(i + 1) * width + j]!, lengths[i * width + j + 1]!);
    }
  }
  const found: ChangedLine[] = [];
  let i = 0;
  let j = 0;
  while (i < n || j < m) {
    if (i < n && j < m && before[i] === after[j]) {
      found.push({ sign: ' ', text: before[i++]! });
      j++;
    } else if (j >= m || (i < n && lengths[(i + 1) * width + j]! >= lengths[i * width + j + 1]!)) found.push(removed(before[i++]!));
    else found.push(added(after[j++]!));
  }
  return found;
}
