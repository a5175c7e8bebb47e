// The pictures of README and docs, of a running server: node test/pictures.mjs URL DIRECTORY
import { chromium } from 'playwright-core';

const [base, out] = process.argv.slice(2);
const PICTURES = [
  ['page-query', `/query?g0.expr=${encodeURIComponent('sum by (mode) (rate(node_cpu_seconds_total{mode!="idle"}[1m]))')}&g0.tab=0&g0.range_input=5m&g0.display_mode=stacked`, 620],
  ['page-alerts', '/alerts', 420],
];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-features=LocalNetworkAccessChecks'] });
for (const [name, path, height] of PICTURES) {
  const page = await browser.newPage({ viewport: { width: 1000, height }, colorScheme: 'light' });
  await page.goto(base + path);
  await page.waitForSelector('.chart, .item');
  await page.waitForTimeout(3000);
  await page.screenshot({ path: `${out}/${name}.png` });
}
await browser.close();
