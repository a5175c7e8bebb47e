// Prometheus' own page in front of this server: node test/prometheus_page.mjs DIRECTORY
// DIRECTORY has the built files of its web/ui (mantine-ui, 3.x). Starts the server of PERENNIAL_BIN with the exporter of
// the tests, serves the files beside its API, opens every page in Chromium, presses what it has, and prints every
// error that is shown or logged, and every call of the API that is not answered.
import { createReadStream, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
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

/** Presses what has one of these names, if it is there. */
async function press(page, ...names) {
  for (const name of names) {
    const found = page.getByText(name, { exact: true }).locator('visible=true').first();
    if (await found.count() === 0) {
      pressed.missing.add(name);
      continue;
    }
    await found.click({ timeout: 2000 }).then(() => pressed.done.add(name), () => pressed.missing.add(name));
    await page.waitForTimeout(350);
  }
}

/** Opens what is closed. */
async function expand(page) {
  for (const item of await page.locator('.mantine-Accordion-control[aria-expanded="false"]:visible').all()) await item.click({ timeout: 1000 }).catch(() => undefined);
  await page.waitForTimeout(500);
}
const pressed = { done: new Set(), missing: new Set() };

/** What a reader does on a page, besides pressing its buttons. */
const ACTIONS = {
  '/query': async (page) => {
    await page.keyboard.press('Escape');
    const editor = page.locator('.cm-content').first();
    await editor.click();
    await page.keyboard.press('Control+a');
    await page.keyboard.type('rate(demo_requests_tot');
    await page.waitForTimeout(700);
    await page.keyboard.press('Enter');
    await page.keyboard.type('[1m])');
    await page.keyboard.press('Enter');
    await page.waitForTimeout(500);
    await press(page, 'Table', 'Graph', 'Explain');
    await page.getByLabel('Show query options').first().click({ timeout: 2000 }).catch(() => pressed.missing.add('query options'));
    await press(page, 'Show tree view');
    await page.waitForTimeout(700);
    await page.getByLabel('Show query options').first().click({ timeout: 2000 }).catch(() => undefined);
    await press(page, 'Format expression');
    await page.getByLabel('Show query options').first().click({ timeout: 2000 }).catch(() => undefined);
    await press(page, 'Explore metrics');
    await page.waitForTimeout(700);
    await press(page, 'demo_wave', 'demo_temperature_celsius');
    await page.waitForTimeout(1000);
    await page.keyboard.press('Escape');
    await press(page, 'Graph', 'Add query');
    for (const name of ['Increase range', 'Decrease range', 'Decrease time', 'Increase time']) await page.getByLabel(name).first().click({ timeout: 1500 }).catch(() => pressed.missing.add(name));
  },
  '/alerts': async (page) => {
    await page.locator('input[placeholder*="state" i]').first().click({ timeout: 1500 }).catch(() => pressed.missing.add('filter by state'));
    await page.locator('[role="option"]:has-text("firing"):visible').first().click({ timeout: 1500 }).then(() => pressed.done.add('firing'), () => pressed.missing.add('firing'));
    await page.keyboard.press('Escape');
    await expand(page);
  },
  '/targets': async (page) => {
    await expand(page);
    await press(page, 'Show config', 'Hide config');
    for (const item of (await page.locator('button[title^="Show discovered"]:visible').all()).slice(0, 4)) await item.click({ timeout: 1000 }).then(() => pressed.done.add('discovered labels'), () => undefined);
    await page.locator('input[placeholder*="filter" i]').last().fill('demo').catch(() => undefined);
  },
  '/service-discovery': async (page) => {
    await expand(page);
    await press(page, 'Show config', 'Hide config');
    for (const item of (await page.getByText('show relabeling', { exact: true }).locator('visible=true').all()).slice(0, 4)) {
      await item.click({ timeout: 1000 }).then(() => pressed.done.add('show relabeling'), () => pressed.missing.add('show relabeling'));
      await page.waitForTimeout(400);
      await page.keyboard.press('Escape');
      await page.waitForTimeout(300);
    }
    if (!pressed.done.has('show relabeling')) pressed.missing.add('show relabeling');
  },
  // A reload that fails is told by a notification.
  '/status': async (page) => {
    const file = `${server.directory}/prometheus.yml`;
    const text = readFileSync(file, 'utf8');
    writeFileSync(file, 'scrape_configs: 3');
    await fetch(`${server.url}/-/reload`, { method: 'POST' });
    const notices = page.getByLabel('Notifications').first();
    await notices.click({ timeout: 8000 }).then(() => pressed.done.add('Notifications'), () => tell('/status', 'shows no notification of a reload that failed'));
    await page.waitForTimeout(400);
    if (!/reload has failed/i.test(await page.locator('body').innerText())) tell('/status', `the notification does not say what failed: ${(await page.locator('body').innerText()).replace(/\s+/g, ' ').slice(0, 600)}`);
    writeFileSync(file, text);
    await fetch(`${server.url}/-/reload`, { method: 'POST' });
    await notices.waitFor({ state: 'detached', timeout: 8000 }).catch(() => tell('/status', 'the notification stays after a reload that succeeded'));
  },
};

const front = createServer(answer).listen(port, '127.0.0.1');
await new Promise((resolve) => setTimeout(resolve, 8000));
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
let faults = 0;
const tell = (path, text) => {
  faults += 1;
  console.log(`${path}: ${text}`);
};
try {
  for (const path of PAGES.filter((one) => one.startsWith(process.env.ONLY ?? ''))) {
    const page = await browser.newPage({ viewport: { width: 1360, height: 900 } });
    const calls = new Map();
    page.on('pageerror', (error) => tell(path, `error ${error.message}`));
    // The dialog of relabelling asks for no pool while it closes, and Prometheus answers the same 400.
    const isAsThere = (text) => /relabel_steps\?labels=%7B%7D&scrapePool=$|no scrapePool parameter provided/.test(text);
    page.on('console', (message) => message.type() === 'error' && !isAsThere(`${message.location().url} ${message.text()}`.trim()) && !isAsThere(message.location().url) && tell(path, `log ${message.text().slice(0, 300)}`));
    page.on('response', (response) => {
      const url = new URL(response.url());
      if (!url.pathname.startsWith('/api/')) return;
      calls.set(url.pathname, response.status());
      if (response.status() >= 400 && !isAsThere(response.url())) tell(path, `${response.status()} ${url.pathname}${url.search}`);
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
    await (ACTIONS[path.split('?')[0]] ?? (async () => undefined))(page, path);
    await page.waitForTimeout(500);
    const alerts = await page.locator('[role="alert"]:visible, .mantine-Alert-root:visible').allInnerTexts();
    // That the exporter's broken path cannot be scraped is meant.
    for (const text of alerts.filter((one) => !/Error scraping target/.test(one))) if (/error|failed|interrupted|unexpected/i.test(text)) tell(path, `shows ${text.replace(/\s+/g, ' ').slice(0, 300)}`);
    // The sign that live notifications are interrupted is no alert.
    if (await page.locator('.mantine-Indicator-indicator:visible', { hasText: '!' }).count() > 0) tell(path, 'shows that notifications are interrupted');
    console.log(`${path}: ${buttons.length} buttons, ${(await page.locator('body').innerText()).length} letters, calls ${[...calls].map(([call, status]) => `${call.replace('/api/v1/', '')} ${status}`).join(', ')}`);
    if (process.env.OUT) await page.screenshot({ path: `${process.env.OUT}/prometheus${path.replace(/\W+/g, '-').slice(0, 40)}.png` });
    await page.close();
  }
} finally {
  console.log(`pressed: ${[...pressed.done].join(', ')}`);
  console.log(`not there: ${[...pressed.missing].filter((name) => !pressed.done.has(name)).join(', ')}`);
  console.log(`${faults} faults`);
  await browser.close();
  front.close();
  front.closeAllConnections();
  await server.stop();
  exporter.close();
}
process.exitCode = faults === 0 ? 0 : 1;
