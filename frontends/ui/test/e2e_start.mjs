// What people open first, and how it looks when it opens: PERENNIAL_BIN=… node --test test/e2e_start.mjs
// The addresses that the server, README and alerts name; an agent; pages that do not move while they load.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { PAGES, WAIT, begin, chartShows, each, end, eventually, exporter, faults, least, newContext, open, seriousFaults, server, settled, sleep } from './browser.mjs';
import { freePort, startServer } from './server.mjs';

/** The notifications that a receiver in the place of an Alertmanager got. */
const notified = [];
const alertmanager = createServer((request, response) => {
  let text = '';
  request.on('data', (piece) => (text += piece));
  request.on('end', () => {
    if (request.method === 'POST') notified.push(...JSON.parse(text));
    response.writeHead(200, { 'Content-Type': 'application/json' });
    response.end('[]');
  });
});

const RULES = `groups:
  - name: demo
    interval: 1s
    rules:
      - {alert: Hot, expr: 'demo_temperature_celsius{sensor="s499"} > 1'}
      - {alert: Rate, expr: 'sum by (path) (rate(demo_requests_total[10s])) > 0.1'}
      - {alert: Absent, expr: 'absent(nothing_has_this_name)'}
      - {alert: Both, expr: 'demo_always == 1 and on () vector(1)'}
`;

before(async () => {
  await new Promise((resolve) => alertmanager.listen(0, '127.0.0.1', resolve));
  await begin((port) => ({
    'prometheus.yml': `global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yml, alerts.yml]
alerting: {alertmanagers: [{static_configs: [{targets: ["127.0.0.1:${alertmanager.address().port}"]}]}]}
scrape_configs:
  - {job_name: demo, static_configs: [{targets: ["127.0.0.1:${port}"]}]}
  - {job_name: broken, metrics_path: /broken, static_configs: [{targets: ["127.0.0.1:${port}"], labels: {long: "${'x'.repeat(400)}"}}]}
`,
    'alerts.yml': RULES,
  }));
});
after(async () => {
  await end();
  alertmanager.close();
  alertmanager.closeAllConnections();
});

test('the generatorURL of every alert leads to a page with its chart', async () => {
  const names = () => new Set(notified.map((alert) => alert.labels.alertname));
  await eventually(async () => assert.ok(['Hot', 'Rate', 'Absent', 'Both', 'Wave'].every((name) => names().has(name)), [...names()].join()), 40_000);
  const links = [...new Map(notified.map((alert) => [alert.labels.alertname, alert.generatorURL]))];
  await each(links, async ([name, link]) => {
    const { pathname, search } = new URL(link);
    assert.equal(pathname, '/graph', link);
    const page = await open(pathname + search);
    await chartShows(page);
    assert.equal(new URL(page.url()).pathname, '/query', name);
    assert.equal(await page.locator('.box.err').count(), 0, name);
    await page.close();
  });
});

/** Starts the binary as somebody does who has nothing but it. Returns its address, and what it said. */
async function startBare() {
  const directory = mkdtempSync(join(tmpdir(), 'perennial-first-'));
  const port = await freePort();
  const child = spawn(process.env.PERENNIAL_BIN, [`--web.listen-address=127.0.0.1:${port}`, `--storage.tsdb.path=${directory}/data`], { cwd: directory });
  const bare = { url: `http://127.0.0.1:${port}`, said: '', stop: null };
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (piece) => (bare.said += piece));
  bare.stop = async () => {
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
    rmSync(directory, { recursive: true, force: true });
  };
  await eventually(async () => assert.equal((await fetch(`${bare.url}/-/ready`)).status, 200), 30_000);
  return bare;
}

/** The first piece of an answer, which may have no end. */
async function firstOf(url) {
  const stop = new AbortController();
  const response = await fetch(url, { signal: stop.signal });
  const { value } = await response.body.getReader().read();
  stop.abort();
  return { status: response.status, text: new TextDecoder().decode(value) };
}

test('the addresses that the server names when it starts, --help and README lead to something', async () => {
  const bare = await startBare();
  try {
    const addresses = (text) => [...text.matchAll(/http:\/\/[^\s'"`<>)\\]+/g)].map(([address]) => address.replace(/[.,:;]+$/, ''));
    await eventually(async () => assert.ok(addresses(bare.said).some((address) => address.startsWith(bare.url)), bare.said));
    const help = await new Promise((resolve) => {
      let text = '';
      const child = spawn(process.env.PERENNIAL_BIN, ['--help']);
      child.stdout.on('data', (piece) => (text += piece));
      child.once('exit', () => resolve(text));
    });
    const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8');
    const own = (text, from) => addresses(text).filter((address) => address.startsWith(from)).map((address) => address.slice(from.length));
    const named = new Set([...own(bare.said, bare.url), ...own(help, 'http://127.0.0.1:9090'), ...own(readme, 'http://127.0.0.1:9090')]);
    assert.ok(named.has('') && named.has('/api/v1/rules') && named.size >= 5, [...named].join());
    // What curl adds to the address.
    for (const [, address, query] of readme.matchAll(/curl .*'http:\/\/127\.0\.0\.1:9090(\S*)' --data-urlencode 'query=([^']+)'/g)) {
      named.delete(address);
      named.add(`${address}?query=${encodeURIComponent(query)}`);
    }
    for (const address of named) {
      const { status, text } = await firstOf(bare.url + (address === '' ? '/' : address));
      assert.equal(status, 200, address);
      assert.doesNotMatch(text, /"status":"error"|^event: error/, address);
    }
    // What the tour shows in the page: a query with a chart, of the machine itself.
    const context = await newContext({ viewport: { width: 1360, height: 860 } });
    const page = await context.newPage();
    await page.goto(`${bare.url}/query?g0.expr=${encodeURIComponent('instance:cpu_busy:ratio')}&g0.range_input=5m`);
    await eventually(async () => {
      if (await page.locator('.legend tbody tr.r').count() === 0) await page.getByRole('button', { name: 'Run' }).click();
      assert.ok(await page.locator('.legend tbody tr.r').count() > 0, 'the recorded rule has values');
    }, 90_000);
    await context.close();
  } finally {
    await bare.stop();
  }
});

/** How far a page may move without being touched: what browsers call good is 0.1. */
const SHIFT = 0.1;

test('pages do not move while they load', async (t) => {
  for (const width of [1360, 390]) {
    const context = await newContext({ viewport: { width, height: 844 } });
    await context.addInitScript(() => {
      window.__shifts = [];
      const place = (node) => (node instanceof Element ? `${node.tagName.toLowerCase()}.${node.className}` : String(node?.textContent ?? '').slice(0, 40));
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.__shifts.push({ value: entry.value, of: entry.sources.map(({ node }) => place(node)) });
      }).observe({ type: 'layout-shift', buffered: true });
    });
    const found = [];
    await each(PAGES, async (path) => {
      // On a busy machine an answer may take longer than a page waits for it: the least of three.
      let seen = '';
      const shift = await least(3, async () => {
        const page = await open(path, { context });
        await settled(page);
        await sleep(500);
        const shifts = await page.evaluate(() => window.__shifts);
        await page.close();
        seen = JSON.stringify(shifts.filter(({ value }) => value > 0.01));
        return shifts.reduce((sum, { value }) => sum + value, 0);
      }, SHIFT);
      if (shift > 0.005) t.diagnostic(`${path} at ${width}: ${shift.toFixed(3)}`);
      if (shift > SHIFT) found.push(`${path} at ${width}: ${shift.toFixed(3)} ${seen}`);
    });
    assert.deepEqual(found, []);
    await context.close();
  }
});

test('a very long label makes no page wider, and the head fits', async () => {
  for (const width of [1360, 900, 700, 390]) {
    const context = await newContext({ viewport: { width, height: 844 } });
    await each(['/targets', '/alerts', '/service-discovery', '/rules', '/lint', '/alerts/history', '/query?g0.expr=up', '/query?g0.expr=up%7Bjob%3D%22broken%22%7D', '/cardinality?focus=long', '/cardinality?tab=vanished', '/tsdb-status', '/sql?q=SELECT+*+FROM+up', '/config'], async (path) => {
      const page = await open(path, { context });
      await settled(page);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${path} at ${width}: ${over} pixels too wide`);
      await page.close();
    });
    await context.close();
  }
});

test('a server that starts, and one that cannot go on, say so', async () => {
  const context = await newContext({ viewport: { width: 1360, height: 844 } });
  // A test cannot keep a server in these states: this is what it answers in them.
  let text = 'Service Unavailable';
  await context.route('**/-/ready', (route) => route.fulfill({ status: 503, contentType: 'text/plain', body: text }));
  const page = await context.newPage();
  await page.goto(`${server.url}/flags`);
  await page.waitForSelector('.box.info:has-text("The server is starting. Service Unavailable")', WAIT);
  text = 'Prometheus Server is not Healthy: the data directory x is gone';
  await page.waitForSelector('.box.err:has-text("The server is not Healthy: the data directory x is gone")', WAIT);
  assert.doesNotMatch(await page.locator('main').innerText(), /starting/);
  await context.unroute('**/-/ready');
  await page.waitForFunction(() => document.querySelector('main .box') === null, null, WAIT);
  await context.close();
});

test('an agent has its pages, and axe finds nothing serious on them', async () => {
  const agent = await startServer(process.env.PERENNIAL_BIN, exporter.port, ['--agent'], {
    'prometheus.yml': `global: {scrape_interval: 1s}
scrape_configs:
  - {job_name: demo, static_configs: [{targets: ["127.0.0.1:${exporter.port}"]}]}
  - {job_name: broken, metrics_path: /broken, static_configs: [{targets: ["127.0.0.1:${exporter.port}"]}]}
remote_write: [{url: "${server.url}/api/v1/write"}]
`,
  });
  try {
    for (const [width, colorScheme] of [[1360, 'light'], [390, 'dark']]) {
      const context = await newContext({ viewport: { width, height: 844 }, colorScheme, bypassCSP: true });
      await each(['/', '/agent', '/targets', '/service-discovery', '/relabel', '/status', '/config', '/flags'], async (path) => {
        const page = await context.newPage();
        const errors = [];
        page.on('pageerror', (error) => errors.push(error.stack));
        page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
        await page.goto(agent.url + path);
        await page.waitForSelector('main h1', WAIT);
        await eventually(async () => assert.equal(await page.locator('.part').count(), 0));
        if (path === '/') assert.equal(new URL(page.url()).pathname, '/agent');
        const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(over <= 0, `${path} at ${width}: ${over} pixels too wide`);
        assert.deepEqual(await seriousFaults(page), [], `${path} at ${width}, ${colorScheme}`);
        assert.deepEqual(errors, [], path);
        await page.close();
      });
      await context.close();
    }
  } finally {
    await agent.stop();
  }
});

test('nothing happened that must not', () => assert.deepEqual(faults, []));
