import { describe, expect, it } from 'vitest';
import { interpolate, usualName } from '../src/console/names';
import { NumberFormatter, withoutZeros } from '../src/console/numbers';

describe('numbers of consoles', () => {
  it('have the prefixes that templates know', () => {
    for (const [x, humanize, noSmall, binary, exact] of [
      [0, '0', '0', '0', '0'],
      [1234, '1.234k', '1.234k', '1.205ki', '1.234k'],
      [0.0123, '12.3m', '0.0123', '1.230e-2', '12.3m'],
      [-2_500_000, '-2.5M', '-2.5M', '-2.384Mi', '-2.5M'],
      [7, '7', '7', '7', '7'],
      [100, '100', '100', '100', '100'],
    ] as const) {
      expect(NumberFormatter.humanize(x), `${x}`).toBe(humanize);
      expect(NumberFormatter.humanizeNoSmallPrefix(x), `${x}`).toBe(noSmall);
      expect(NumberFormatter.humanize1024(x), `${x}`).toBe(binary);
      expect(NumberFormatter.humanizeExact(x), `${x}`).toBe(exact);
    }
    expect(NumberFormatter.humanize(null)).toBe('null');
    expect(withoutZeros('1.500')).toBe('1.5');
    expect(withoutZeros('100')).toBe('100');
    expect(withoutZeros('1.0e+3')).toBe('1.0e+3');
  });
});

describe('names of series on consoles', () => {
  it('are what the console says, else what tells them apart', () => {
    expect(interpolate('CPU [[ cpu ]] [[mode]]', { cpu: '0', mode: 'user' })).toBe('CPU 0 user');
    expect(interpolate('all', {})).toBe('all');
    const one = usualName([{ __name__: 'x', mode: 'user', job: 'n' }, { __name__: 'x', mode: 'idle', job: 'n' }]);
    expect(one({ __name__: 'x', mode: 'user', job: 'n' })).toBe('user');
    const several = usualName([{ __name__: 'x', a: '1', b: '1' }, { __name__: 'x', a: '2', b: '2' }]);
    expect(several({ __name__: 'x', a: '1', b: '1' })).toBe("x{a='1',b='1'}");
  });
});
