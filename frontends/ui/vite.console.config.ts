// The second build: the script of console templates, one classic file under the name that they load it by. It is put
// beside what the first build made.
import { defineConfig } from 'vite';

export default defineConfig({
  publicDir: false,
  build: {
    emptyOutDir: false,
    target: 'es2022',
    rollupOptions: {
      input: 'src/console/prom_console.ts',
      output: { format: 'iife', entryFileNames: 'classic/static/js/prom_console.js' },
    },
  },
});
