// The page in a browser, against the real server: PERENNIAL_BIN=… node --test test/e2e.mjs
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { readFileSync, writeFileSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { showDist } from './dist.mjs';
import { METRIC, XSS, startExporter } from './exporter.mjs';
import { startServer } from './server.mjs';

const SQL = 'SELECT job, value FROM up ORDER BY job';
const PAGES = ['/query?g0.expr=demo_wave', `/sql?q=${encodeURIComponent(SQL)}`, '/sql', '/alerts', '/targets', '/rules', '/views', '/service-discovery', '/alerts/history', '/cardinality?focus=sensor', '/relabel', '/tsdb-status', '/status', '/config', '/flags', '/alertmanager-discovery',
  '/queries', '/lint', '/cardinality?tab=vanished', '/views?tab=subscriptions', ...['Wave', 'path:demo_requests:rate1m'].map((name) => `/rules?rule=RULES;demo;${name}`)];
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

/** Text of the body without what the style sheet hides. */
const bodyText = (page) => page.evaluate(() => document.body.innerText);

async function api(path) {
  const response = await fetch(`${server.url}/api/v1/${path}`);
  return (await response.json()).data;
}

/** Does something with each item, four at a time: pages mostly wait. */
async function each(list, task) {
  const rest = [...list];
  const worker = async () => {
    while (rest.length > 0) await task(rest.shift());
  };
  await Promise.all(Array.from({ length: 4 }, worker));
}

/** Waits a fixed time: only where something is watched that must not happen. What must come is waited for. */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Tries a check again until it holds; if it does not come to hold, its own failure is told. */
async function eventually(check, timeout = WAIT.timeout) {
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

async function chartShows(page) {
  await page.waitForSelector('.legend tbody tr.r, .scroll tbody tr.r', WAIT);
  await page.waitForSelector('.chart canvas', WAIT);
  await page.waitForFunction(() => window.__perennial.drawing.length > 0, null, WAIT);
}

/** Waits until the chart has values at a time, Unix seconds. */
async function chartHas(page, time, timeout = 60_000) {
  const has = (t) => {
    const shown = window.__perennial.panels[0]();
    return shown.length > 0 && shown.every((series) => series.values[t] !== undefined);
  };
  await page.waitForFunction(has, time, { timeout });
}

/** Presses the clock and waits until the pictures stand, or go on. */
async function pressClock(page, state) {
  await page.locator('.clock').click();
  await page.waitForFunction((word) => document.querySelector('.clock').textContent.includes(word), state, WAIT);
  // What had been asked to be drawn before the press is drawn in the next frame.
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done()))));
}

/** Waits until the list of completions offers a text. */
async function offered(page, text) {
  await page.waitForFunction((wanted) => document.querySelector('.editor > div').shadowRoot.querySelector('[aria-selected]')?.textContent.includes(wanted), text, WAIT);
  // The editor takes no key in the first 75 ms of a list.
  await sleep(120);
}

/** Waits until the page shows something. */
async function hasContent(page) {
  await page.waitForFunction(() => ((document.querySelector('main') ?? document.body)?.innerText ?? '').trim() !== '', null, WAIT);
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
  await offered(page, 'demo_wave');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Enter');
  await chartShows(page);
  assert.match(page.url(), /g0\.expr=demo_wave&/);
  await eventually(async () => assert.equal(await page.locator('tbody tr.r').count(), 2));
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
  const query = 'demo_wave';
  const page = await open(`/query?g0.expr=${query}&g0.res_type=fixed&g0.res_step=1&g0.range_input=1m`);
  await chartShows(page);
  const start = Math.ceil(Date.now() / 1000);
  await chartHas(page, start + 3);
  await pressClock(page, 'paused');
  const paused = await page.locator('.legend tbody').innerText();
  await sleep(3500);
  assert.equal(await page.locator('.legend tbody').innerText(), paused, 'the picture stands');
  await pressClock(page, 'live');
  const end = start + 20;
  await chartHas(page, end);
  await pressClock(page, 'paused');
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

test('500 series: a short legend, rows in sight only, hover answers', async (t) => {
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
  within(t, 'hover over 500 series, median, with the driver of the browser', times[7], 250);
  await page.close();
});

test('alerts: broken first and not green, firing open, live', async () => {
  const page = await open('/alerts');
  await page.waitForSelector('.item', WAIT);
  await page.waitForFunction(() => /Broken/.test(document.querySelector('.item .name')?.textContent ?? ''), null, WAIT);
  assert.match(await page.locator('.item').first().innerText(), /evaluation fails/);
  const seen = new Set();
  await eventually(async () => {
    seen.add(await page.locator('button:has-text("Firing") .badge').innerText());
    assert.ok(seen.size >= 2, `the number of firing alerts changes by itself: ${[...seen]}`);
  }, 40_000);
  await eventually(async () => assert.match(await bodyText(page), /fires in \d/));
  await page.close();
});

test('an alert link draws the left side, the threshold, and both tables', async () => {
  const page = await open('/graph?g0.expr=demo_wave+%3E+0.5&g0.tab=1');
  await chartShows(page);
  await eventually(async () => assert.equal(await page.locator('.legend tbody tr.r').count(), 2, 'also the series that is below'));
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
  const page = await open('/query?g0.expr=demo_wave%7Bjob%3D%22demo%22%7D&g0.res_type=fixed&g0.res_step=1&g0.range_input=1m');
  await chartShows(page);
  await server.kill('SIGKILL');
  await page.waitForFunction(() => /offline/.test(document.querySelector('.clock').textContent), null, WAIT);
  await server.start();
  await page.locator('.clock').click();
  await page.waitForFunction(() => /live/.test(document.querySelector('.clock').textContent), null, WAIT);
  const again = Math.ceil(Date.now() / 1000);
  await chartHas(page, again + 2);
  // Steps during the start itself are asked again within a minute.
  await eventually(async () => {
    const shown = await page.evaluate(() => window.__perennial.panels[0]());
    const { result } = await api(`query_range?query=demo_wave%7Bjob%3D%22demo%22%7D&start=${again - 30}&end=${again + 2}&step=1`);
    assert.equal(result.length, 2);
    for (const series of result) {
      const own = shown.find((s) => s.labels.zone === series.metric.zone);
      const wrong = series.values.filter(([t, value]) => own.values[t] !== Number(value)).length;
      assert.ok(wrong <= 3, `${wrong} of ${series.values.length} differ`);
    }
  });
  await page.close();
});

test('hostile names and texts stay text, on every page', async () => {
  const paths = ['/query?g0.range_input=1m&g0.res_type=fixed&g0.res_step=1&g0.expr=demo_xss', `/query?g0.expr=${encodeURIComponent(`{"${METRIC}"}`)}`, '/query?g0.expr=demo_xss&g0.tab=explain', ...PAGES,
    '/query?g0.expr=%3Cimg+src%3Dx+onerror%3Dwindow.__xss%3D9%3E&g0.tab=%22%3E%3Cscript%3E', '/alerts?search=%3Cimg+src%3Dx+onerror%3Dwindow.__xss%3D9%3E', '/nothing%3Cscript%3E', '/sql?q=%3Cimg+src%3Dx+onerror%3Dwindow.__xss%3D9%3E', '/rules?rule=%3Cimg+src%3Dx+onerror%3Dwindow.__xss%3D9%3E'];
  await each(paths, async (path) => {
    const page = await open(path);
    await hasContent(page);
    if (path.endsWith('=demo_xss')) {
      await chartShows(page);
      await eventually(async () => {
        const text = await bodyText(page);
        for (const value of XSS) assert.ok(text.includes(value), value);
      });
      const chart = await page.locator('.chart').boundingBox();
      // Again until it is there: a live chart may be drawn anew just then, and there is no tip over a gap.
      let move = 0;
      await eventually(async () => {
        await page.mouse.move(chart.x + chart.width - 12 - 9 * (move++ % 30), chart.y + chart.height / 2);
        await page.waitForSelector('.tip', { timeout: 500 });
      });
    }
    if (path === '/alerts') {
      // The annotations are there while the alert fires.
      await page.waitForFunction(() => /window.__xss=7/.test(document.body.innerText), null, WAIT);
      const text = await bodyText(page);
      assert.ok(text.includes('<img src=x onerror=window.__xss=7>') || text.includes('javascript:window.__xss=8'), text);
      assert.equal(await page.locator('a[href^="javascript"]').count(), 0);
    }
    // A text that became an element would act at once, or when its picture fails to load.
    await sleep(900);
    assert.equal(await page.evaluate(() => window.__xss), undefined, path);
    await page.close();
  });
  const page = await open('/query');
  await page.waitForFunction(() => document.activeElement?.shadowRoot?.activeElement != null, null, WAIT);
  await page.keyboard.type('onmouse');
  await offered(page, '<b onmouseover');
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
    await each(PAGES, async (path) => {
      const page = await open(path, { context: other });
      await hasContent(page);
      // Only faults are looked for, in what is there by then.
      await sleep(600);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${path} at ${width}: ${over} pixels too wide`);
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => window.axe.run({ runOnly: ['wcag2a', 'wcag2aa'] }));
      const serious = violations.filter((v) => ['serious', 'critical'].includes(v.impact));
      assert.deepEqual(serious.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(' | ')}`), [], `${path} at ${width}, ${colorScheme}`);
      await page.close();
    });
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
  await page.waitForFunction(() => document.querySelectorAll('svg rect').length >= 2, null, WAIT);
  await page.close();
});

test('SQL: a statement is completed, asked, drawn and explained, and a fault is shown at its place', async () => {
  const page = await open('/sql');
  const editor = () => page.evaluate(() => document.querySelector('.editor > div').shadowRoot.querySelector('.cm-content')?.innerText ?? '');
  await page.waitForFunction(() => document.activeElement?.shadowRoot?.activeElement != null, null, WAIT);
  await page.keyboard.type('SELECT zone, value FROM demo_wav');
  await offered(page, 'demo_wave');
  await page.keyboard.press('Enter');
  await eventually(async () => assert.match(await editor(), /FROM demo_wave$/));
  await page.keyboard.press('Control+Enter');
  await eventually(async () => assert.equal(await page.locator('tbody tr.r').count(), 2));
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
  await eventually(async () => assert.equal(await page.locator('.legend tbody tr.r').count(), 2));
  await page.close();
});

test('SQL: a statement stands, as a live plan and run again, and shows what a fresh answer shows', async () => {
  const plan = 'SELECT zone, value FROM demo_wave';
  const page = await open(`/sql?every=live&q=${encodeURIComponent(plan)}`);
  await page.waitForSelector('text=live: updated with every sample', WAIT);
  const cells = () => page.locator('tbody').innerText();
  await page.waitForSelector('tbody tr.r', WAIT);
  const before = await cells();
  await page.waitForFunction((old) => document.querySelector('tbody').innerText !== old, before, WAIT);
  await eventually(async () => assert.equal(await page.locator('tbody tr.r').count(), 2));
  await page.goto(`${server.url}/sql?every=live&q=${encodeURIComponent('SELECT count(DISTINCT room) AS rooms FROM demo_temperature_celsius')}`);
  await page.waitForSelector('text=live: run again every second', WAIT);
  await page.waitForFunction(() => document.querySelector('tbody')?.innerText.trim() === '20', null, WAIT);
  await page.goto(`${server.url}/sql?every=live&q=${encodeURIComponent('SELECT nope FROM')}`);
  await page.waitForSelector('.box.err', WAIT);
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
  // Another test lets the broken target answer for a while.
  const page = await open(`/query?g0.expr=${encodeURIComponent('demo_temperature_celsius{job="demo"}')}`);
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

test('a rule has a page: its parts, its chart, what it reads, its history', async () => {
  const page = await open('/rules');
  await page.locator('a.name:has-text("Wave")').click();
  await page.waitForURL(/rule=.*%3Bdemo%3BWave/, WAIT);
  await page.waitForSelector('.tree .node:has-text("demo_wave")', WAIT);
  await chartShows(page);
  await page.waitForSelector('svg rect', WAIT);
  assert.match(await bodyText(page), /It fires with the first sample/);
  await page.goto(`${server.url}/rules?rule=${encodeURIComponent(`${server.directory}/rules.yml;demo;path:demo_requests:rate1m`)}`);
  await page.waitForSelector('dd a:has-text("demo_requests_total")', WAIT);
  await page.close();
});

test('lint: rules that fail, counters read as gauges, selectors without series', async () => {
  const page = await open('/lint');
  await page.waitForFunction(() => /5 of 5 rules read/.test(document.body.innerText), null, WAIT);
  await page.waitForSelector('tr:has-text("raw counter"):has-text("demo_requests_total")', WAIT);
  await eventually(async () => assert.match(await page.locator('tbody tr.r').first().innerText(), /evaluation.*Broken.*many-to-many/s));
  await page.getByRole('button', { name: /Warnings/ }).click();
  await page.waitForURL(/state=warning/, WAIT);
  await eventually(async () => assert.equal(await page.locator('tbody tr.r:has-text("evaluation")').count(), 0));
  await page.close();
});

test('series that vanished are listed with their last sample, and queries and subscriptions with their cost', async () => {
  exporter.state.more = () => 'demo_gone{n="1"} 1\n';
  await until(async () => (await api('query?query=demo_gone')).result.length === 1);
  exporter.state.more = () => '';
  await until(async () => (await api('query?query=demo_gone')).result.length === 0);
  const page = await open(`/cardinality?tab=vanished&range=900&match=${encodeURIComponent('{__name__=~"demo_.*"}')}`);
  await page.waitForFunction(() => /demo_gone.*\d\d:\d\d:\d\d/s.test(document.querySelector('tbody')?.innerText ?? ''), null, WAIT);
  await page.goto(`${server.url}/views?tab=subscriptions`);
  await page.waitForSelector('tr:has-text("count(up == 0)"):has-text("with every sample")', WAIT);
  await page.goto(`${server.url}/queries`);
  await page.waitForSelector('tr:has-text("path:demo_requests:rate1m")', WAIT);
  await eventually(async () => assert.match(await bodyText(page), /run or wait now\s+\d+ of 20/));
  await page.close();
});

test('a reload of the configuration shows what it changed', async () => {
  const page = await open('/config');
  await page.waitForSelector('.lines', WAIT);
  const file = `${server.directory}/prometheus.yml`;
  const text = readFileSync(file, 'utf8');
  writeFileSync(file, text.replace('job_name: dropped', 'job_name: renamed'));
  await page.getByRole('button', { name: 'Reload the configuration' }).click();
  await page.waitForSelector('h2:has-text("What the reload changed")', WAIT);
  const changed = await page.getByRole('region', { name: 'What the reload changed' }).innerText();
  assert.match(changed, /^- .*job_name: dropped$/m);
  assert.match(changed, /^\+ .*job_name: renamed$/m);
  writeFileSync(file, text);
  await page.getByRole('button', { name: 'Reload the configuration' }).click();
  await page.close();
});

/** Shows an answer of `query_range` that the test makes: values by the number of the step, null where there is none. */
async function drawn(address, of, options = {}) {
  const own = await newContext({ viewport: { width: 1360, height: 860 }, ...options });
  const page = await own.newPage();
  await page.route('**/api/v1/query_range?*', (route) => {
    const params = new URL(route.request().url()).searchParams;
    const [start, end] = [Number(params.get('start')), Number(params.get('end'))];
    const steps = Array.from({ length: end - start + 1 }, (_, i) => i);
    const result = Object.entries(of).map(([k, value]) => ({ metric: { k }, values: steps.filter((i) => value(i) !== null).map((i) => [start + i, String(value(i))]) }));
    return route.fulfill({ json: { status: 'success', data: { resultType: 'matrix', result } } });
  });
  await page.goto(server.url + address);
  await chartShows(page);
  const painted = (canvas, x, y) => page.evaluate(([n, fx, fy]) => {
    const one = document.querySelectorAll('.chart canvas')[n];
    const left = Math.round(one.width * fx);
    return one.getContext('2d').getImageData(left, Math.round(one.height * fy), 3, 3).data.some((byte) => byte !== 0);
  }, [canvas, x, y]);
  /** Waits until a canvas (0 axes, 1 values) has something, or nothing, at a share of its width and height. */
  page.paints = (wanted, [canvas, x, y], what) => eventually(async () => assert.equal(await painted(canvas, x, y), wanted, what));
  return page;
}

test('stacked areas end where a value is missing', async () => {
  const gap = (i) => (i > 40 && i < 80 ? null : 10);
  const page = await drawn('/query?g0.expr=stacked&g0.display_mode=stacked&g0.range_input=2m&g0.res_type=fixed&g0.res_step=1&g0.live=0', { a: gap, b: (i) => (gap(i) === null ? null : 5) });
  await page.paints(true, [1, 0.2, 0.7], 'an area before the gap');
  await page.paints(true, [1, 0.85, 0.7], 'an area behind it');
  await page.paints(false, [1, 0.5, 0.7], 'nothing in the gap');
  await page.context().close();
});

test('where the condition of an alert holds is shaded', async () => {
  const page = await drawn('/query?g0.expr=level+%3E+5&g0.range_input=2m&g0.res_type=fixed&g0.res_step=1&g0.live=0', { a: (i) => (i > 40 && i < 80 ? 9 : 1) });
  await page.paints(true, [0, 0.513, 0.2], 'there');
  await page.paints(false, [0, 0.213, 0.2], 'not before');
  await page.paints(false, [0, 0.513, 0.7], 'and only above the threshold');
  await page.context().close();
});

test('a drag with Shift zooms into values, and a button shows all again', async () => {
  const page = await drawn('/query?g0.expr=zoom&g0.range_input=2m&g0.res_type=fixed&g0.res_step=1&g0.live=0', { a: (i) => (i < 60 ? 1 : 9) });
  await page.paints(true, [1, 0.3, 0.84], 'the low values are near the lower edge');
  const box = await page.locator('.chart').boundingBox();
  await page.keyboard.down('Shift');
  await page.mouse.move(box.x + 400, box.y + 30);
  await page.mouse.down();
  await page.mouse.move(box.x + 402, box.y + 120, { steps: 4 });
  await page.mouse.up();
  await page.keyboard.up('Shift');
  await page.getByRole('button', { name: 'All values' }).waitFor(WAIT);
  await page.paints(false, [1, 0.3, 0.84], 'the low values are out of the picture');
  await page.getByRole('button', { name: 'All values' }).click();
  await page.paints(true, [1, 0.3, 0.84], 'all values are there again');
  await page.context().close();
});

test('times are those of the zone that the reader chooses, with its offset', async () => {
  const page = await drawn('/query?g0.expr=zones&g0.end_input=2026-10-25+03:00:00&g0.range_input=2h&g0.res_type=fixed&g0.res_step=1&g0.live=0', { a: () => 1 }, { timezoneId: 'Europe/Madrid' });
  const zone = page.locator('header button[title^="UTC or local"]');
  const end = page.getByLabel('End time');
  assert.equal(await end.inputValue(), '2026-10-25 03:00:00');
  await page.evaluate(() => document.activeElement?.blur());
  await page.keyboard.press('u');
  // The clocks went back at 01:00 UTC: 03:00 UTC is 04:00 there.
  await page.waitForFunction(() => document.querySelector('input.time').value === '2026-10-25 04:00:00', null, WAIT);
  assert.match(await zone.innerText(), /^UTC\+[12]$/);
  await page.context().close();
});

test('a tab that nobody looks at for a minute sleeps, and wakes', async () => {
  const own = await newContext({ viewport: { width: 1360, height: 860 } });
  const page = await own.newPage();
  await page.clock.install();
  await page.goto(`${server.url}/query?g0.expr=demo_wave`);
  const hide = (hidden) => page.evaluate((h) => {
    Object.defineProperty(document, 'hidden', { value: h, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
  await page.waitForFunction(() => /live/.test(document.querySelector('.clock').textContent), null, WAIT);
  await hide(true);
  await page.clock.runFor(61_000);
  await page.waitForFunction(() => /asleep/.test(document.querySelector('.clock').textContent), null, WAIT);
  await hide(false);
  await page.clock.runFor(1000);
  await page.waitForFunction(() => !/asleep/.test(document.querySelector('.clock').textContent), null, WAIT);
  await own.close();
});

/** Counts what a reader does with hands: clicks (a drag is one) and keys. */
function hands(page) {
  const count = { clicks: 0, keys: 0 };
  return {
    count,
    click: async (locator) => (count.clicks++, locator.click()),
    doubleClick: async (locator) => (count.clicks += 2, locator.dblclick()),
    press: async (key) => (count.keys++, page.keyboard.press(key)),
    type: async (text) => (count.keys += text.length, page.keyboard.type(text, { delay: 10 })),
  };
}

test('the frequent jobs take as few clicks and keys as docs/page.md says', async () => {
  const took = {};
  const job = async (name, path, work) => {
    const page = await open(path);
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await page.waitForFunction(() => /live/.test(document.querySelector('.clock')?.textContent ?? ''), null, WAIT);
    const reader = hands(page);
    await work(page, reader);
    took[name] = `${reader.count.clicks} clicks, ${reader.count.keys} keys`;
    await page.close();
  };
  const notInEditor = (page) => page.evaluate(() => document.activeElement?.blur());
  await job('what fires', '/query', async (page, reader) => {
    await page.waitForSelector('header .badge', WAIT);
    await reader.click(page.locator('nav > a:has-text("Alerts")'));
    await page.waitForSelector('.item', WAIT);
  });
  await job('why it fired', '/graph?g0.expr=demo_wave+%3E+0.5&g0.tab=1', async (page) => {
    await chartShows(page);
    assert.match(await bodyText(page), /drawn: demo_wave/);
  });
  await job('graph of a half-known metric', '/query', async (page, reader) => {
    await page.waitForFunction(() => document.activeElement?.shadowRoot?.activeElement != null, null, WAIT);
    await reader.type('demo_t');
    await offered(page, 'demo_temperature');
    await reader.press('Enter');
    await reader.press('Enter');
    await chartShows(page);
  });
  await job('which target is down, and why', '/query?g0.expr=up', async (page, reader) => {
    await notInEditor(page);
    await reader.press('g');
    await reader.press('t');
    await page.waitForSelector('text=server returned HTTP status 500', WAIT);
  });
  await job('break down by a label', '/query?g0.expr=demo_temperature_celsius', async (page, reader) => {
    await chartShows(page);
    await reader.doubleClick(page.locator('th:has-text("room")'));
    await page.waitForURL(/sum\+by\+%28room%29/, WAIT);
  });
  await job('zoom into a spike and back', '/query?g0.expr=demo_wave&g0.range_input=10s&g0.res_type=fixed&g0.res_step=1', async (page, reader) => {
    await chartShows(page);
    const box = await page.locator('.chart').boundingBox();
    await page.mouse.move(box.x + 400, box.y + 80);
    await page.mouse.down();
    await page.mouse.move(box.x + 600, box.y + 90, { steps: 4 });
    await page.mouse.up();
    reader.count.clicks++;
    await page.waitForURL(/end_input/, WAIT);
    await page.getByRole('button', { name: 'Zoom back' }).waitFor(WAIT);
    await reader.press('z');
    await page.waitForURL((url) => !url.search.includes('end_input'), WAIT);
  });
  await job('hand over exactly this view', '/query?g0.expr=demo_wave', async (page, reader) => {
    await chartShows(page);
    await notInEditor(page);
    await reader.press('y');
    await page.waitForSelector('.toast', WAIT);
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /end_input=\d{4}-\d\d-\d\d\+\d\d%3A.*res_step=5s/);
  });
  await job('what makes cardinality', '/query?g0.expr=up', async (page, reader) => {
    await notInEditor(page);
    await reader.press('g');
    await reader.press('c');
    await reader.click(page.locator('section button:has-text("demo_temperature_celsius")'));
    await page.waitForURL(/match=/, WAIT);
  });
  await job('what costs most', '/query?g0.expr=up', async (page, reader) => {
    await notInEditor(page);
    await reader.press('g');
    await reader.press('w');
    await page.waitForSelector('tr:has-text("path:demo_requests:rate1m")', WAIT);
  });
  assert.deepEqual(took, {
    'what fires': '1 clicks, 0 keys', 'why it fired': '0 clicks, 0 keys', 'graph of a half-known metric': '0 clicks, 8 keys',
    'which target is down, and why': '0 clicks, 2 keys', 'break down by a label': '2 clicks, 0 keys', 'zoom into a spike and back': '1 clicks, 1 keys',
    'hand over exactly this view': '0 clicks, 1 keys', 'what makes cardinality': '1 clicks, 2 keys', 'what costs most': '0 clicks, 2 keys',
  });
});

/** Waits until something holds. */
async function until(holds) {
  for (let i = 0; i < 150; i++) {
    if (await holds()) return;
    await sleep(100);
  }
  throw new Error('it does not come to hold');
}

/**
 * Tells a time and its budget. A machine that does something else must not make a test fail: only with `BUDGETS=hold`
 * is a time beyond its budget a failure.
 */
function within(t, what, milliseconds, budget) {
  t.diagnostic(`${what}: ${milliseconds.toFixed(1)} ms of ${budget}${milliseconds > budget ? ', too long' : ''}`);
  if (process.env.BUDGETS === 'hold') assert.ok(milliseconds <= budget, `${what}: ${milliseconds} ms`);
}

/** The least of some measurements: what it takes when the machine does nothing else. */
async function least(runs, measure, enough) {
  let best = Infinity;
  for (let i = 0; i < runs && best > enough; i++) best = Math.min(best, await measure());
  return best;
}

test('budget: the first picture within 250 ms, the page usable within 500 ms', { skip: fromDist }, async (t) => {
  const measure = (read) => async () => {
    const fresh = await newContext({ viewport: { width: 1360, height: 860 } });
    const page = await fresh.newPage();
    await page.goto(`${server.url}/query`);
    await page.waitForSelector('.editor', WAIT);
    const took = await page.evaluate(read);
    await fresh.close();
    return took;
  };
  const painted = () => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? Infinity;
  const paint = await least(12, measure(painted), 250);
  within(t, 'first picture', paint, 250);
  // The box of the expression takes letters as soon as the page is rendered, which `main.tsx` marks.
  const usable = await least(12, measure(() => performance.getEntriesByName('usable')[0]?.startTime ?? Infinity), 500);
  within(t, 'page usable', usable, 500);
});

/** An answer of `query_range` with 500 series of 1,000 points. */
function wide(url) {
  const end = Math.floor(Number(url.searchParams.get('end')));
  const series = (i) => ({ metric: { __name__: 'wide', room: `r${i % 20}`, sensor: `s${i}` }, values: Array.from({ length: 1000 }, (_, k) => [end - 999 + k, String(Math.round(1000 * Math.sin(k / 90 + i)) / 10 + i / 9)]) });
  return { status: 'success', data: { resultType: 'matrix', result: Array.from({ length: 500 }, (_, i) => series(i)) } };
}

test('budget: 500 series with 1,000 points: drawn within 100 ms, no long task under the pointer, 80 MB', async (t) => {
  const page = await context.newPage();
  await page.route('**/api/v1/query_range?*', (route) => route.fulfill({ json: wide(new URL(route.request().url())) }));
  await page.goto(`${server.url}/query?g0.expr=wide&g0.range_input=999s&g0.res_type=fixed&g0.res_step=1&g0.live=0`);
  await chartShows(page);
  const redraw = async () => {
    await page.evaluate(() => (window.__perennial.drawing.length = 0));
    await page.getByRole('button', { name: 'From 0' }).click();
    await page.waitForFunction(() => window.__perennial.drawing.length > 0, null, WAIT);
    return page.evaluate(() => Math.min(...window.__perennial.drawing));
  };
  const drawn = await least(12, redraw, 100);
  within(t, '500 series with 1,000 points', drawn, 100);
  const chart = await page.locator('.chart').boundingBox();
  await page.evaluate(() => {
    window.longTasks = [];
    new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map((e) => e.duration))).observe({ type: 'longtask' });
  });
  const hover = async () => {
    await page.evaluate(() => (window.longTasks.length = 0));
    for (let i = 0; i < 12; i++) {
      await page.mouse.move(chart.x + 200 + 40 * i, chart.y + 60 + 8 * i);
      await sleep(20);
    }
    await sleep(100);
    return page.evaluate(() => Math.max(0, ...window.longTasks));
  };
  within(t, 'longest task under the pointer', await least(8, hover, 0), 50);
  const session = await context.newCDPSession(page);
  await session.send('HeapProfiler.collectGarbage');
  const { usedSize } = await session.send('Runtime.getHeapUsage');
  assert.ok(usedSize <= 80e6, `${usedSize} bytes`);
  await page.close();
});

/** The gap between frames that 95 % of them keep, ms. A table that is named scrolls meanwhile. */
function frameGap(page, scrolled = '') {
  return page.evaluate((selector) => new Promise((done) => {
    const gaps = [];
    const box = selector === '' ? null : document.querySelector(selector);
    let last = performance.now();
    const tick = (t) => {
      gaps.push(t - last);
      last = t;
      if (box) box.scrollTop += 120;
      if (gaps.length < 120) requestAnimationFrame(tick);
      else done(gaps.slice(1).sort((a, b) => a - b)[Math.floor(gaps.length * 0.95)]);
    };
    requestAnimationFrame(tick);
  }), scrolled);
}

test('budget: a table of 10,000 rows scrolls at the pace of the screen', async (t) => {
  const page = await context.newPage();
  const columns = ['instance', 'job', 'path', 'status'].map((name) => ({ name, type: 'text' }));
  const rows = Array.from({ length: 10_000 }, (_, i) => [`10.0.${i >> 8}.${i & 255}:9100`, `job ${i % 7}`, `/api/${i % 90}`, String(200 + (i % 5))]);
  await page.route('**/api/v1/sql', (route) => route.fulfill({ json: { status: 'success', data: { columns, rows } } }));
  await page.goto(`${server.url}/sql?q=SELECT+1`);
  await page.waitForSelector('.virtual tr.r', WAIT);
  assert.ok(await page.locator('tr.r').count() < 120, 'only rows in sight are in the document');
  const worst = await least(6, () => frameGap(page, '.virtual'), 20);
  within(t, 'frames of a table that scrolls, 95 %', worst, 20);
  assert.ok(await page.evaluate(() => document.querySelector('.virtual').scrollTop) > 10_000);
  await page.close();
});

test('budget: 500 live series: a step is drawn within a frame, and frames come in time', async (t) => {
  const page = await open(`/query?g0.expr=${encodeURIComponent('demo_temperature_celsius{job="demo"}')}&g0.range_input=5m&g0.res_type=fixed&g0.res_step=1`);
  await chartShows(page);
  const work = async () => {
    await page.evaluate(() => (window.__perennial.drawing.length = 0));
    await page.waitForFunction(() => window.__perennial.drawing.length >= 3, null, WAIT);
    return page.evaluate(() => Math.min(...window.__perennial.drawing));
  };
  const step = await least(4, work, 16);
  within(t, 'a step of 500 live series', step, 16);
  within(t, 'frames of 500 live series, 95 %', await least(6, () => frameGap(page), 20), 20);
  await page.close();
});

test('budget: a filter over 5,000 rules is painted within 50 ms of the key', async (t) => {
  const page = await context.newPage();
  const time = new Date().toISOString();
  const rule = (i) => ({ type: 'recording', name: `job:metric_${i}:rate5m`, query: `sum by (job) (rate(metric_${i}[5m]))`, labels: {}, health: 'ok', evaluationTime: 0.001, lastEvaluation: time });
  const groups = Array.from({ length: 50 }, (_, g) => ({ name: `group ${g}`, file: 'rules.yml', interval: 15, limit: 0, evaluationTime: 0, lastEvaluation: time, rules: Array.from({ length: 100 }, (__, i) => rule(100 * g + i)) }));
  await page.route('**/api/v1/rules?*', (route) => route.fulfill({ json: { status: 'success', data: { groups } } }));
  await page.goto(`${server.url}/rules`);
  await page.waitForSelector('tr.r', WAIT);
  assert.ok(await page.locator('tr').count() < 120, 'only rows in sight are in the document');
  let n = 0;
  const filter = () => page.evaluate((text) => new Promise((done) => {
    const input = document.querySelector('input.find');
    const began = performance.now();
    input.value = text;
    input.dispatchEvent(new Event('input', { bubbles: true }));
    const look = () => requestAnimationFrame(document.querySelectorAll('tr.r').length === 1 ? () => done(performance.now() - began) : look);
    look();
  }), `metric_${1000 + n++}`);
  const took = await least(12, filter, 50);
  within(t, 'filter over 5,000 rules', took, 50);
  await page.close();
});

test('budget: a tab that nobody touches asks nothing', async () => {
  const page = await open('/query?g0.expr=demo_wave');
  await chartShows(page);
  const asked = [];
  page.on('request', (request) => asked.push(request.url()));
  // What the page asks when it opens has been asked when nothing was for a while.
  await eventually(async () => {
    const before = asked.length;
    await sleep(1500);
    assert.equal(asked.length, before, asked.join());
  });
  asked.length = 0;
  await sleep(5000);
  assert.deepEqual(asked, []);
  await page.close();
});

test('nothing happened that must not', () => assert.deepEqual(faults, []));
