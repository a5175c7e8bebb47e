// What moves by itself, over a longer time and with a bad connection: PERENNIAL_BIN=… node --test test/e2e_live.mjs
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { readFileSync, writeFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { PAGES, WAIT, api, begin, bodyText, chartHas, chartShows, context, each, end, eventually, exporter, faults, newContext, offered, open, server, settled, showsHistory, sleep, within } from './browser.mjs';

before(() => begin());
after(end);

/** How long the chart of the first test moves until it is compared, seconds. */
const LONG = 65;
const WAVE = 'demo_wave{job="demo"}';
const fixed = (expr, range) => `/query?g0.expr=${encodeURIComponent(expr)}&g0.res_type=fixed&g0.res_step=1&g0.range_input=${range}`;

let longest;
let since;

test('a chart moves by itself from here on', async () => {
  longest = await open(fixed(WAVE, '2m'));
  await chartShows(longest);
  since = Math.ceil(Date.now() / 1000) + 1;
  await chartHas(longest, since);
});

test('Shift-Enter begins a line, Enter takes what is offered, and then asks', async () => {
  const page = await open('/query');
  const editor = () => page.evaluate(() => document.querySelector('.editor > div').shadowRoot.querySelector('.cm-content')?.innerText ?? '');
  await page.waitForFunction(() => document.activeElement?.shadowRoot?.activeElement != null, null, WAIT);
  await page.keyboard.type('sum(');
  await page.keyboard.press('Escape');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('demo_wav');
  await offered(page, 'demo_wave');
  assert.ok(!page.url().includes('g0.expr'), 'nothing was asked yet');
  await page.keyboard.press('Enter');
  await eventually(async () => assert.match(await editor(), /^sum\(\s*\n\s*demo_wave/));
  assert.ok(!page.url().includes('g0.expr'), 'Enter took what was offered');
  await page.keyboard.press('Enter');
  await chartShows(page);
  await page.close();
});

test('changes that were lost are hatched until history has said what was there', async () => {
  const page = await context.newPage();
  let hold = null;
  await page.route('**/api/v1/query_range?*', async (route) => {
    await hold?.promise;
    await route.fallback();
  });
  /** The socket between: it drops what the chart hears, as a server does to a slow client. */
  const between = { id: '', drops: false, toPage: () => undefined, toServer: () => undefined };
  await page.routeWebSocket(/api\/v1\/subscribe/, (socket) => {
    const real = socket.connectToServer();
    between.toPage = (message) => socket.send(JSON.stringify(message));
    between.toServer = (message) => real.send(JSON.stringify(message));
    socket.onMessage((message) => real.send(message));
    real.onMessage((message) => {
      const [kind, body] = Object.entries(JSON.parse(message))[0];
      if (kind === 'subscribed' && body.query === WAVE) between.id = body.id;
      if (body.id === between.id && (between.drops || kind === 'unsubscribed')) return;
      socket.send(message);
    });
  });
  await page.goto(server.url + fixed(WAVE, '1m'));
  await chartShows(page);
  await chartHas(page, Math.ceil(Date.now() / 1000) + 1);
  between.drops = true;
  const from = Math.ceil(Date.now() / 1000);
  await sleep(5000);
  between.drops = false;
  hold = {};
  hold.promise = new Promise((resolve) => (hold.release = resolve));
  const to = Math.floor(Date.now() / 1000);
  between.toPage({ lost: { id: between.id, from, to } });
  between.toServer({ unsubscribe: between.id });
  between.toServer({ subscribe: { id: between.id, query: WAVE, envelope: 'indexed' } });
  /** Points in the colour of hairlines, which no series has. */
  const hatched = () => page.evaluate(() => {
    const canvas = document.querySelectorAll('.chart canvas')[1];
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let points = 0;
    for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200 && data[i] > 200 && Math.abs(data[i] - data[i + 2]) < 20) points++;
    return points;
  });
  await eventually(async () => assert.ok(await hatched() > 20, 'hatched'));
  hold.release();
  await eventually(async () => {
    await showsHistory(page, WAVE, { start: from - 2, end: to, step: 1 });
    assert.equal(await hatched(), 0, 'nothing is marked any longer');
  });
  await page.close();
});

test('samples that come after the steps that they belong to correct these', async () => {
  // Longer than a step: each sample concerns a step that was drawn without it.
  exporter.state.delay = 600;
  const page = await open(`/query?g0.expr=${encodeURIComponent(WAVE)}&g0.res_type=fixed&g0.res_step=0.5&g0.range_input=1m`);
  await chartShows(page);
  const start = Math.ceil(Date.now() / 1000) + 2;
  await chartHas(page, start + 6);
  // Long before the newest minute is asked again.
  await eventually(async () => assert.ok(await showsHistory(page, WAVE, { start, end: start + 6, step: 0.5 }) >= 26));
  exporter.state.delay = 0;
  await page.close();
});

test('where no socket opens, charts and lists are asked every 5 s, and the clock says so', async () => {
  const page = await context.newPage();
  await page.routeWebSocket(/api\/v1\/subscribe/, (socket) => socket.close());
  await page.goto(server.url + fixed(WAVE, '1m'));
  await chartShows(page);
  await page.waitForSelector('.clock:has-text("every 5 s")', WAIT);
  await page.waitForSelector('.foot:has-text("asked every 5 s, because no socket opens")', WAIT);
  await chartHas(page, Math.ceil(Date.now() / 1000) + 2);
  await page.close();
});

test('an alert that fires is on the page soon, without a reload', async (t) => {
  const page = await open('/alerts');
  await page.waitForSelector('.item', WAIT);
  const count = () => page.locator('button:has-text("Firing") .badge').innerText();
  const firing = async () => String((await api('alerts')).alerts.filter((a) => a.state === 'firing').length);
  let took = Infinity;
  for (let i = 0; i < 3; i++) {
    const old = await firing();
    await eventually(async () => assert.notEqual(await firing(), old), 20_000);
    const began = performance.now();
    // Under load it may have changed again until it is shown.
    await eventually(async () => assert.equal(await count(), await firing()));
    took = Math.min(took, performance.now() - began);
  }
  within(t, 'an alert on the page after the API has it', took, 1200);
  await page.close();
});

test('the history of alerts, the state of the configuration and the counts of series come by themselves', async () => {
  const page = await open('/alerts/history?rule=Wave&range=900');
  await page.waitForFunction(() => document.querySelectorAll('details.item').length >= 1, null, { timeout: 40_000 });
  const asked = [];
  page.on('request', (request) => asked.push(new URL(request.url()).pathname));
  const changes = () => page.evaluate(() => [...document.querySelectorAll('summary .num')].map((n) => n.textContent).join());
  const before = await changes();
  await eventually(async () => assert.notEqual(await changes(), before), 30_000);
  assert.ok(asked.filter((path) => path.endsWith('/alerts/history')).length <= 12, asked.join());
  await page.close();
  const counts = await open('/cardinality?focus=room');
  await counts.waitForSelector('text=live: counted with every sample', WAIT);
  const queries = [];
  counts.on('request', (request) => queries.push(request.url()));
  await eventually(async () => assert.match(await bodyText(counts), /By room: 2\d values/));
  exporter.state.more = () => Array.from({ length: 7 }, (_, i) => `demo_counted{n="${i}"} 1\n`).join('');
  await eventually(async () => assert.match(await bodyText(counts), /demo_counted\s+\d+/));
  exporter.state.more = () => '';
  assert.deepEqual(queries.filter((url) => /api\/v1\/query\?/.test(url)), []);
  await counts.close();
});

test('what is on the disk and not in force is shown before a reload', async () => {
  const file = `${server.directory}/prometheus.yml`;
  const text = readFileSync(file, 'utf8');
  const rules = readFileSync(`${server.directory}/rules.yml`, 'utf8');
  writeFileSync(file, text.replace('job_name: dropped', 'job_name: other'));
  writeFileSync(`${server.directory}/rules.yml`, rules.replace('demo_wave > 0.5', 'demo_wave > 0.6'));
  const page = await open('/config');
  await page.waitForSelector('h2:has-text("On the disk, not in force")', WAIT);
  const told = await page.getByRole('region', { name: 'What a reload would change' }).innerText();
  assert.match(told, /^- .*job_name: dropped$/m);
  assert.match(told, /^\+ .*job_name: other$/m);
  assert.match(await bodyText(page), /Rule groups changed: .*rules\.yml demo/);
  writeFileSync(file, text.replace('scrape_configs', 'scrape_config_of_nothing'));
  await page.reload();
  await page.waitForSelector('text=a reload would fail', WAIT);
  writeFileSync(file, text);
  writeFileSync(`${server.directory}/rules.yml`, rules);
  await page.reload();
  await page.waitForSelector('text=The files on the disk say the same', WAIT);
  await page.close();
});

test('who subscribes is listed, and a connection can be closed', async () => {
  const stop = new AbortController();
  const other = await fetch(`${server.url}/api/v1/subscribe?query=demo_always&format=ndjson&name=a%20script`, { signal: stop.signal });
  const reader = other.body.getReader();
  await reader.read();
  const page = await open('/views?tab=subscriptions');
  const row = page.locator('details.item:has-text("a script")');
  await row.waitFor(WAIT);
  await page.waitForSelector('details.item:has-text("this tab")', WAIT);
  await row.locator('summary').click();
  await row.locator('tr:has-text("demo_always")').waitFor(WAIT);
  await row.getByRole('button', { name: 'Close…' }).click();
  await row.getByRole('button', { name: 'Close it' }).click();
  await row.waitFor({ state: 'detached', ...WAIT });
  await eventually(async () => assert.equal((await reader.read()).done, true));
  stop.abort();
  await page.close();
});

test('the dataflow of a view is drawn from its samples to its readers', async () => {
  const { views } = await api('views');
  const { id } = views.find((view) => view.name === 'path:demo_requests:rate1m');
  const page = await open(`/views/${id}`);
  await page.waitForSelector('.flow .step.ring:has-text("demo_requests_total")', WAIT);
  for (const stage of ['shard', 'gather', 'answer', 'reader']) assert.ok(await page.locator(`.flow .step.${stage}`).count() > 0, stage);
  const left = (kind) => page.locator(`.flow .step.${kind}`).first().evaluate((e) => e.getBoundingClientRect().left);
  assert.ok(await left('ring') < await left('shard') && await left('shard') < await left('answer'), 'from left to right');
  assert.ok(await page.locator('.flow path').count() >= 3);
  await page.close();
});

async function switchTheme(page) {
  const theme = await page.evaluate(() => document.documentElement.dataset.theme);
  await page.evaluate(() => document.querySelector('header button[aria-label^="Switch to the"]').click());
  await page.waitForFunction((before) => document.documentElement.dataset.theme !== before, theme, WAIT);
}

const READINGS = 20;

/**
 * Reads something in the theme that is shown and in the other one. What comes in between must not count as a difference of the
 * themes: it is read in the first theme again, and all is repeated until both readings of it are the same.
 */
async function inBothThemes(page, read) {
  for (let i = 0; i < READINGS; i++) {
    const first = await read();
    await switchTheme(page);
    const other = await read();
    await switchTheme(page);
    if (isDeepStrictEqual(await read(), first)) return [first, other];
    await sleep(300);
  }
  return assert.fail(`${page.url()} does not come to rest`);
}

test('both themes have one layout, and nothing is cut off, at both widths', async () => {
  for (const width of [1360, 390]) {
    const own = await newContext({ viewport: { width, height: 844 }, colorScheme: 'light' });
    await each(PAGES, async (path) => {
      const page = await open(path, { context: own });
      await settled(page);
      // The pictures stand: what is compared moves less meanwhile.
      await page.evaluate(() => document.querySelector('.clock')?.click());
      const boxes = () => page.evaluate(() => [...document.querySelectorAll('h1, h2, main label, main select, header a')].filter((e) => e.checkVisibility()).map((e) => {
        const { left, top, width: w, height: h } = e.getBoundingClientRect();
        return `${e.tagName} ${e.textContent.slice(0, 20).replace(/\d+/g, '#')} ${[left, top, w, h].map(Math.round).join()}`;
      }));
      const [light, dark] = await inBothThemes(page, boxes);
      assert.ok(light.length > 0, `${path} at ${width}`);
      assert.deepEqual(dark, light, `${path} at ${width}`);
      /** Texts that stand beyond the edge of their element, which nobody can scroll to. */
      const cut = await page.evaluate(() => [...document.querySelectorAll('h1, h2, button, th, summary, label')].filter((e) => e.checkVisibility() && !e.closest('.hide') && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === 'hidden' && getComputedStyle(e).textOverflow !== 'ellipsis').map((e) => e.textContent));
      assert.deepEqual(cut, [], `${path} at ${width}`);
      await page.close();
    });
    await own.close();
  }
});

test(`a live chart shows after ${LONG} s what a reload shows`, async () => {
  const until = since + LONG;
  await chartHas(longest, until, (LONG + 20) * 1000);
  // A sample may be on its way while its step is drawn: the step is right some seconds later.
  await eventually(async () => assert.ok(await showsHistory(longest, WAVE, { start: since, end: until, step: 1 }) >= 2 * LONG));
  await longest.close();
});

test('nothing happened that must not', () => assert.deepEqual(faults, []));
