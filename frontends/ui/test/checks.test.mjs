import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { CHECKS } from './checks.mjs';

test('the list of checks is whole', () => {
  expect(CHECKS.map(([n]) => n)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
});

test.each(CHECKS.flatMap(([n, what, ...where]) => where.map(([file, name]) => ({ n, what, file, name }))))('check $n is there: $what', ({ file, name }) => {
  const source = readFileSync(new URL(file, import.meta.url), 'utf8');
  expect(source).toMatch(new RegExp(`\\ntest\\([\`']${name.replace(/[.*+?^\${}()|[\]\\]/g, '\\$&')}`));
});
