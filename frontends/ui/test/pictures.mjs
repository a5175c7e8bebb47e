// The pictures of README and docs, of the running product: node test/pictures.mjs DIRECTORY
// Starts the server of PERENNIAL_BIN with the exporter of the tests and, where it is installed, Debian's
// node_exporter, waits until there is something to see, and takes them. With DIST=1 the pages are those of dist.
import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
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

/** Names, addresses, heights and what must be there before the picture is taken. */
const PICTURES = [
  ['page-query', existsSync(NODE_EXPORTER) ? query('sum by (mode) (rate(node_cpu_seconds_total{mode!="idle"}[10s]))', '&g0.display_mode=stacked') : query('sum by (path) (rate(demo_requests_total[10s]))', '&g0.display_mode=stacked'), 600, '.legend tr.r'],
  ['page-many', query('demo_temperature_celsius + on (sensor) group_left () (2 * sin(time() / 20 + 0 * demo_temperature_celsius))'), 480, '.legend tr.r'],
  ['page-heat', query('rate(demo_latency_seconds[10s])', '&g0.show_exemplars=1'), 440, '.legend tr.r'],
  ['page-sql', `/sql?q=${encodeURIComponent(SQL)}`, 560, '.legend tr.r'],
  ['page-alerts', '/alerts', 420, '.item'],
];

const exporter = await startExporter();
const server = await startServer(process.env.PERENNIAL_BIN, exporter.port);
let node;
if (existsSync(NODE_EXPORTER)) {
  const port = await freePort();
  node = spawn(NODE_EXPORTER, [`--web.listen-address=127.0.0.1:${port}`], { stdio: 'ignore' });
  appendFileSync(`${server.directory}/prometheus.yml`, `  - job_name: node\n    static_configs: [{targets: ["127.0.0.1:${port}"]}]\n`);
}
// The rules of the tests have hostile texts; those of the pictures are what people write.
writeFileSync(`${server.directory}/rules.yml`, readFileSync(`${server.directory}/rules.yml`, 'utf8').replace(/annotations: .*/, 'annotations: {summary: "The wave in zone {{ $labels.zone }} is high", runbook_url: "https://example.org/wave"}'));
await fetch(`${server.url}/-/reload`, { method: 'POST' });
await new Promise((resolve) => setTimeout(resolve, WAIT_SECONDS * 1000));
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-features=LocalNetworkAccessChecks'] });
try {
  for (const [name, path, height, there] of PICTURES) {
    const context = await browser.newContext({ viewport: { width: name === 'page-many' ? 760 : 1080, height }, colorScheme: 'light' });
    if (process.env.DIST === '1') await showDist(context);
    const page = await context.newPage();
    await page.goto(server.url + path);
    await page.waitForSelector(there);
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
