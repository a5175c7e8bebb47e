// Serves the pages of dist in the place of those that the binary holds: they can be looked at and tested before the
// server is built with them.
import { existsSync, readFileSync } from 'node:fs';

const TYPES = { js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml', html: 'text/html' };
const DIST = new URL('../dist/', import.meta.url);
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'";

function answer(route) {
  const path = new URL(route.request().url()).pathname.slice(1);
  const file = path !== '' && existsSync(new URL(path, DIST)) ? path : 'index.html';
  let body = readFileSync(new URL(file, DIST));
  if (file === 'index.html') body = body.toString().replace('{{base}}', '/').replace('{{title}}', 'Perennial').replace('{{settings}}', '{&quot;lifecycle&quot;:true,&quot;admin&quot;:true}');
  return route.fulfill({ body, contentType: TYPES[file.split('.').pop()], headers: { 'Content-Security-Policy': POLICY } });
}

/** Lets a context of the browser see dist. */
export function showDist(context) {
  return context.route((url) => url.hostname === '127.0.0.1' && !/^\/(api\/|-\/|metrics|graph|consoles\/|user\/|$)/.test(url.pathname), answer);
}
