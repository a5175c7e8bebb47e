// The page in a browser, against the real server: PERENNIAL_BIN=… node --test test/e2e.mjs
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { showDist } from './dist.mjs';
import { METRIC, XSS, startExporter } from './exporter.mjs';
import { startServer } from './server.mjs';

const SQL = 'SELECT job, value FROM up ORDER BY job';
const PAGES = ['/query?g0.expr=demo_wave', `/sql?q=${encodeURIComponent(SQL)}`, '/sql', '/alerts', '/targets', '/rules', '/views', '/service-discovery', '/alerts/history', '/cardinality?focus=sensor', '/relabel', '/tsdb-status', '/status', '/config', '/flags', '/alertmanager-discovery'];
const WAIT = { timeout: 15_000 };

/** Whether the pages are those of dist, and not those in the binary. */
const fromDist = process.env.DIST === '1';

let browser;
let exporter;
let server;
let context;
/** What must not happen on any page: errors, reports of the policy, dialogs, requests to other hosts. */
const faults = [];

before(async () => {
  exporter = await startExporter();
  server = await startServer(process.env.PERENNIAL_BIN, exporter.port);
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', ...(fromDist ? ['--disable-features=LocalNetworkAccessChecks'] : [])] });
  context = await newContext({ viewport: { width: 1360, height: 860 } });
});

after(async () => {
  await browser?.close();
  await server?.stop();
  exporter?.close();
});

async function newContext(options) {
  const made = await browser.newContext(options);
  if (fromDist) await showDist(made);
  return made;
}

async function open(path, options = {}) {
  const page = await (options.context ?? context).newPage();
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

/** Text of the body without what the style sheet hides. */
const bodyText = (page) => page.evaluate(() => document.body.innerText);

async function api(path) {
  const response = await fetch(`${server.url}/api/v1/${path}`);
  return (await response.json()).data;
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function chartShows(page) {
  await page.waitForSelector('.legend tbody tr.r, .scroll tbody tr.r', WAIT);
  await page.waitForSelector('.chart canvas', WAIT);
}

test('the start page is the query page, with the editor in focus', async () => {
  const page = await open('/');
  await page.waitForURL('**/query', WAIT);
  await page.waitForFunction(() => document.querySelector('.editor > div')?.shadowRoot?.querySelector('.cm-content') != null, null, WAIT);
  await page.waitForFunction(() => document.activeElement?.shadowRoot?.activeElement?.classList.contains('cm-content') ?? false, null, WAIT);
  await page.close();
});

test('links of alerts and old bookmarks keep what they say', async () => {
  const page = await open('/graph?g0.expr=up&g0.tab=0&g0.stacked=1&g0.range_input=2h');
  await chartShows(page);
  assert.equal(new URL(page.url()).pathname, '/query');
  assert.equal(await page.getByLabel('Range', { exact: true }).inputValue(), '2h');
  assert.equal(await page.getByRole('button', { name: 'Stack' }).getAttribute('aria-pressed'), 'true');
  await page.close();
});

test('half a name and Enter twice give a chart and a table', async () => {
  const page = await open('/query');
  await page.waitForFunction(() => document.activeElement?.shadowRoot?.activeElement != null, null, WAIT);
  await page.keyboard.type('demo_wa');
  await page.waitForFunction(() => document.querySelector('.editor > div').shadowRoot.querySelector('[aria-selected]')?.textContent.includes('demo_wave'), null, WAIT);
  await sleep(120);
  await page.keyboard.press('Enter');
  await page.keyboard.press('Enter');
  await chartShows(page);
  assert.match(page.url(), /g0\.expr=demo_wave&/);
  assert.equal(await page.locator('tbody tr.r').count(), 2);
  await page.close();
});

test('an error is said in full, and the old chart stays', async () => {
  const page = await open('/query?g0.expr=demo_wave');
  await chartShows(page);
  await page.locator('.editor').click();
  await page.keyboard.press('End');
  await page.keyboard.type(' + )');
  await page.getByRole('button', { name: 'Run' }).click();
  await page.waitForSelector('.box.err', WAIT);
  assert.match(await page.locator('.box.err').innerText(), /1:\d+: parse error: /);
  assert.ok(await page.locator('.chart').isVisible());
  await page.waitForFunction(() => document.querySelector('.editor > div').shadowRoot.querySelector('.cm-lintRange-error') != null, null, WAIT);
  await page.close();
});

test('a live chart shows what a reload shows, after a pause, too', async () => {
  const seconds = 25;
  const query = 'demo_wave';
  const page = await open(`/query?g0.expr=${query}&g0.res_type=fixed&g0.res_step=1&g0.range_input=1m`);
  await chartShows(page);
  const read = () => page.evaluate(() => document.querySelector('.clock').textContent);
  const start = Math.ceil(Date.now() / 1000);
  await sleep(4000);
  await page.locator('.clock').click();
  const paused = await page.locator('.legend tbody').innerText();
  await sleep(3500);
  assert.equal(await page.locator('.legend tbody').innerText(), paused, 'the picture stands');
  assert.match(await read(), /paused/);
  await page.locator('.clock').click();
  await sleep((seconds - 8) * 1000);
  await page.locator('.clock').click();
  const end = Math.floor(Date.now() / 1000) - 2;
  const shown = await page.evaluate(() => window.__perennial.panels[0]());
  const { result } = await api(`query_range?query=${query}&start=${start}&end=${end}&step=1`);
  let compared = 0;
  for (const series of result) {
    const own = shown.find((s) => s.labels.zone === series.metric.zone);
    for (const [t, value] of series.values) {
      assert.equal(own.values[t], Number(value), `zone ${series.metric.zone} at ${t}`);
      compared++;
    }
  }
  assert.ok(compared >= 30, `${compared} values`);
  await page.close();
});

test('a new series comes by itself, and the others keep their colours', async () => {
  const page = await open('/query?g0.expr=demo_grow');
  exporter.state.more = () => 'demo_grow{n="1"} 1\n';
  await page.waitForFunction(() => document.querySelectorAll('.legend tbody tr.r').length === 1, null, WAIT);
  const color = () => page.locator('.legend tbody tr.r .swatch').first().getAttribute('style');
  const before = await color();
  exporter.state.more = () => 'demo_grow{n="1"} 3\ndemo_grow{n="2"} 2\n';
  await page.waitForFunction(() => document.querySelectorAll('.legend tbody tr.r').length === 2, null, WAIT);
  assert.equal(await color(), before);
  exporter.state.more = () => '';
  await page.close();
});

test('500 series: a short legend, rows in sight only, hover answers', async () => {
  const page = await open('/query?g0.expr=demo_temperature_celsius&g0.range_input=1m&g0.res_type=fixed&g0.res_step=1');
  await chartShows(page);
  await page.waitForFunction(() => document.querySelector('table').getAttribute('aria-rowcount') === '501', null, WAIT);
  const box = await page.locator('.legend').boundingBox();
  assert.ok(box.height <= 270, `legend ${box.height}`);
  assert.ok(await page.evaluate(() => document.documentElement.scrollHeight) <= 2 * 860);
  assert.ok(await page.locator('.legend tbody tr').count() < 100, 'only rows in sight are in the document');
  const chart = await page.locator('.chart').boundingBox();
  const times = [];
  for (let i = 0; i < 15; i++) {
    const began = performance.now();
    await page.mouse.move(chart.x + chart.width - 14 - (i % 2), chart.y + 60 + i * 5);
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => done())));
    times.push(performance.now() - began);
  }
  await page.waitForSelector('.tip', WAIT);
  times.sort((a, b) => a - b);
  assert.ok(times[7] < 250, `hover ${times[7]} ms at the median, with the driver of the browser`);
  await page.close();
});

test('alerts: broken first and not green, firing open, live', async () => {
  const page = await open('/alerts');
  await page.waitForSelector('.item', WAIT);
  await page.waitForFunction(() => /Broken/.test(document.querySelector('.item .name')?.textContent ?? ''), null, WAIT);
  assert.match(await page.locator('.item').first().innerText(), /evaluation fails/);
  const firing = () => page.locator('header .badge').first().innerText().catch(() => '');
  const seen = new Set();
  for (let i = 0; i < 100 && seen.size < 2; i++) {
    seen.add(await page.locator('button:has-text("Firing") .badge').innerText());
    await sleep(150);
  }
  assert.ok(seen.size >= 2, `the number of firing alerts changes by itself: ${[...seen]}, ${await firing()}`);
  assert.match(await bodyText(page), /fires in \d/);
  await page.close();
});

test('an alert link draws the left side, the threshold, and both tables', async () => {
  const page = await open('/graph?g0.expr=demo_wave+%3E+0.5&g0.tab=1');
  await chartShows(page);
  assert.equal(await page.locator('.legend tbody tr.r').count(), 2, 'also the series that is below');
  assert.match(await bodyText(page), /drawn: demo_wave/);
  await page.getByRole('button', { name: /show only where/ }).click();
  await page.waitForURL(/literal=1/);
  await page.close();
});

test('targets: down first with its error, and it recovers live', async () => {
  const page = await open('/targets');
  await page.waitForSelector('h2:has-text("Down")', WAIT);
  assert.match(await bodyText(page), /server returned HTTP status 500/);
  exporter.state.broken = false;
  await page.waitForFunction(() => !/Down\n/.test(document.querySelector('main').innerText.split('broken')[0]) && !document.querySelector('h2.err'), null, WAIT);
  exporter.state.broken = true;
  await page.waitForSelector('h2.err', WAIT);
  await page.locator('button:has-text("Configuration")').first().click();
  await page.waitForSelector('.box pre', WAIT);
  assert.match(await page.locator('.box pre').first().innerText(), /^job_name: demo\n/);
  await page.locator('.item summary:has-text("/metrics")').click();
  await page.waitForSelector('ol li', WAIT);
  assert.match(await page.locator('ol').innerText(), /\+ host="127\.0\.0\.1"/);
  await page.close();
});

test('the server ends and comes back: the page goes on by itself, and the gap is filled or empty', async () => {
  const page = await open('/query?g0.expr=demo_wave&g0.res_type=fixed&g0.res_step=1&g0.range_input=1m');
  await chartShows(page);
  await server.kill('SIGKILL');
  await page.waitForFunction(() => /offline/.test(document.querySelector('.clock').textContent), null, WAIT);
  await server.start();
  await page.locator('.clock').click();
  await page.waitForFunction(() => /live/.test(document.querySelector('.clock').textContent), null, WAIT);
  await sleep(3500);
  await page.locator('.clock').click();
  const end = Math.floor(Date.now() / 1000) - 2;
  const shown = await page.evaluate(() => window.__perennial.panels[0]());
  const { result } = await api(`query_range?query=demo_wave&start=${end - 30}&end=${end}&step=1`);
  for (const series of result) {
    const own = shown.find((s) => s.labels.zone === series.metric.zone);
    const wrong = series.values.filter(([t, value]) => own.values[t] !== Number(value)).length;
    // Steps during the start itself are asked again within a minute.
    assert.ok(wrong <= 3, `${wrong} of ${series.values.length} differ`);
  }
  await page.close();
});

test('hostile names and texts stay text, on every page', async () => {
  for (const path of ['/query?g0.expr=demo_xss', `/query?g0.expr=${encodeURIComponent(`{"${METRIC}"}`)}`, '/query?g0.expr=demo_xss&g0.tab=explain', ...PAGES,
    '/query?g0.expr=%3Cimg+src%3Dx+onerror%3Dwindow.__xss%3D9%3E&g0.tab=%22%3E%3Cscript%3E', '/alerts?search=%3Cimg+src%3Dx+onerror%3Dwindow.__xss%3D9%3E', '/nothing%3Cscript%3E']) {
    const page = await open(path);
    await sleep(900);
    assert.equal(await page.evaluate(() => window.__xss), undefined, path);
    if (path.endsWith('=demo_xss')) {
      const text = await bodyText(page);
      for (const value of XSS) assert.ok(text.includes(value), value);
      const chart = await page.locator('.chart').boundingBox();
      await page.mouse.move(chart.x + chart.width - 12, chart.y + chart.height / 2);
      await page.waitForSelector('.tip', WAIT);
      assert.equal(await page.evaluate(() => window.__xss), undefined, 'the tip');
    }
    if (path === '/alerts') {
      const text = await bodyText(page);
      assert.ok(text.includes('<img src=x onerror=window.__xss=7>') || text.includes('javascript:window.__xss=8'), text);
      assert.equal(await page.locator('a[href^="javascript"]').count(), 0);
    }
    await page.close();
  }
  const page = await open('/query');
  await page.waitForFunction(() => document.activeElement?.shadowRoot?.activeElement != null, null, WAIT);
  await page.keyboard.type('onmouse');
  await page.waitForFunction(() => document.querySelector('.editor > div').shadowRoot.querySelector('[aria-selected]')?.textContent.includes('<b onmouseover'), null, WAIT);
  await sleep(120);
  await page.keyboard.press('Enter');
  await page.keyboard.press('Enter');
  await chartShows(page);
  assert.equal(await page.evaluate(() => window.__xss), undefined);
  await page.close();
});

test('no page scrolls sideways on a phone, and axe finds nothing serious', async () => {
  const axe = readFileSync(new URL('../node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
  for (const [width, colorScheme] of [[390, 'light'], [1360, 'dark'], [1360, 'light'], [390, 'dark']]) {
    // The policy of the page forbids scripts from elsewhere: axe comes by the driver.
    const other = await newContext({ viewport: { width, height: 844 }, colorScheme, bypassCSP: true });
    for (const path of PAGES) {
      const page = await open(path, { context: other });
      await sleep(600);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${path} at ${width}: ${over} pixels too wide`);
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => window.axe.run({ runOnly: ['wcag2a', 'wcag2aa'] }));
      const serious = violations.filter((v) => ['serious', 'critical'].includes(v.impact));
      assert.deepEqual(serious.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(' | ')}`), [], `${path} at ${width}, ${colorScheme}`);
      await page.close();
    }
    await other.close();
  }
});

test('relabelling is tried while one types, and a fault is said', async () => {
  const page = await open('/relabel');
  await page.waitForSelector('ol li', WAIT);
  const [rules, labels] = await page.locator('textarea').all();
  await labels.fill('__address__="<b>h</b>:1"\njob="x"');
  await page.waitForSelector('ol li .add:has-text("<b>h</b>")', WAIT);
  assert.match(await page.locator('ol').innerText(), /\+ host="<b>h<\/b>"/);
  await rules.fill('- action: keep\n  source_labels: [job]\n  regex: y');
  await page.waitForSelector('text=dropped by rule 1', WAIT);
  await rules.fill('- action: nonsense');
  await page.waitForSelector('.box.err', WAIT);
  assert.match(await page.locator('.box.err').innerText(), /unknown relabel action "nonsense"/);
  await page.close();
});

test('cardinality narrows by a click, and the history of an alert is drawn', async () => {
  const page = await open('/cardinality?focus=room');
  await page.waitForSelector('section button:has-text("demo_temperature_celsius")', WAIT);
  await page.locator('section button:has-text("demo_temperature_celsius")').click();
  await page.waitForURL(/match=/, WAIT);
  await page.waitForFunction(() => /500 series match/.test(document.body.innerText), null, WAIT);
  await page.goto(`${server.url}/alerts/history?rule=Wave`);
  await page.waitForSelector('svg rect', WAIT);
  assert.ok(await page.locator('svg rect').count() >= 2);
  await page.close();
});

test('SQL: a statement is completed, asked, drawn and explained, and a fault is shown at its place', async () => {
  const page = await open('/sql');
  const editor = () => page.evaluate(() => document.querySelector('.editor > div').shadowRoot.querySelector('.cm-content')?.innerText ?? '');
  await page.waitForFunction(() => document.activeElement?.shadowRoot?.activeElement != null, null, WAIT);
  await page.keyboard.type('SELECT zone, value FROM demo_wav');
  await page.waitForFunction(() => document.querySelector('.editor > div').shadowRoot.querySelector('[aria-selected]')?.textContent.includes('demo_wave'), null, WAIT);
  await sleep(120);
  await page.keyboard.press('Enter');
  assert.match(await editor(), /FROM demo_wave$/);
  await page.keyboard.press('Control+Enter');
  await page.waitForSelector('tbody tr.r', WAIT);
  assert.equal(await page.locator('tbody tr.r').count(), 2);
  assert.match(page.url(), /\/sql\?q=SELECT\+zone/);
  await page.getByRole('button', { name: 'Plan' }).click();
  await page.waitForSelector('.plan code:has-text("demo_wave")', WAIT);
  const bad = `SELECT rat(value, '5m')\nFROM demo_wave`;
  await page.goto(`${server.url}/sql?q=${encodeURIComponent(bad)}`);
  await page.waitForSelector('.box.err', WAIT);
  assert.match(await page.locator('.box.err pre').innerText(), /line 1, column 8: .*\n.*\n {7}\^\nhint: .*rate/s);
  await page.waitForFunction(() => document.querySelector('.editor > div').shadowRoot?.querySelector('.cm-lintRange-error')?.textContent === 'rat', null, WAIT);
  const chart = "SELECT date_bin('1 second', ts) AS t, zone, value FROM samples.demo_wave WHERE ts >= now() - interval '1 minute'";
  await page.goto(`${server.url}/sql?q=${encodeURIComponent(chart)}`);
  await chartShows(page);
  assert.equal(await page.locator('.legend tbody tr.r').count(), 2);
  await page.close();
});

test('SQL: cells stay text, in the table and in the file', async () => {
  const page = await open(`/sql?q=${encodeURIComponent('SELECT v FROM demo_xss ORDER BY n')}`);
  await page.waitForSelector('tbody tr.r', WAIT);
  const text = await bodyText(page);
  for (const value of XSS) assert.ok(text.includes(value), value);
  const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'CSV' }).click()]);
  const csv = readFileSync(await file.path(), 'utf8');
  assert.match(csv, /\r\n'=cmd\|1\r\n/);
  assert.equal(await page.evaluate(() => window.__xss), undefined);
  await page.close();
});

test('histograms are cells, with quantiles and exemplars that are text', async () => {
  const page = await open(`/query?g0.expr=${encodeURIComponent('rate(demo_latency_seconds[10s])')}&g0.range_input=1m&g0.res_type=fixed&g0.res_step=1&g0.show_exemplars=1`);
  await chartShows(page);
  assert.equal(await page.getByRole('button', { name: 'Heat' }).getAttribute('aria-pressed'), 'true');
  const chart = await page.locator('.chart').boundingBox();
  await page.waitForFunction(() => window.__perennial.exemplars?.() > 0, null, WAIT);
  await page.mouse.move(chart.x + chart.width - 14, chart.y + chart.height / 2);
  await page.waitForFunction(() => /p50 .* p99/.test(document.querySelector('.tip')?.innerText ?? ''), null, WAIT);
  await page.getByRole('button', { name: 'Lines' }).click();
  await page.waitForURL(/display_mode=lines/, WAIT);
  await page.goto(`${server.url}/query?g0.expr=${encodeURIComponent('rate(demo_latency_seconds_bucket[10s])')}&g0.display_mode=heatmap`);
  await chartShows(page);
  assert.equal(await page.getByRole('button', { name: 'Heat' }).getAttribute('aria-pressed'), 'true');
  assert.equal(await page.evaluate(() => window.__xss), undefined);
  await page.close();
});

test('the values of another time are beside those of now, and the address keeps which series are hidden', async () => {
  const page = await open('/query?g0.expr=demo_wave&g0.cmp=1s&g0.range_input=10s&g0.res_type=fixed&g0.res_step=1');
  await chartShows(page);
  await page.waitForSelector('th:has-text("Δ1s")', WAIT);
  await page.waitForFunction(() => /[+−]\d/.test(document.querySelector('.legend tbody')?.innerText ?? ''), null, WAIT);
  await page.locator('.legend tbody tr.r').first().click({ modifiers: ['Control'] });
  await page.waitForURL(/g0\.hidden=/, WAIT);
  await page.reload();
  await page.waitForSelector('.legend tbody tr.off', WAIT);
  assert.equal(await page.locator('.legend tbody tr.off').count(), 1);
  await page.getByRole('button', { name: /Show all/ }).click();
  await page.waitForFunction(() => document.querySelector('.legend tbody tr.off') === null, null, WAIT);
  await page.close();
});

test('500 series: found by a part of their labels, alone by a click, coloured by a label', async () => {
  const page = await open('/query?g0.expr=demo_temperature_celsius');
  await chartShows(page);
  await page.getByLabel('Find series').fill('sensor=s123');
  await page.waitForFunction(() => document.querySelectorAll('.legend tbody tr.r').length === 1, null, WAIT);
  await page.locator('.legend tbody tr.r').click();
  await page.waitForURL(/g0\.only=/, WAIT);
  await page.waitForSelector('text=499 hidden', WAIT);
  await page.getByLabel('Find series').fill('');
  await page.getByRole('button', { name: /Show all/ }).click();
  await page.getByLabel('Colour by').selectOption('label:room');
  await page.waitForURL(/g0\.color=label%3Aroom/, WAIT);
  await page.waitForFunction(() => new Set([...document.querySelectorAll('.legend .swatch')].map((s) => s.getAttribute('style'))).size > 2, null, WAIT);
  await page.close();
});

test('keys alone: pages, filter, pause, palette', async () => {
  const page = await open('/query?g0.expr=up');
  await chartShows(page);
  await page.evaluate(() => document.activeElement?.blur());
  await page.keyboard.press('g');
  await page.keyboard.press('t');
  await page.waitForURL('**/targets', WAIT);
  await page.waitForSelector('input.find', WAIT);
  await page.keyboard.press('/');
  await page.keyboard.type('broken');
  await page.waitForURL(/search=broken/, WAIT);
  await page.keyboard.press('Control+k');
  await page.keyboard.type('demo_requ');
  await page.waitForSelector('[role="option"]:has-text("demo_requests_total")', WAIT);
  await page.keyboard.press('Enter');
  await page.waitForURL(/g0\.expr=demo_requests_total/, WAIT);
  await chartShows(page);
  await page.close();
});

test('the whole is below a prefix, too', async () => {
  const own = server;
  const prefixed = await startServer(process.env.PERENNIAL_BIN, exporter.port, ['--web.external-url=http://127.0.0.1/mon', '--web.route-prefix=/']).catch(() => null);
  assert.ok(prefixed);
  const html = await (await fetch(`${prefixed.url}/query`)).text();
  assert.match(html, /<base href="\/mon\/"/);
  const moved = await fetch(`${prefixed.url}/graph?g0.expr=up`, { redirect: 'manual' });
  assert.equal(moved.headers.get('location'), '/mon/query?g0.expr=up');
  await prefixed.stop();
  server = own;
});

test('budget: bytes until the chart stands', { skip: fromDist }, async () => {
  const page = await context.newPage();
  let sum = 0;
  page.on('response', async (response) => {
    const name = new URL(response.url()).pathname;
    if (/\.(js|css)$/.test(name) && !/editor/.test(name)) sum += Number(response.headers()['content-length'] ?? 0);
  });
  await page.goto(`${server.url}/query?g0.expr=up`);
  await chartShows(page);
  assert.ok(sum > 20_000 && sum <= 60_000, `${sum} bytes`);
  await page.close();
});

test('nothing happened that must not', () => assert.deepEqual(faults, []));
