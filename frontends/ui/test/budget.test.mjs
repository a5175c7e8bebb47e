// What the page may cost, where no browser is needed to measure it: sizes of its files, and the work of a live update.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { Store } from '../src/chart/store';

const DIST = join(import.meta.dirname, '../dist');
const files = readdirSync(DIST, { recursive: true, withFileTypes: true }).filter((f) => f.isFile()).map((f) => {
  const bytes = readFileSync(join(f.parentPath, f.name));
  return { name: f.name, console: f.parentPath.includes('classic'), raw: bytes.length, gzip: gzipSync(bytes, { level: 9 }).length, text: bytes };
});
const sum = (list, of) => list.reduce((n, f) => n + f[of], 0);

it('files: at most 60 KB before a chart stands, 260 KB of scripts and styles, 0.9 MB raw', () => {
  const index = files.find((f) => f.name === 'index.html')?.text.toString();
  const first = files.filter((f) => f.name !== 'index.html' && index.includes(f.name) && /\.(js|css)$/.test(f.name));
  // The entry names the chunks that it needs at once in its first lines of imports.
  const entry = first.find((f) => f.name.startsWith('index') && f.name.endsWith('.js'))?.text.toString();
  const imported = [...entry.matchAll(/from\s*["']\.\/([^"']+)["']/g)].map((m) => m[1]);
  const before = files.filter((f) => first.includes(f) || imported.includes(f.name));
  expect(before.length).toBeGreaterThanOrEqual(3);
  expect(sum(before, 'gzip')).toBeGreaterThan(20_000);
  expect(sum(before, 'gzip')).toBeLessThanOrEqual(60_000);
  const loaded = files.filter((f) => /\.(js|css)$/.test(f.name));
  expect(sum(loaded.filter((f) => !f.console), 'gzip')).toBeLessThanOrEqual(260_000);
  // Consoles load these instead.
  expect(loaded.filter((f) => f.console).length).toBe(2);
  expect(sum(loaded.filter((f) => f.console), 'gzip')).toBeLessThanOrEqual(30_000);
  expect(sum(files, 'raw')).toBeLessThanOrEqual(900_000);
});

/** The least time of some runs: what the work takes when nothing else is done. */
function best(runs, work) {
  let least = Infinity;
  for (let i = 0; i < runs; i++) {
    const began = performance.now();
    work();
    least = Math.min(least, performance.now() - began);
  }
  return least;
}

const SERIES = 500;
const labels = (i) => ({ __name__: 'demo_temperature_celsius', host: '127.0.0.1', instance: '127.0.0.1:22010', job: 'demo', room: `r${i % 20}`, sensor: `s${i}` });

it('an update of 500 rows takes at most 4 ms, from its text to the steps', () => {
  const store = new Store(1, 0, 1000);
  store.setRange(0, 0, []);
  let t = 0;
  const messages = Array.from({ length: 40 }, () => JSON.stringify({ delta: { id: 'a', t: ++t, upsert: Array.from({ length: SERIES }, (_, i) => ({ labels: labels(i), value: String(t + i / 7) })), remove: [] } }));
  let next = 0;
  const took = best(messages.length, () => {
    const { delta } = JSON.parse(messages[next++]);
    store.delta(delta.t, delta.upsert, []);
  });
  expect(store.series.size).toBe(SERIES);
  expect(took).toBeLessThanOrEqual(4);
});

it('a store that is live for an hour holds no more than its picture and half of it again', () => {
  const store = new Store(1, 0, 1000);
  store.setRange(0, 0, []);
  for (let t = 1; t <= 3600; t++) store.delta(t, [{ labels: labels(0), value: String(t) }, { labels: { ended: String(Math.floor(t / 60)) }, value: '1' }], t % 60 === 0 ? [{ ended: String(t / 60 - 1) }] : []);
  const lengths = [...store.series.values()].map((s) => s.values.length);
  expect(Math.max(...lengths)).toBeLessThanOrEqual(2 * 1000 + 64 + 64);
  // Series that ended before the picture begins are forgotten.
  expect(store.series.size).toBeLessThanOrEqual(1 + 1000 / 60 + 1000 / 120 + 2);
});
