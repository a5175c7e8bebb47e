// Takes screenshots of pages of a running server: node test/look.mjs URL OUT NAME=PATH…
// With DIST=1 the pages are those of dist, before the server was built with them.
// Widths 1360 and 390, light and dark. Prints what the console of the page said.
import { chromium } from 'playwright-core';
import { showDist } from './dist.mjs';

const [base, out, ...pages] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-features=LocalNetworkAccessChecks'] });
const widths = (process.env.WIDTHS ?? '1360,390').split(',').map(Number);
const themes = (process.env.THEMES ?? 'light,dark').split(',');
for (const width of widths) {
  for (const theme of themes) {
    const context = await browser.newContext({ viewport: { width, height: width < 640 ? 844 : 860 }, colorScheme: theme, deviceScaleFactor: 1 });
    if (process.env.DIST === '1') await showDist(context);
    for (const spec of pages) {
      const [name, ...path] = spec.split('=');
      const page = await context.newPage();
      page.on('console', (m) => m.type() !== 'debug' && console.log(name, width, theme, m.type(), m.text()));
      page.on('pageerror', (e) => console.log(name, width, theme, 'error', e.stack));
      await page.goto(base + path.join('='));
      await page.waitForTimeout(Number(process.env.WAIT ?? 1500));
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wide > 0) console.log(name, width, theme, 'scrolls sideways by', wide);
      await page.screenshot({ path: `${out}/${name}-${width}-${theme}.png`, fullPage: process.env.FULL === '1' });
      await page.close();
    }
    await context.close();
  }
}
await browser.close();
