// A target with what pages must bear: 500 series, NaN and infinities, hostile names and texts, histograms with
// exemplars, and a broken path.
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

const BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];
const latency = { counts: new Array(BOUNDS.length + 1).fill(0), sum: 0, last: 0, at: 0 };

/** Observes requests whose duration moves up and down. */
function observe() {
  const t = Date.now() / 1000;
  for (let i = 0; i < 60; i++) {
    const seconds = 0.04 * Math.exp(1.2 * Math.sin(t / 40) + (Math.random() + Math.random() + Math.random() - 1.5));
    const at = BOUNDS.findIndex((bound) => seconds <= bound);
    latency.counts[at < 0 ? BOUNDS.length : at]++;
    latency.sum += seconds;
    latency.last = seconds;
  }
  latency.at = t;
}

/** A histogram with exemplars, in the format of OpenMetrics. */
function openMetrics() {
  observe();
  const lines = ['# TYPE demo_latency_seconds histogram', '# UNIT demo_latency_seconds seconds', '# HELP demo_latency_seconds Duration of requests.'];
  const own = BOUNDS.findIndex((bound) => latency.last <= bound);
  let count = 0;
  latency.counts.forEach((n, i) => {
    count += n;
    const exemplar = i === (own < 0 ? BOUNDS.length : own) ? ` # {trace_id="${Math.floor(latency.at * 1000).toString(16)}<b>",url="https://traces.example/${Math.floor(latency.at)}"} ${latency.last} ${latency.at}` : '';
    lines.push(`demo_latency_seconds_bucket{le="${BOUNDS[i] ?? '+Inf'}"} ${count}${exemplar}`);
  });
  lines.push(`demo_latency_seconds_sum ${latency.sum}`, `demo_latency_seconds_count ${count}`, '# EOF');
  return `${lines.join('\n')}\n`;
}

/** Serves it on a free port. `state.more` adds lines; `state.broken` makes `/broken` fail; `state.delay`: ms until it answers. */
export function startExporter() {
  const state = { more: () => '', broken: true, delay: 0 };
  const server = createServer((request, response) => {
    if (/^\/broken(\?|$)/.test(request.url) && state.broken) {
      response.writeHead(500);
      return response.end('<b>boom</b>');
    }
    if (request.url === '/latency') {
      response.writeHead(200, { 'Content-Type': 'application/openmetrics-text; version=1.0.0; charset=utf-8' });
      return response.end(openMetrics());
    }
    response.writeHead(200, { 'Content-Type': 'text/plain; version=1.0.0; escaping=allow-utf-8' });
    return void setTimeout(() => response.end(body(() => state.more())), state.delay);
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve({ state, port: server.address().port, close: () => server.close() })));
}
