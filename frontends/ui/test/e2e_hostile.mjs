// Names and texts from everywhere that are made to become elements or scripts, and do not: PERENNIAL_BIN=… node --test
// test/e2e_hostile.mjs. Each test has the number that it has in `checks.mjs`.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { readFileSync } from 'node:fs';
import { WAIT, begin, bodyText, chartShows, context, each, end, eventually, exporter, faults, fromDist, offered, open, server, settled, sleep, typeInPalette } from './browser.mjs';
import { METRIC } from './exporter.mjs';

/** A text that sets `window.__xss` if it becomes an element. */
const evil = (n) => `<img src=x onerror=window.__xss=${n}>`;
const LE = '<b onmouseover=window.__xss=28>';
const TITLE = '</title><script>window.__xss=37</script>';

const yaml = (text) => JSON.stringify(text);
const files = (port) => ({
  'prometheus.yml': `global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: ["*.yml.rules"]
scrape_configs:
  - job_name: demo
    static_configs: [{targets: ["127.0.0.1:${port}"]}]
  - job_name: ${yaml('</pre><script>window.__xss=36</script>')}
    metrics_path: /broken
    params: {${yaml(evil(35))}: [${yaml(evil(35))}]}
    static_configs: [{targets: ["127.0.0.1:${port}"], labels: {link: "javascript:window.__xss=35"}}]
  - job_name: latency
    metrics_path: /latency
    convert_classic_histograms_to_nhcb: true
    always_scrape_classic_histograms: true
    static_configs: [{targets: ["127.0.0.1:${port}"]}]
`,
  [`${evil(33).replaceAll('/', '')}.yml.rules`]: `groups:
  - name: ${yaml(evil(33))}
    rules:
      - alert: ${yaml(`Alert ${evil(33)}`)}
        expr: demo_always > 0
        labels: {severity: ${yaml(evil(33))}}
        annotations:
          summary: ${yaml(`${evil(31)} [link](javascript:window.__xss=31)`)}
          runbook_url: "javascript:window.__xss=32"
          data_url: "data:text/html,<script>window.__xss=32</script>"
          foreign_url: "//evil.test/"
          good_url: "https://example.org/wave"
`,
});

before(async () => {
  await begin(files, [`--web.page-title=${TITLE}`, '--enable-feature=promql-experimental-functions']);
  exporter.state.more = () => [
    '# HELP demo_help <iframe srcdoc="<script>parent.__xss=29</script>">', '# TYPE demo_help gauge', 'demo_help 1',
    '# TYPE demo_cells histogram', ...[['0.1', 3], [LE, 5], ['+Inf', 9]].map(([le, n]) => `demo_cells_bucket{le="${le}"} ${n}`), 'demo_cells_sum 4', 'demo_cells_count 9', '',
  ].join('\n');
  await eventually(async () => assert.ok(await has('demo_help')));
});
after(end);

async function has(name) {
  const response = await fetch(`${server.url}/api/v1/query?query=${name}`);
  return (await response.json()).data.result.length > 0;
}

const chart = (expr, more = '') => `/query?g0.expr=${encodeURIComponent(expr)}&g0.range_input=1m&g0.res_type=fixed&g0.res_step=1${more}`;

/** What is asserted of every page at its end. */
async function closeUntouched(page, what = page.url()) {
  // A text that became an element acts at once, or when its picture fails to load.
  await sleep(300);
  assert.equal(await page.evaluate(() => window.__xss), undefined, what);
  assert.equal(await page.locator('a[href^="javascript:" i], a[href^="data:" i], a[href*="evil.test"], iframe, object, embed').count(), 0, what);
  await page.close();
}

/** Moves the pointer over the chart until there is a tip. */
async function tip(page) {
  const box = await page.locator('.chart').boundingBox();
  let move = 0;
  await eventually(async () => {
    await page.mouse.move(box.x + box.width - 12 - 9 * (move++ % 30), box.y + box.height / 2);
    await page.waitForSelector('.tip', { timeout: 500 });
  });
  return page.locator('.tip').innerText();
}

test('21: a metric name in the tip of a chart', async () => {
  const page = await open(chart(`{__name__=~"${METRIC}|demo_always"}`));
  await chartShows(page);
  assert.ok((await tip(page)).includes(METRIC));
  await closeUntouched(page);
});

test('22: metric and label texts in legend and table', async () => {
  const page = await open(chart('demo_xss', '&g0.tab=1'));
  await page.waitForSelector('tbody tr.r', WAIT);
  assert.ok((await bodyText(page)).includes('<img src=x onerror=window.__xss=1>'));
  await closeUntouched(page);
});

test('23: a metric name that is completed becomes an expression that parses', async () => {
  const page = await open('/query');
  await page.waitForFunction(() => document.activeElement?.shadowRoot?.activeElement != null, null, WAIT);
  await page.keyboard.type('onmouse');
  await offered(page, '<b onmouseover');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Enter');
  await chartShows(page);
  assert.equal(await page.locator('.box.err').count(), 0);
  await closeUntouched(page);
});

test('24: a metric name in the search of the palette', async () => {
  const page = await open('/query?g0.expr=up');
  await chartShows(page);
  await typeInPalette(page, 'onmouse');
  await page.locator('[role="option"]').filter({ hasText: METRIC }).first().waitFor(WAIT);
  await closeUntouched(page);
});

test('25: a label name as the head of a column', async () => {
  const page = await open(chart(`{__name__=~"${METRIC}|demo_always"}`));
  await chartShows(page);
  await eventually(async () => assert.ok((await page.locator('thead').first().innerText()).includes('la<u>bel"x')));
  assert.equal(await page.locator('thead u').count(), 0);
  await closeUntouched(page);
});

test('26: a label value in a cell and in a file, where no spreadsheet takes it for a formula', async () => {
  const page = await open(chart('demo_xss'));
  await chartShows(page);
  assert.ok((await bodyText(page)).includes('"\'><script>window.__xss=2</script>'));
  const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'CSV' }).click()]);
  const csv = readFileSync(await file.path(), 'utf8');
  assert.ok(csv.includes("'=cmd|1"), csv);
  assert.ok(csv.includes('"""\'><script>window.__xss=2</script>"'), csv);
  await closeUntouched(page);
});

test('27: an address of scripts as a value is no link', async () => {
  const page = await open(chart('demo_xss'));
  await chartShows(page);
  assert.ok((await bodyText(page)).includes('javascript:window.__xss=3'));
  await closeUntouched(page);
});

test('28: the bound of a bucket on the axis of a heatmap', async () => {
  const page = await open(chart('demo_cells_bucket', '&g0.display_mode=heatmap'));
  await chartShows(page);
  await tip(page).catch(() => undefined);
  assert.ok((await bodyText(page)).includes(LE));
  await closeUntouched(page);
});

test('29, 30: help and unit of a metric', async () => {
  const page = await open('/query');
  await page.route('**/api/v1/search/metric_names?*', async (route) => {
    const line = { results: [{ name: 'demo_help', type: 'gauge', unit: '<style>*{display:none}</style>', help: '<iframe srcdoc="<script>parent.__xss=29</script>">' }] };
    await route.fulfill({ body: `${JSON.stringify(line)}\n${JSON.stringify({ status: 'success' })}\n`, contentType: 'application/x-ndjson' });
  });
  await page.waitForFunction(() => document.activeElement?.shadowRoot?.activeElement != null, null, WAIT);
  await page.keyboard.type('demo_he');
  await offered(page, 'demo_help');
  assert.equal(await page.evaluate(() => document.querySelector('.editor > div').shadowRoot.querySelectorAll('iframe').length), 0);
  await page.keyboard.press('Escape');
  await typeInPalette(page, 'demo_he');
  await page.waitForSelector('[role="option"]:has-text("demo_help")', WAIT);
  await closeUntouched(page);
  // The real one, from the exporter.
  const real = await open('/query');
  await typeInPalette(real, 'demo_he');
  await real.waitForSelector('[role="option"]:has-text("demo_help")', WAIT);
  await closeUntouched(real);
});

test('31, 32: annotations are texts, and only addresses of the web are links', async () => {
  const page = await open('/alerts');
  await page.waitForFunction(() => /__xss=31/.test(document.body.innerText), null, WAIT);
  const text = await bodyText(page);
  for (const part of [evil(31), '[link](javascript:window.__xss=31)', 'javascript:window.__xss=32', 'data:text/html,', '//evil.test/']) assert.ok(text.includes(part), part);
  const good = page.locator('a[href="https://example.org/wave"]').first();
  assert.equal(await good.getAttribute('rel'), 'noopener noreferrer');
  await closeUntouched(page);
});

test('33: names of rules, groups, files and labels of alerts', async () => {
  const { data } = await (await fetch(`${server.url}/api/v1/rules`)).json();
  const [group] = data.groups;
  const rule = encodeURIComponent(`${group.file};${group.name};${group.rules[0].name}`);
  const paths = ['/alerts', '/rules', '/lint', '/views', '/alerts/history', `/rules?rule=${rule}`, `/alerts/history?rule=${encodeURIComponent(group.rules[0].name)}`];
  await each(paths, async (path) => {
    const page = await open(path);
    await page.waitForFunction(() => /__xss=33/.test(document.body.innerText), null, WAIT);
    await closeUntouched(page, path);
  });
});

test('34, 35: errors of a scrape, and addresses of targets', async () => {
  const page = await open('/targets');
  await page.waitForFunction(() => /HTTP status 500/.test(document.body.innerText), null, WAIT);
  await page.locator('details.item').first().locator('summary').click();
  await page.waitForSelector('dl.kv', WAIT);
  await closeUntouched(page);
  const changed = await context.newPage();
  await changed.route('**/api/v1/targets?*', async (route) => {
    const answer = await (await route.fetch()).json();
    for (const [i, target] of answer.data.activeTargets.entries()) {
      target.scrapeUrl = i % 2 === 0 ? 'javascript:window.__xss=35' : 'http://user:secret@evil.test"><script>window.__xss=35</script>';
      target.lastError = '<b>boom</b><script>window.__xss=34</script>';
    }
    await route.fulfill({ json: answer });
  });
  await changed.goto(`${server.url}/targets`);
  await changed.waitForFunction(() => /<b>boom<\/b>/.test(document.body.innerText), null, WAIT);
  for (const item of await changed.locator('details.item > summary').all()) await item.click();
  await closeUntouched(changed);
});

test('36: the text of the configuration', async () => {
  const page = await open('/config');
  await page.waitForFunction(() => /<\/pre><script>window.__xss=36/.test(document.body.innerText), null, WAIT);
  await closeUntouched(page);
});

test('37: the title of the page', { skip: fromDist }, async () => {
  const page = await open('/query');
  await page.waitForSelector('.editor', WAIT);
  assert.ok((await page.title()).includes(TITLE));
  assert.equal(await page.evaluate(() => document.querySelectorAll('head script:not([src])').length), 0);
  await closeUntouched(page);
});

test('38: an error that repeats the query', async () => {
  const page = await open(chart(`${evil(38)} + )`));
  await page.waitForSelector('.box.err', WAIT);
  await closeUntouched(page);
  const sql = await open(`/sql?q=${encodeURIComponent(`SELECT 1 FROM "${evil(38)}"`)}`);
  await sql.waitForFunction(() => /__xss=38/.test(document.querySelector('.box.err')?.innerText ?? ''), null, WAIT);
  await closeUntouched(sql);
});

test('39: every parameter of an address, and what follows #', async () => {
  const text = encodeURIComponent(`"><script>window.__xss=39</script>${evil(39)}`);
  const of = {
    '/query': ['g0.expr', 'g0.tab', 'g0.range_input', 'g0.end_input', 'g0.moment_input', 'g0.step_input', 'g0.res_step', 'g0.display_mode', 'g0.color', 'g0.hidden', 'g0.only', 'g0.cmp'],
    '/alerts': ['state', 'search'], '/alerts/history': ['rule', 'fp', 'range'], '/targets': ['scrapePool', 'health', 'search'], '/service-discovery': ['pool', 'state', 'search'],
    '/rules': ['rule', 'state', 'search'], '/views': ['tab', 'search'], '/cardinality': ['match', 'focus', 'tab'], '/relabel': ['rules', 'labels', 'stage'], '/lint': ['state', 'search'],
    '/sql': ['q', 'every', 'view'], '/tsdb-status': ['limit'], '/flags': ['search'], '/config': ['search'],
  };
  const paths = Object.entries(of).map(([path, names]) => `${path}?${names.map((name) => `${name}=${text}`).join('&')}#${text}`);
  await each([...paths, `/views/${text}`, `/nothing${text}`], async (path) => {
    const page = await open(path);
    await settled(page);
    await closeUntouched(page, path);
  });
});

test('40: texts of the socket, names of columns, labels of exemplars, what relabelling makes', async () => {
  const page = await context.newPage();
  await page.routeWebSocket(/api\/v1\/subscribe/, (socket) => {
    const real = socket.connectToServer();
    socket.onMessage((message) => real.send(message));
    real.onMessage((message) => {
      const [kind, body] = Object.entries(JSON.parse(message))[0];
      socket.send(message);
      if (kind !== 'snapshot') return;
      socket.send(JSON.stringify({ error: { id: body.id, t: body.t, errorType: 'execution', error: evil(40) } }));
      socket.send(JSON.stringify({ notes: { id: body.id, t: body.t, warnings: [evil(40)], infos: [evil(40)] } }));
    });
  });
  await page.goto(server.url + chart('demo_wave'));
  await page.waitForFunction(() => /__xss=40/.test(document.body.innerText), null, WAIT);
  await closeUntouched(page);
  const sql = await open(`/sql?q=${encodeURIComponent(`SELECT value AS "${evil(40)}", '${evil(40)}' AS b FROM up`)}`);
  await sql.waitForFunction(() => /__xss=40/.test(document.querySelector('thead')?.innerText ?? ''), null, WAIT);
  await closeUntouched(sql);
  const exemplars = await open(chart('rate(demo_latency_seconds[10s])', '&g0.show_exemplars=1'));
  await chartShows(exemplars);
  await exemplars.waitForFunction(() => window.__perennial.exemplars?.() > 0, null, WAIT);
  await closeUntouched(exemplars);
  const labels = encodeURIComponent(`__address__="${evil(40).replaceAll('"', '')}"`);
  const relabel = await open(`/relabel?labels=${labels}&rules=${encodeURIComponent("- target_label: x\n  replacement: '<script>window.__xss=40</script>'")}`);
  await relabel.waitForFunction(() => /\+ x="<script>/.test(document.body.innerText), null, WAIT);
  await closeUntouched(relabel);
});

test('nothing happened that must not', () => assert.deepEqual(faults, []));
