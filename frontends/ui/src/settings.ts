// What the server told the page in its head, and what the reader prefers.
import { signal, effect } from '@preact/signals';
import type { Zone } from './format/time';

/** Settings of the server, from the page's head. */
export interface ServerSettings {
  title: string;
  version: string;
  /** The server only scrapes and sends: it has no queries, rules and alerts. */
  agent: boolean;
  lifecycle: boolean;
  admin: boolean;
  /** Seconds. */
  lookback: number;
  /** Where the operator's own pages begin. */
  consoles: string | null;
}

function readSettings(): ServerSettings {
  const unknown: ServerSettings = { title: 'Perennial', version: '', agent: false, lifecycle: false, admin: false, lookback: 300, consoles: null };
  const text = document.querySelector('meta[name="perennial"]')?.getAttribute('content') ?? '';
  try {
    return { ...unknown, ...(JSON.parse(text) as Partial<ServerSettings>) };
  } catch {
    return unknown;
  }
}

/** The settings of the server. */
export const server = readSettings();
/** The first page. */
export const HOME = server.agent ? '/agent' : '/query';

/** Reads a preference; private windows may refuse. */
export function recall(key: string): string | null {
  try {
    return localStorage.getItem(`perennial.${key}`);
  } catch {
    return null;
  }
}

/** Keeps a preference if the browser allows it. */
export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(`perennial.${key}`, value);
  } catch {
    // Without storage the preference lasts as long as the page.
  }
}

const dark = matchMedia('(prefers-color-scheme: dark)');

/** The theme: as the system says until the reader chooses. */
export const theme = signal<'light' | 'dark'>((recall('theme') as 'light' | 'dark' | null) ?? (dark.matches ? 'dark' : 'light'));
/** The zone of all times. */
export const zone = signal<Zone>(recall('zone') === 'local' ? 'local' : 'utc');
/** The height of rows. */
export const density = signal<'dense' | 'relaxed'>(recall('density') === 'relaxed' ? 'relaxed' : 'dense');

dark.addEventListener('change', () => {
  if (recall('theme') === null) theme.value = dark.matches ? 'dark' : 'light';
});
effect(() => void (document.documentElement.dataset['theme'] = theme.value));
effect(() => void (document.documentElement.dataset['density'] = density.value));

/** Switches the theme and remembers it. */
export function toggleTheme(): void {
  theme.value = theme.value === 'dark' ? 'light' : 'dark';
  remember('theme', theme.value);
}

/** Switches between UTC and the browser's zone. */
export function toggleZone(): void {
  zone.value = zone.value === 'utc' ? 'local' : 'utc';
  remember('zone', zone.value);
}

/** Switches the height of rows. */
export function toggleDensity(): void {
  density.value = density.value === 'dense' ? 'relaxed' : 'dense';
  remember('density', density.value);
}
