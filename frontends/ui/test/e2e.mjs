// The page in a browser, against the real server: PERENNIAL_BIN=… node --test test/e2e.mjs
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { readFileSync, writeFileSync } from 'node:fs';
import { PAGES, WAIT, api, begin, bodyText, chartHas, chartShows, each, end, eventually, exporter, faults, newContext, offered, open, pressClock, seriousFaults, server, settled, showsHistory, sleep, typeInPalette, versionOf, within } from './browser.mjs';
import { METRIC, XSS } from './exporter.mjs';
import { startServer } from './server.mjs';

/** A console as people have them: the library loads what those of Prometheus load, the page has a graph and the bar. */
const CONSOLES = {
  'console_libraries/prom.lib': `{{ define "head" }}<!doctype html><html lang="en"><head><title>Waves</title>
<link rel="stylesheet" href="{{ pathPrefix }}/classic/static/bootstrap4/css/bootstrap.min.css"><link rel="stylesheet" href="{{ pathPrefix }}/classic/static/css/prom_console.css">
${['d3/d3.min.js', 'vendor/rickshaw/vendor/d3.layout.min.js', 'rickshaw/rickshaw.min.js', 'jquery/jquery.min.js', 'popper.js', 'bootstrap4/js/bootstrap.min.js'].map((file) => `<script src="{{ pathPrefix }}/classic/static/${file}"></script>`).join('\n')}
<script>var PATH_PREFIX = "{{ pathPrefix }}";</script><script src="{{ pathPrefix }}/classic/static/js/prom_console.js"></script></head><body>{{ end }}`,
  'consoles/index.html': `{{ template "head" . }}<h1>Waves: {{ with query "count(demo_wave{job='demo'})" }}{{ . | first | value }}{{ end }}</h1><p id="hostile">{{ range query "demo_xss" }}{{ .Labels.v }}{{ end }}</p>
<div id="graph"></div><script>new PromConsole.Graph({node: document.querySelector("#graph"), expr: ["demo_wave{job='demo'}", "sum(demo_wave{job='demo'})"], name: ["wave [[ zone ]]", "both"], yTitle: "height", yUnits: "m", duration: 60});</script>
<div id="empty"></div><script>new PromConsole.Graph({node: document.querySelector("#empty"), expr: "nothing_has_this_name", renderer: "area"});</script>
${['duration_shrink', 'duration_grow', 'time_back', 'time_forward', 'refresh_button'].map((id) => `<button id="prom_graph_${id}">${id}</button>`).join('')}<input id="prom_graph_duration"><input id="prom_graph_time_end"><span id="prom_graph_refresh_button_value"></span><ul id="prom_graph_refresh_intervals"></ul>
<script>new PromConsole.TimeControl();</script></body></html>`,
};

before(() => begin(CONSOLES));
after(end);

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
  // A sample may be on its way while its step is drawn: the step is right some seconds later.
  await eventually(async () => assert.ok(await showsHistory(page, query, { start, end, step: 1 }) >= 30));
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

test('rows that are sorted by a value that moves keep their places', async () => {
  const page = await open(`/query?g0.range_input=1m&g0.res_type=fixed&g0.res_step=1&g0.expr=${encodeURIComponent('demo_temperature_celsius * sin(time() + 0 * demo_temperature_celsius)')}`);
  await chartShows(page);
  await page.waitForFunction(() => document.querySelector('table').getAttribute('aria-rowcount') === '501', null, WAIT);
  const legend = page.locator('.legend tbody');
  // Under the pointer the order is not renewed, however long that takes.
  await legend.hover();
  const read = () => page.evaluate(() => [...document.querySelectorAll('.legend tbody tr.r')].slice(0, 10).map((row) => ({ sensor: row.querySelector('[data-name="sensor"]').textContent, now: row.querySelector('[data-name="now"]').textContent })));
  const before = await read();
  await eventually(async () => assert.notDeepEqual((await read()).map((row) => row.now), before.map((row) => row.now)));
  await sleep(2500);
  assert.deepEqual((await read()).map((row) => row.sensor), before.map((row) => row.sensor));
  // Pressed, a head orders at once. If the values have changed their sign, the other direction is the order of before: it is
  // pressed again.
  await eventually(async () => {
    await page.locator('.legend th button:has-text("now")').click();
    assert.notDeepEqual((await read()).map((row) => row.sensor), before.map((row) => row.sensor));
  });
  await page.close();
});

test('alerts: broken first and not green, firing open, live', async () => {
  const page = await open('/alerts');
  await page.waitForSelector('.item', WAIT);
  await page.waitForFunction(() => /Broken/.test(document.querySelector('.item .name')?.textContent ?? ''), null, WAIT);
  await eventually(async () => assert.match(await page.locator('.item').first().innerText(), /evaluation fails/));
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
  await eventually(async () => assert.match(await bodyText(page), /drawn: demo_wave/));
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
  const quiet = await open('/flags');
  await quiet.waitForSelector('td:has-text("--config.file")', WAIT);
  await server.kill('SIGKILL');
  await page.waitForFunction(() => /offline/.test(document.querySelector('.clock').textContent), null, WAIT);
  await page.waitForSelector('.foot:has-text("waits for the server")', WAIT);
  // Also on a page that asks nothing.
  await quiet.waitForSelector('.gone:has-text("The server cannot be reached. What is shown is as of")', WAIT);
  await server.start();
  // Pressed at once if it still waits: when it is back, a press would pause.
  await page.evaluate(() => /offline/.test(document.querySelector('.clock').textContent) && document.querySelector('.clock').click());
  await page.waitForFunction(() => /live/.test(document.querySelector('.clock').textContent), null, WAIT);
  await quiet.waitForSelector('.gone', { state: 'detached', timeout: 40_000 });
  await quiet.close();
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
    await settled(page);
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
    await sleep(300);
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
  for (const [width, colorScheme] of [[390, 'light'], [1360, 'dark'], [1360, 'light'], [390, 'dark']]) {
    const other = await newContext({ viewport: { width, height: 844 }, colorScheme, bypassCSP: true });
    await each(PAGES, async (path) => {
      const page = await open(path, { context: other });
      await settled(page);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${path} at ${width}: ${over} pixels too wide`);
      assert.deepEqual(await seriousFaults(page), [], `${path} at ${width}, ${colorScheme}`);
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
  await eventually(async () => {
    const text = await bodyText(page);
    for (const value of XSS) assert.ok(text.includes(value), value);
  });
  const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'CSV' }).click()]);
  const csv = readFileSync(await file.path(), 'utf8');
  assert.match(csv, /\r\n'=cmd\|1\r\n/);
  assert.equal(await page.evaluate(() => window.__xss), undefined);
  await page.close();
});

test('histograms are cells, with quantiles and exemplars that are text', async () => {
  const page = await open(`/query?g0.expr=${encodeURIComponent('rate(demo_latency_seconds[10s])')}&g0.range_input=1m&g0.res_type=fixed&g0.res_step=1&g0.show_exemplars=1`);
  await chartShows(page);
  const heat = () => page.getByRole('button', { name: 'Heat' }).getAttribute('aria-pressed');
  await eventually(async () => assert.equal(await heat(), 'true'));
  const chart = await page.locator('.chart').boundingBox();
  await page.waitForFunction(() => window.__perennial.exemplars?.() > 0, null, WAIT);
  await page.mouse.move(chart.x + chart.width - 14, chart.y + chart.height / 2);
  await page.waitForFunction(() => /p50 .* p99/.test(document.querySelector('.tip')?.innerText ?? ''), null, WAIT);
  await page.getByRole('button', { name: 'Lines' }).click();
  await page.waitForURL(/display_mode=lines/, WAIT);
  await page.goto(`${server.url}/query?g0.expr=${encodeURIComponent('rate(demo_latency_seconds_bucket[10s])')}&g0.display_mode=heatmap`);
  await chartShows(page);
  await eventually(async () => assert.equal(await heat(), 'true'));
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
  await typeInPalette(page, 'demo_requ');
  await page.waitForSelector('[role="option"]:has-text("demo_requests_total")', WAIT);
  await page.keyboard.press('Enter');
  await page.waitForURL(/g0\.expr=demo_requests_total/, WAIT);
  await chartShows(page);
  await page.close();
});

test('consoles: a page of the operator, whose graphs move, with its bar', async () => {
  const page = await open('/query');
  await page.getByText('More ▾').click();
  await page.getByRole('link', { name: 'Consoles' }).click();
  await page.waitForURL('**/consoles/index.html', WAIT);
  assert.equal(await page.locator('h1').innerText(), 'Waves: 2');
  // The template escapes; the script writes texts only.
  for (const value of XSS) assert.ok((await page.locator('#hostile').innerText()).includes(value), value);
  const legend = page.locator('#graph .prom_graph_legend button');
  await eventually(async () => assert.deepEqual((await legend.allInnerTexts()).sort(), ['both', 'wave a', 'wave b']));
  assert.equal(await page.locator('#graph .prom_graph_ytitle').innerText(), 'height (m)');
  await eventually(async () => assert.equal(await page.locator('#empty .prom_graph_error').innerText(), 'No timeseries returned'));
  const values = () => page.evaluate(() => {
    const canvas = document.querySelectorAll('#graph canvas')[1];
    return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data].reduce((n, byte, i) => (n * 31 + byte * (i % 97)) % 1_000_003, 7);
  });
  // It is drawn, and drawn anew with the next samples, though nobody does anything.
  await eventually(async () => assert.notEqual(await values(), 7));
  const before = await values();
  await eventually(async () => assert.notEqual(await values(), before));
  assert.equal(await page.locator('#prom_graph_refresh_button_value').innerText(), 'Live');
  await page.locator('#prom_graph_duration_grow').click();
  await page.waitForFunction(() => /"duration":/.test(decodeURIComponent(location.hash)), null, WAIT);
  await page.locator('#prom_graph_time_back').click();
  await eventually(async () => assert.equal(await page.locator('#prom_graph_refresh_button_value').innerText(), 'Off'));
  await page.locator('#prom_graph_refresh_button').click();
  await eventually(async () => assert.equal(await page.locator('#prom_graph_time_end').inputValue(), ''));
  await legend.first().click();
  await page.waitForSelector('#graph .prom_graph_legend button.off', WAIT);
  await page.locator('#prom_graph_duration').fill('1m');
  await page.locator('#prom_graph_duration').press('Tab');
  const box = await page.locator('#graph .prom_graph_picture').boundingBox();
  await eventually(async () => {
    await page.mouse.move(box.x + box.width - 12 - 10 * Math.random(), box.y + box.height / 2);
    assert.match(await page.locator('#graph .prom_graph_tip').innerText(), /UTC, step 1s\n(wave [ab]|both): .*m$/m);
  });
  assert.equal(await page.locator('#graph a').getAttribute('href'), `${server.url}/graph?g0.expr=demo_wave%7Bjob%3D%27demo%27%7D&g0.tab=0&g1.expr=sum%28demo_wave%7Bjob%3D%27demo%27%7D%29&g1.tab=0`);
  assert.equal(await page.evaluate(() => window.__xss), undefined);
  await page.close();
});

test('a rule is made of an expression and tried on the past', async () => {
  const page = await open('/query?g0.expr=demo_wave+%3E+0.5');
  await chartShows(page);
  await page.getByRole('button', { name: 'Make a rule…' }).click();
  const form = page.locator('form.make');
  await form.getByLabel('alert').fill('HighWave');
  await form.getByLabel('for').fill('0s');
  await form.getByLabel('on the last').selectOption('1h');
  await form.getByLabel('every').fill('1s');
  await eventually(async () => assert.match(await form.locator('pre').first().innerText(), /^alert: HighWave\nexpr: \|-\n {2}demo_wave > 0\.5\nfor: 0s/));
  await form.getByRole('button', { name: 'Try' }).click();
  const outcome = form.getByRole('region', { name: 'What it would have done' });
  await eventually(async () => assert.match(await outcome.innerText(), /It would have fired \d+ times?, .*: \d+ notifications?\..* 3,?\d\d\d evaluations, one each 1s\./s));
  assert.ok(await outcome.locator('svg rect').count() > 0);
  await form.getByLabel('every').fill('soon');
  await eventually(async () => assert.equal(await form.getByRole('button', { name: 'Try' }).isDisabled(), true));
  await page.close();
});

test('the history of an alert says why: which series went from what to what', async () => {
  const page = await open('/alerts/history?rule=Wave');
  await page.waitForFunction(() => document.querySelectorAll('details.item').length >= 2, null, { timeout: 40_000 });
  for (const item of await page.locator('details.item').all()) if (await item.getAttribute('open') === null) await item.locator('summary').click();
  await page.waitForSelector('td:has-text("the condition began to hold")', WAIT);
  await eventually(async () => assert.match(await bodyText(page), /demo_wave\{.*zone="[ab]".*\}\s+0\.[0-4]\d* → (0\.[5-9]|1)/));
  await page.locator('a:has-text("Only this alert")').first().click();
  await page.waitForURL(/fp=/, WAIT);
  await page.waitForFunction(() => document.querySelectorAll('details.item').length === 1, null, WAIT);
  await page.close();
});

/** Starts a query that takes long; resolves to what its client is told. */
function longQuery(name) {
  // However little data there is: 21,600 windows of 21,600 values, half a minute.
  const query = `max_over_time(quantile_over_time(0.5, vector(${name})[6h:1s])[6h:1s])`;
  return fetch(`${server.url}/api/v1/query?timeout=60s&query=${encodeURIComponent(query)}`).then((response) => response.json());
}

test('queries that run are listed, and one that runs is stopped', async () => {
  const page = await open('/queries');
  await page.waitForSelector('h2:has-text("Active")', WAIT);
  const told = longQuery(17);
  const row = page.locator('tr:has-text("vector(17)")').first();
  await row.waitFor(WAIT);
  await row.getByRole('button', { name: 'Stop…' }).click();
  await row.getByRole('button', { name: 'Stop it' }).click();
  const answer = await told;
  assert.deepEqual([answer.status, answer.errorType, answer.error], ['error', 'canceled', 'query was canceled by the operator']);
  // It is among those that have ended, with the reason. The page lists the ones that took longest, which it may not be.
  await eventually(async () => {
    const { top } = await api('status/queries?window=1h&limit=1000');
    const own = top.find((query) => query.query.includes('vector(17)'));
    assert.equal(own?.lastError, 'query was canceled by the operator');
  });
  await page.waitForSelector('caption:has-text("Queries by the time they took")', WAIT);
  await page.close();
});

test('lists are told that they changed: a page that nobody touches asks for them then only', async () => {
  const page = await open('/targets');
  await page.waitForSelector('h2:has-text("Down")', WAIT);
  const asked = [];
  page.on('request', (request) => /api\/v1\/targets/.test(request.url()) && asked.push(request.url()));
  await eventually(async () => {
    const before = asked.length;
    await sleep(1500);
    assert.equal(asked.length, before);
  });
  const version = await versionOf('targets');
  asked.length = 0;
  await sleep(7000);
  // A busy machine may make a target fail: then it changed.
  const changed = (await versionOf('targets')) - version;
  assert.ok(asked.length <= changed, `${changed} changes: ${asked.join()}`);
  // The times of scrapes come by the series that each scrape writes.
  await eventually(async () => assert.match(await bodyText(page), /[01](\.\d+)? ?s ago/));
  asked.length = 0;
  const broken = await versionOf('targets');
  exporter.state.broken = false;
  await page.waitForFunction(() => document.querySelector('h2.err') === null, null, WAIT);
  assert.ok(asked.length >= 1 && asked.length <= Math.max(3, (await versionOf('targets')) - broken), asked.join());
  exporter.state.broken = true;
  await page.waitForSelector('h2.err', WAIT);
  await page.close();
});

test('what would hold too much is not kept current, and the page says why', async () => {
  const query = 'count(last_over_time({__name__=~".+"}[30d]))';
  const page = await open(`/query?g0.expr=${encodeURIComponent(query)}&g0.range_input=1m&g0.live=1`);
  await chartShows(page);
  const state = page.locator('.foot .live');
  await eventually(async () => assert.equal(await state.innerText(), '· live: evaluated once a second'));
  assert.match(await state.getAttribute('title'), /to keep it current would take about \d+ MiB, more than 64 MiB/);
  await page.close();
});

test('the whole is below a prefix, too', async () => {
  const prefixed = await startServer(process.env.PERENNIAL_BIN, exporter.port, ['--web.external-url=http://127.0.0.1/mon', '--web.route-prefix=/']).catch(() => null);
  assert.ok(prefixed);
  const html = await (await fetch(`${prefixed.url}/query`)).text();
  assert.match(html, /<base href="\/mon\/"/);
  const moved = await fetch(`${prefixed.url}/graph?g0.expr=up`, { redirect: 'manual' });
  assert.equal(moved.headers.get('location'), '/mon/query?g0.expr=up');
  // Without the flag for it nobody stops a query.
  assert.match(html, /&quot;admin&quot;:false/);
  const refused = await fetch(`${prefixed.url}/api/v1/status/queries/q1`, { method: 'DELETE' });
  assert.match((await refused.json()).error, /with --web\.enable-admin-api only/);
  await prefixed.stop();
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
  // Where it stands in the file, with the words marked below the line.
  await eventually(async () => assert.match(await page.locator('tr:has-text("raw counter")').innerText(), /rules\.yml:12:15.*12 │ expr: demo_requests_total .*\n {11}\^{19}/s));
  await page.getByRole('button', { name: /Warnings/ }).click();
  await page.waitForURL(/state=warning/, WAIT);
  await eventually(async () => assert.equal(await page.locator('tbody tr.r:has-text("evaluation")').count(), 0));
  await page.close();
});

test('series that vanished are listed with their last sample, and queries and subscriptions with their cost', async () => {
  exporter.state.more = () => 'demo_gone{n="1"} 1\n';
  await eventually(async () => assert.equal((await api('query?query=demo_gone')).result.length, 1));
  exporter.state.more = () => '';
  await eventually(async () => assert.equal((await api('query?query=demo_gone')).result.length, 0));
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
  await eventually(async () => assert.match((await api('status/config')).yaml, /job_name: dropped/));
  await page.close();
});

/**
 * Shows an answer of `query_range` that the test makes: values by the number of the step, null where there is none.
 * The address has an end: lines of the grid would be elsewhere at another time.
 */
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
  const page = await drawn('/query?g0.expr=stacked&g0.display_mode=stacked&g0.end_input=2026-10-25+03:00:00&g0.range_input=2m&g0.res_type=fixed&g0.res_step=1&g0.live=0', { a: gap, b: (i) => (gap(i) === null ? null : 5) });
  await page.paints(true, [1, 0.2, 0.7], 'an area before the gap');
  await page.paints(true, [1, 0.85, 0.7], 'an area behind it');
  await page.paints(false, [1, 0.5, 0.7], 'nothing in the gap');
  await page.context().close();
});

test('where the condition of an alert holds is shaded', async () => {
  const page = await drawn('/query?g0.expr=level+%3E+5&g0.end_input=2026-10-25+03:00:00&g0.range_input=2m&g0.res_type=fixed&g0.res_step=1&g0.live=0', { a: (i) => (i > 40 && i < 80 ? 9 : 1) });
  await page.paints(true, [0, 0.513, 0.2], 'there');
  await page.paints(false, [0, 0.213, 0.2], 'not before');
  await page.paints(false, [0, 0.513, 0.7], 'and only above the threshold');
  await page.context().close();
});

test('a drag with Shift zooms into values, and a button shows all again', async () => {
  const page = await drawn('/query?g0.expr=zoom&g0.end_input=2026-10-25+03:00:00&g0.range_input=2m&g0.res_type=fixed&g0.res_step=1&g0.live=0', { a: (i) => (i < 60 ? 1 : 9) });
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

test('the frequent jobs take as few clicks and keys as docs/page.md says', async (t) => {
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
    await eventually(async () => assert.match(await bodyText(page), /drawn: demo_wave/));
  });
  await job('graph of a half-known metric', '/query', async (page, reader) => {
    await page.waitForFunction(() => document.activeElement?.shadowRoot?.activeElement != null, null, WAIT);
    await reader.type('demo_t');
    await offered(page, 'demo_temperature');
    await reader.press('Enter');
    await reader.press('Enter');
    await chartShows(page);
  });
  await job('keep it current', '/query?g0.expr=demo_wave%7Bjob%3D%22demo%22%7D&g0.range_input=1m&g0.res_type=fixed&g0.res_step=1', async (page) => {
    await chartShows(page);
    await chartHas(page, Math.ceil(Date.now() / 1000) + 2);
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
  await job('find and stop the expensive query', '/query?g0.expr=up', async (page, reader) => {
    const told = longQuery(18);
    await notInEditor(page);
    await reader.press('g');
    await reader.press('w');
    const row = page.locator('tr:has-text("vector(18)")').first();
    await reader.click(row.getByRole('button', { name: 'Stop…' }));
    await reader.click(row.getByRole('button', { name: 'Stop it' }));
    assert.equal((await told).error, 'query was canceled by the operator');
  });
  // Of the others as the study counted them by hand, from their start pages.
  const others = {
    'what fires': ['4 clicks', 'through vmalert', '~4 clicks'], 'why it fired': ['2 clicks, 8 keys', '8 keys', '–'], 'graph of a half-known metric': ['1 click, 8 keys', '2 clicks, 9 keys', '~1 click, 9 keys'],
    'keep it current': ['60 keys in 5 min', '2 clicks', '2 clicks'], 'which target is down, and why': ['4 clicks', '–', '1 click, 9 keys'], 'break down by a label': ['~20 keys', '~20 keys', '3 clicks'],
    'zoom into a spike and back': ['1 drag, Back', '1 drag', '1 drag, 2 keys'], 'hand over exactly this view': ['3 clicks, a copy', 'a copy', '2 clicks'], 'what makes cardinality': ['2 clicks, no further', '1 click, 1 a step', '–'],
    'find and stop the expensive query': ['–', 'sees it only', '–'],
  };
  const line = (cells) => cells.map((cell, i) => cell.padEnd([36, 22, 18, 18, 0][i])).join(' ');
  t.diagnostic(line(['job', 'Prometheus 3.14', 'vmui 1.150', 'Grafana Explore', 'here']));
  for (const [name, by] of Object.entries(others)) t.diagnostic(line([name, ...by, took[name] ?? 'not tried']));
  assert.deepEqual(took, {
    'what fires': '1 clicks, 0 keys', 'why it fired': '0 clicks, 0 keys', 'graph of a half-known metric': '0 clicks, 8 keys', 'keep it current': '0 clicks, 0 keys',
    'which target is down, and why': '0 clicks, 2 keys', 'break down by a label': '2 clicks, 0 keys', 'zoom into a spike and back': '1 clicks, 1 keys',
    'hand over exactly this view': '0 clicks, 1 keys', 'what makes cardinality': '1 clicks, 2 keys', 'find and stop the expensive query': '2 clicks, 2 keys',
  });
});

test('nothing happened that must not', () => assert.deepEqual(faults, []));
