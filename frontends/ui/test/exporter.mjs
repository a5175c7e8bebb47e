// A target with what pages must bear: 500 series, NaN and infinities, hostile names and texts, and a broken path.
import { createServer } from 'node:http';

export const XSS = ['<img src=x onerror=window.__xss=1>', '"\'><script>window.__xss=2</script>', 'javascript:window.__xss=3', '</style><svg onload=window.__xss=4>', '=cmd|1'];
export const METRIC = '<b onmouseover=window.__xss=5>m</b>';

function escape(text) {
  return text.replace(/\\/g, '\\\\').replace(/"/g, '\\"');
}

function body(more) {
  const t = Date.now() / 1000;
  const lines = ['# HELP demo_requests_total Requests by path.', '# TYPE demo_requests_total counter'];
  for (const path of ['/api/users', '/api/orders', '/login']) for (const status of ['200', '500']) lines.push(`demo_requests_total{path="${path}",status="${status}"} ${(t - 1.7e9) * (status === '200' ? 10 : 0.3)}`);
  lines.push('# TYPE demo_temperature_celsius gauge');
  for (let i = 0; i < 500; i++) lines.push(`demo_temperature_celsius{sensor="s${String(i).padStart(3, '0')}",room="r${i % 20}"} ${20 + 5 * Math.sin(t / 300 + i / 10) + i / 50}`);
  lines.push('# TYPE demo_wave gauge', `demo_wave{zone="a"} ${0.5 + 0.5 * Math.sin(t / 3)}`, `demo_wave{zone="b"} ${0.5 + 0.5 * Math.cos(t / 3)}`);
  lines.push('# TYPE demo_nan gauge', 'demo_nan{k="nan"} NaN', 'demo_nan{k="inf"} +Inf', 'demo_nan{k="one"} 1', '# TYPE demo_always gauge', 'demo_always 1');
  lines.push(`# HELP demo_xss ${XSS[0]}`, '# TYPE demo_xss gauge');
  XSS.forEach((v, n) => lines.push(`demo_xss{n="${n}",v="${escape(v)}"} ${n + 1}`));
  lines.push(`{"${METRIC}","la<u>bel\\"x"="v"} 1`);
  return `${lines.join('\n')}\n${more()}`;
}

/** Serves it on a free port. `state.more` adds lines; `state.broken` makes `/broken` fail. */
export function startExporter() {
  const state = { more: () => '', broken: true };
  const server = createServer((request, response) => {
    if (request.url === '/broken' && state.broken) {
      response.writeHead(500);
      return response.end('<b>boom</b>');
    }
    response.writeHead(200, { 'Content-Type': 'text/plain; version=1.0.0; escaping=allow-utf-8' });
    return response.end(body(() => state.more()));
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve({ state, port: server.address().port, close: () => server.close() })));
}
