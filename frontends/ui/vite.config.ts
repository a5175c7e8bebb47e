// The build: one entry, and chunks that change seldom (the libraries) under names of their own, so that a commit
// of `dist` holds only what changed.
import { defineConfig } from 'vite';

const CHUNKS: [RegExp, string][] = [
  [/node_modules\/(@codemirror|@lezer|@prometheus-io|style-mod|w3c-keyname|crelt|lru-cache|@marijn)/, 'editor'],
  [/node_modules\/(preact|@preact)/, 'preact'],
];

/** Fills the placeholders of index.html as the server does, for `npm run dev`. */
const placeholders = {
  name: 'placeholders',
  apply: 'serve' as const,
  transformIndexHtml: (html: string) =>
    html.replace('{{base}}', '/').replace('{{title}}', 'Perennial').replace('{{settings}}', '{}'),
};

export default defineConfig({
  base: './',
  plugins: [placeholders],
  server: { host: '127.0.0.1', proxy: { '/api': { target: process.env['PERENNIAL_URL'] ?? 'http://127.0.0.1:9090', ws: true } } },
  build: {
    assetsDir: 'a',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: 'es2022',
    rollupOptions: {
      output: {
        manualChunks: (id: string) => CHUNKS.find(([pattern]) => pattern.test(id))?.[1],
      },
    },
  },
});
