import { expect, test } from 'vitest';
import { silenceOf, silencePage, type Silence, type SilenceMatcher } from '../src/format/silences';

const matcher = (name: string, value: string, isRegex = false, isEqual = true): SilenceMatcher => ({ name, value, isRegex, isEqual });
const silence = (id: string, endsAt: number, ...matchers: SilenceMatcher[]): Silence => ({ id, matchers, startsAt: 0, endsAt, createdBy: 'ana', comment: 'disk swap', alertmanager: 'http://am' });
const of = (...silences: Silence[]) => ({ alertmanagers: [], silences, externalLabels: { dc: 'x', job: 'external' } });

test.each([
  ['an equal label', [matcher('job', 'demo')], true],
  ['another one', [matcher('job', 'node')], false],
  ['a label that is not there', [matcher('zone', '')], true],
  ['a negative one', [matcher('job', 'node', false, false)], true],
  ['an expression for the whole value', [matcher('job', 'de.o', true)], true],
  ['an expression for a part of it', [matcher('job', 'em', true)], false],
  ['an expression that JavaScript does not read', [matcher('job', '(?i)demo', true)], false],
  ['all of several', [matcher('job', 'demo'), matcher('dc', 'x')], true],
  ['not all of several', [matcher('job', 'demo'), matcher('dc', 'y')], false],
])('a silence by %s', (_, matchers, silenced) => {
  expect(silenceOf({ alertname: 'A', job: 'demo' }, of(silence('s', 10, ...matchers))) !== undefined).toBe(silenced);
});

test('of several silences the one that ends last counts', () => {
  expect(silenceOf({ job: 'demo' }, of(silence('a', 10, matcher('job', 'demo')), silence('b', 20, matcher('job', 'demo'))))?.id).toBe('b');
  expect(silenceOf({ job: 'demo' }, null)).toBeUndefined();
});

test('the page of an Alertmanager has the labels filled in', () => {
  expect(decodeURIComponent(silencePage('http://am:9093/x/api/v2/alerts', { b: 'q"', a: '1' })!)).toBe('http://am:9093/x/#/silences/new?filter={a="1", b="q\\""}');
  expect(silencePage('http://hook/alerts', {})).toBeUndefined();
});
