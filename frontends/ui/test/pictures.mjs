// The pictures of README and docs, of the running product: node test/pictures.mjs DIRECTORY
// Starts the server of PERENNIAL_BIN with the exporter of the tests and, where they are installed, Debian's
// node_exporter and the example consoles of Prometheus' package, waits until there is something to see, and takes them. With DIST=1 the pages are those of dist.
import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { showDist } from './dist.mjs';
import { startExporter } from './exporter.mjs';
import { freePort, startServer } from './server.mjs';

const NODE_EXPORTER = '/usr/bin/prometheus-node-exporter';
const WAIT_SECONDS = Number(process.env.SECONDS ?? 150);
const [out] = process.argv.slice(2);
const query = (expr, more = '') => `/query?g0.expr=${encodeURIComponent(expr)}&g0.tab=0&g0.range_input=2m&g0.res_type=fixed&g0.res_step=1${more}`;
const SQL = `SELECT date_bin('5 seconds', ts) AS t, job, avg(value) AS seconds
FROM scrape_duration_seconds
WHERE ts BETWEEN now() - interval '2 minutes' AND now()
GROUP BY 1, 2`;

/** The example consoles of Debian's package, if it is there: files by the name that they have for the server. */
const EXAMPLES = '/usr/share/doc/prometheus/examples';
const consoles = Object.fromEntries(['consoles', 'console_libraries'].filter(() => existsSync(EXAMPLES)).flatMap((folder) => readdirSync(`${EXAMPLES}/${folder}`).map((name) => [`${folder}/${name}`, readFileSync(`${EXAMPLES}/${folder}/${name}`, 'utf8')])));

/** Tries a rule on the last hour, and waits until it is known what it would have done. */
async function tryRule(page) {
  await page.getByRole('button', { name: 'Make a rule…' }).click();
  const form = page.locator('form.make');
  await form.getByLabel('alert').fill('HighWave');
  await form.getByLabel('for').fill('2s');
  await form.getByLabel('severity').fill('warning');
  await form.getByLabel('on the last').selectOption('1h');
  await form.getByLabel('every').fill('1s');
  await form.getByRole('button', { name: 'Try' }).click();
  await form.getByRole('region', { name: 'What it would have done' }).waitFor();
  await form.scrollIntoViewIfNeeded();
}

/** Opens the first alert of the list. */
async function openFirst(page) {
  if (await page.locator('details.item').first().getAttribute('open') === null) await page.locator('details.item summary').first().click();
}

/** Names, addresses, heights, what must be there before the picture is taken, and what is done then. */
const PICTURES = [
  ['page-query', existsSync(NODE_EXPORTER) ? query('sum by (mode) (rate(node_cpu_seconds_total{mode!="idle"}[10s]))', '&g0.display_mode=stacked') : query('sum by (path) (rate(demo_requests_total[10s]))', '&g0.display_mode=stacked'), 600, '.legend tr.r'],
  ['page-many', query('demo_temperature_celsius + on (sensor) group_left () (2 * sin(time() / 20 + 0 * demo_temperature_celsius))'), 480, '.legend tr.r'],
  ['page-heat', query('rate(demo_latency_seconds[10s])', '&g0.show_exemplars=1'), 440, '.legend tr.r'],
  ['page-sql', `/sql?q=${encodeURIComponent(SQL)}`, 560, '.legend tr.r'],
  ['page-alerts', '/alerts', 420, '.item'],
  ['page-history', '/alerts/history?rule=Wave&range=900', 460, '.item', openFirst],
  ['page-rule', query('demo_wave > 0.5'), 760, '.legend tr.r', tryRule],
  ['page-lint', '/lint', 420, 'pre'],
];

const exporter = await startExporter();
const server = await startServer(process.env.PERENNIAL_BIN, exporter.port, [], consoles);
let node;
if (existsSync(NODE_EXPORTER)) {
  const port = await freePort();
  node = spawn(NODE_EXPORTER, [`--web.listen-address=127.0.0.1:${port}`], { stdio: 'ignore' });
  appendFileSync(`${server.directory}/prometheus.yml`, `  - job_name: node\n    static_configs: [{targets: ["127.0.0.1:${port}"]}]\n`);
  PICTURES.push(['page-console', `/consoles/node-overview.html?instance=127.0.0.1:${port}#pctc${encodeURIComponent('{"duration":120,"endTime":0}')}`, 640, '.prom_graph_legend button']);
}
// The rules of the tests have hostile texts; those of the pictures are what people write.
writeFileSync(`${server.directory}/rules.yml`, readFileSync(`${server.directory}/rules.yml`, 'utf8').replace(/annotations: .*/, 'annotations: {summary: "The wave in zone {{ $labels.zone }} is high", runbook_url: "https://example.org/wave"}'));
await fetch(`${server.url}/-/reload`, { method: 'POST' });
await new Promise((resolve) => setTimeout(resolve, WAIT_SECONDS * 1000));
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-features=LocalNetworkAccessChecks'] });
try {
  for (const [name, path, height, there, act] of PICTURES) {
    const context = await browser.newContext({ viewport: { width: name === 'page-many' ? 760 : 1080, height }, colorScheme: 'light' });
    if (process.env.DIST === '1') await showDist(context);
    const page = await context.newPage();
    await page.goto(server.url + path);
    await page.waitForSelector(there);
    await act?.(page);
    await page.waitForTimeout(3000);
    await page.screenshot({ path: `${out}/${name}.png` });
    await context.close();
  }
} finally {
  await browser.close();
  node?.kill();
  await server.stop();
  exporter.close();
}
