// Starts the real server with a configuration in a directory of its own.
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** A port that nobody listens at. */
export function freePort() {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

const RULES = `groups:
  - name: demo
    interval: 1s
    rules:
      - record: path:demo_requests:rate1m
        expr: sum by (path) (rate(demo_requests_total[1m]))
      - alert: Wave
        expr: demo_wave > 0.5
        labels: {severity: critical}
        annotations: {summary: "<img src=x onerror=window.__xss=7> {{ $labels.zone }}", runbook_url: "javascript:window.__xss=8"}
      - alert: Broken
        expr: demo_requests_total * on (path) demo_requests_total
      - alert: Quiet
        expr: up == 7
      - alert: Pending
        expr: demo_always > 0
        for: 1h
`;

/** Starts the binary; resolves when it is ready. `extra` are further flags, `files` further files of its directory, by name. */
export async function startServer(binary, exporterPort, extra = [], files = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'perennial-ui-'));
  const port = await freePort();
  writeFileSync(join(directory, 'prometheus.yml'), `global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs:
  - job_name: demo
    static_configs: [{targets: ["127.0.0.1:${exporterPort}"]}]
    relabel_configs: [{source_labels: [__address__], regex: '(.*):.*', target_label: host}]
  - job_name: broken
    metrics_path: /broken
    static_configs: [{targets: ["127.0.0.1:${exporterPort}"]}]
  - job_name: latency
    metrics_path: /latency
    convert_classic_histograms_to_nhcb: true
    always_scrape_classic_histograms: true
    static_configs: [{targets: ["127.0.0.1:${exporterPort}"]}]
  - job_name: dropped
    static_configs: [{targets: ["127.0.0.1:9"]}]
    relabel_configs: [{action: drop}]
`);
  for (const [name, text] of Object.entries({ 'rules.yml': RULES, ...files })) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), text);
  }
  const storage = extra.includes('--agent') ? 'agent' : 'tsdb';
  const server = { url: `http://127.0.0.1:${port}`, directory, process: null };
  server.start = async () => {
    server.process = spawn(binary, [`--config.file=${directory}/prometheus.yml`, `--storage.${storage}.path=${directory}/data`, `--web.listen-address=127.0.0.1:${port}`, '--web.enable-lifecycle', '--enable-feature=exemplar-storage', `--web.console.templates=${directory}/consoles`, `--web.console.libraries=${directory}/console_libraries`, ...extra], { stdio: 'ignore' });
    for (let i = 0; i < 300; i++) {
      const ready = await fetch(`${server.url}${server.prefix ?? ''}/-/ready`).then((r) => r.status === 200, () => false);
      if (ready) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error('the server does not become ready');
  };
  server.kill = (signal) => new Promise((resolve) => {
    server.process.once('exit', resolve);
    server.process.kill(signal);
  });
  server.stop = async () => {
    await server.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  };
  await server.start();
  return server;
}
