// Prometheus' own page in front of this server: node test/prometheus_page.mjs DIRECTORY
// DIRECTORY has the built files of its web/ui (mantine-ui, 3.x). Starts the server of PERENNIAL_BIN with the exporter of
// the tests, serves the files beside its API, opens every page in Chromium, presses what it has, and prints every
// error that is shown or logged, and every call of the API that is not answered.
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { createServer, request as ask } from 'node:http';
import { join, normalize } from 'node:path';
import { chromium } from 'playwright-core';
import { startExporter } from './exporter.mjs';
import { freePort, startServer } from './server.mjs';

const [directory] = process.argv.slice(2);
const TYPES = { js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml', html: 'text/html', ico: 'image/x-icon', woff2: 'font/woff2' };
const PAGES = ['/query?g0.expr=demo_wave&g0.tab=graph&g0.range_input=1m', '/query?g0.expr=up&g0.tab=table', '/query?g0.expr=sum+by+(path)(rate(demo_requests_total%5B1m%5D))&g0.show_tree=1&g0.tab=explain',
  '/query?g0.expr=demo_latency_seconds&g0.tab=table', '/alerts', '/targets', '/rules', '/service-discovery', '/status', '/tsdb-status', '/flags', '/config', '/alertmanager-discovery', '/agent'];

const exporter = await startExporter();
const server = await startServer(process.env.PERENNIAL_BIN, exporter.port);
const port = await freePort();

/** A file of the page, else what this server answers. */
function answer(request, response) {
  const path = new URL(request.url, 'http://x').pathname;
  const file = join(directory, normalize(path));
  if (/^\/(api|-)\//.test(path) || path === '/metrics') {
    const onward = ask(`${server.url}${request.url}`, { method: request.method, headers: request.headers }, (from) => {
      response.writeHead(from.statusCode, from.headers);
      from.pipe(response);
    });
    onward.on('error', () => response.destroy());
    response.on('close', () => onward.destroy());
    return request.pipe(onward);
  }
  if (path !== '/' && existsSync(file) && statSync(file).isFile()) {
    response.writeHead(200, { 'Content-Type': TYPES[file.split('.').pop()] ?? 'application/octet-stream' });
    return createReadStream(file).pipe(response);
  }
  // What Prometheus fills in.
  const html = readFileSync(join(directory, 'index.html'), 'utf8').replaceAll('CONSOLES_LINK_PLACEHOLDER', '').replaceAll('TITLE_PLACEHOLDER', 'Prometheus').replaceAll('AGENT_MODE_PLACEHOLDER', 'false').replaceAll('READY_PLACEHOLDER', 'true').replaceAll('LOOKBACKDELTA_PLACEHOLDER', '300000');
  response.writeHead(200, { 'Content-Type': 'text/html' });
  return response.end(html);
}

const front = createServer(answer).listen(port, '127.0.0.1');
await new Promise((resolve) => setTimeout(resolve, 8000));
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
let faults = 0;
const tell = (path, text) => {
  faults += 1;
  console.log(`${path}: ${text}`);
};
try {
  for (const path of PAGES) {
    const page = await browser.newPage({ viewport: { width: 1360, height: 900 } });
    const calls = new Map();
    page.on('pageerror', (error) => tell(path, `error ${error.message}`));
    page.on('console', (message) => message.type() === 'error' && tell(path, `log ${message.text().slice(0, 300)}`));
    page.on('response', (response) => {
      const url = new URL(response.url());
      if (!url.pathname.startsWith('/api/')) return;
      calls.set(url.pathname, response.status());
      if (response.status() >= 400) tell(path, `${response.status()} ${url.pathname}${url.search}`);
    });
    await page.goto(`http://127.0.0.1:${port}${path}`);
    await page.waitForTimeout(2500);
    // What opens by a press: groups, configurations, steps of relabelling, explanations.
    const buttons = await page.locator('main button:visible, [class*="AppShell-main"] button:visible').all();
    for (const button of buttons.slice(0, 25)) {
      const name = `${await button.innerText().catch(() => '')} ${await button.getAttribute('aria-label').catch(() => '') ?? ''}`;
      if (/remove|execute|clear|close/i.test(name)) continue;
      await button.click({ timeout: 800, trial: false }).catch(() => undefined);
      await page.waitForTimeout(120);
      await page.keyboard.press('Escape');
    }
    await page.waitForTimeout(500);
    const alerts = await page.locator('[role="alert"]:visible, .mantine-Alert-root:visible').allInnerTexts();
    // That the exporter's broken path cannot be scraped is meant.
    for (const text of alerts.filter((one) => !/Error scraping target/.test(one))) if (/error|failed|interrupted|unexpected/i.test(text)) tell(path, `shows ${text.replace(/\s+/g, ' ').slice(0, 300)}`);
    console.log(`${path}: ${buttons.length} buttons, ${(await page.locator('body').innerText()).length} letters, calls ${[...calls].map(([call, status]) => `${call.replace('/api/v1/', '')} ${status}`).join(', ')}`);
    if (process.env.OUT) await page.screenshot({ path: `${process.env.OUT}/prometheus${path.replace(/\W+/g, '-').slice(0, 40)}.png` });
    await page.close();
  }
} finally {
  console.log(`${faults} faults`);
  await browser.close();
  front.close();
  front.closeAllConnections();
  await server.stop();
  exporter.close();
}
process.exitCode = faults === 0 ? 0 : 1;
