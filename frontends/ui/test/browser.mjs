// What the tests in the browser share: the real server with an exporter, Chromium, and waiting for what must come.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { showDist } from './dist.mjs';
import { startExporter } from './exporter.mjs';
import { startServer } from './server.mjs';

export const WAIT = { timeout: 15_000 };

const AXE = readFileSync(new URL('../node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');

const SQL = 'SELECT job, value FROM up ORDER BY job';
/** Every page, with something on it; RULES stands for the file of the rules. */
export const PAGES = ['/query?g0.expr=demo_wave', `/sql?q=${encodeURIComponent(SQL)}`, '/sql', '/alerts', '/targets', '/rules', '/views', '/views/1', '/service-discovery', '/alerts/history', '/cardinality?focus=sensor', '/relabel', '/tsdb-status', '/status', '/config', '/flags', '/alertmanager-discovery',
  '/queries', '/lint', '/cardinality?tab=vanished', '/views?tab=subscriptions', ...['Wave', 'path:demo_requests:rate1m'].map((name) => `/rules?rule=RULES;demo;${name}`)];

/** Whether the pages are those of dist, and not those in the binary. */
export const fromDist = process.env.DIST === '1';

export let browser;
export let exporter;
export let server;
export let context;

/** What must not happen on any page: errors, reports of the policy, dialogs, requests to other hosts. */
export const faults = [];

/** Starts all of it; `files` are further files of the server's directory, also as what the port of the exporter makes; `flags` are further ones. */
export async function begin(files = {}, flags = []) {
  exporter = await startExporter();
  server = await startServer(process.env.PERENNIAL_BIN, exporter.port, ['--web.enable-admin-api', ...flags], typeof files === 'function' ? files(exporter.port) : files);
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', ...(fromDist ? ['--disable-features=LocalNetworkAccessChecks'] : [])] });
  context = await newContext({ viewport: { width: 1360, height: 860 } });
}

export async function end() {
  await browser?.close();
  await server?.stop();
  exporter?.close();
}

export async function newContext(options) {
  const made = await browser.newContext(options);
  if (fromDist) await showDist(made);
  return made;
}

export async function open(path, options = {}) {
  const page = await (options.context ?? context).newPage();
  countRequests(page);
  path = path.replace('RULES', encodeURIComponent(`${server.directory}/rules.yml`));
  page.on('pageerror', (error) => faults.push(`${path}: ${error.stack}`));
  page.on('console', (message) => {
    // That a resource is not there is told by the check itself; a server that was killed refuses connections.
    if (message.type() === 'error' && !/ERR_CONNECTION|WebSocket|status of 4/.test(message.text())) faults.push(`${path}: ${message.text()}`);
  });
  page.on('dialog', (dialog) => {
    faults.push(`${path}: dialog ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(server.url) && !/^(data|blob|ws):/.test(request.url())) faults.push(`${path}: request to ${request.url()}`);
  });
  // The driver does not see where a redirection leads.
  await page.goto(server.url + (fromDist ? path.replace(/^\/(graph)?(?=\?|$)/, '/query') : path));
  return page;
}

/** How many requests of each page are on their way. */
const pending = new WeakMap();

function countRequests(page) {
  pending.set(page, 0);
  page.on('request', () => pending.set(page, pending.get(page) + 1));
  for (const end of ['requestfinished', 'requestfailed']) page.on(end, () => pending.set(page, pending.get(page) - 1));
}

/** How long nothing may be asked until a page counts as complete, ms. */
const QUIET_MS = 200;

/** What axe finds that is serious or critical. The policy of the page forbids its script: the context needs `bypassCSP`. */
export async function seriousFaults(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run({ runOnly: ['wcag2a', 'wcag2aa'] }));
  return violations.filter((v) => ['serious', 'critical'].includes(v.impact)).map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(' | ')}`);
}

/** Waits until a page of `open` has something, and has got what it asked for when it opened. */
export async function settled(page) {
  await hasContent(page);
  await eventually(async () => {
    assert.equal(pending.get(page), 0, `requests of ${page.url()} are on their way`);
    await sleep(QUIET_MS);
    assert.equal(pending.get(page), 0, `requests of ${page.url()} are on their way`);
  });
}

/** Text of the body without what the style sheet hides. */
export const bodyText = (page) => page.evaluate(() => document.body.innerText);

export async function api(path) {
  const response = await fetch(`${server.url}/api/v1/${path}`);
  return (await response.json()).data;
}

/** Does something with each item, four at a time: pages mostly wait. */
export async function each(list, task) {
  const rest = [...list];
  const worker = async () => {
    while (rest.length > 0) await task(rest.shift());
  };
  await Promise.all(Array.from({ length: 4 }, worker));
}

/** Waits a fixed time: only where something is watched that must not happen. What must come is waited for. */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The version of a list, which grows when the list changes. */
export async function versionOf(list) {
  const response = await fetch(`${server.url}/api/v1/${list}`);
  await response.text();
  return Number(/\d+/.exec(response.headers.get('etag'))[0]);
}

/** Tries a check again until it holds; if it does not come to hold, its own failure is told. */
export async function eventually(check, timeout = WAIT.timeout) {
  const end = Date.now() + timeout;
  for (;;) {
    try {
      return await check();
    } catch (failure) {
      if (Date.now() > end) throw failure;
    }
    await sleep(100);
  }
}

export async function chartShows(page) {
  await page.waitForSelector('.legend tbody tr.r, .scroll tbody tr.r', WAIT);
  await page.waitForSelector('.chart canvas', WAIT);
  await page.waitForFunction(() => window.__perennial.drawing.length > 0, null, WAIT);
}

/** Waits until the chart has values at a time, Unix seconds. */
export async function chartHas(page, time, timeout = 60_000) {
  const has = (t) => {
    const shown = window.__perennial.panels[0]();
    return shown.length > 0 && shown.every((series) => series.values[t] !== undefined);
  };
  await page.waitForFunction(has, time, { timeout });
}

/** Fails unless the chart shows of a stretch what a range query says now. Returns how many values were compared. */
export async function showsHistory(page, query, { start, end, step }) {
  const shown = await page.evaluate(() => window.__perennial.panels[0]());
  const { result } = await api(`query_range?query=${encodeURIComponent(query)}&start=${start}&end=${end}&step=${step}`);
  let compared = 0;
  for (const series of result) {
    const own = shown.find((s) => s.labels.zone === series.metric.zone);
    for (const [t, value] of series.values) {
      assert.equal(own.values[t], Number(value), `zone ${series.metric.zone} at ${t}`);
      compared++;
    }
  }
  return compared;
}

/** Opens the palette and types into it: what is typed before it has the focus goes elsewhere. */
export async function typeInPalette(page, text) {
  await page.keyboard.press('Control+k');
  await page.waitForSelector('dialog.palette input:focus', WAIT);
  await page.keyboard.type(text);
}

/** Presses the clock and waits until the pictures stand, or go on. */
export async function pressClock(page, state) {
  await page.locator('.clock').click();
  await page.waitForFunction((word) => document.querySelector('.clock').textContent.includes(word), state, WAIT);
  // What had been asked to be drawn before the press is drawn in the next frame.
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done()))));
}

/** Waits until the list of completions offers a text. */
export async function offered(page, text) {
  await page.waitForFunction((wanted) => document.querySelector('.editor > div').shadowRoot.querySelector('[aria-selected]')?.textContent.includes(wanted), text, WAIT);
  // The editor takes no key in the first 75 ms of a list.
  await sleep(120);
}

/** Waits until the page shows something. */
export async function hasContent(page) {
  const text = () => page.evaluate(() => ((document.querySelector('main') ?? document.body)?.innerText ?? '').trim());
  await eventually(async () => assert.notEqual(await text(), '', `nothing at ${page.url()}`));
}

/**
 * Tells a time and its budget. A machine that does something else must not make a test fail: only with `BUDGETS=hold`
 * is a time beyond its budget a failure.
 */
export function within(t, what, milliseconds, budget) {
  t.diagnostic(`${what}: ${milliseconds.toFixed(1)} ms of ${budget}${milliseconds > budget ? ', too long' : ''}`);
  if (process.env.BUDGETS === 'hold') assert.ok(milliseconds <= budget, `${what}: ${milliseconds} ms`);
}

/** The least of some measurements: what it takes when the machine does nothing else. */
export async function least(runs, measure, enough) {
  let best = Infinity;
  for (let i = 0; i < runs && best > enough; i++) best = Math.min(best, await measure());
  return best;
}
