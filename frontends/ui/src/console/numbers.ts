// How numbers are written on consoles: the formatters that old pages name, with the same answers.

const LARGE = ['k', 'M', 'G', 'T', 'P', 'E', 'Z', 'Y'];
const LARGE_1024 = LARGE.map((prefix) => `${prefix}i`);
const SMALL = ['m', 'u', 'n', 'p', 'f', 'a', 'z', 'y'];

/** A number and the prefix of its unit. */
interface Scaled { value: number; prefix: string }

function scaled(x: number, large: string[], small: string[], factor: number): Scaled {
  let value = x;
  let prefix = '';
  if (Math.abs(x) >= 1) {
    for (let i = 0; i < large.length && Math.abs(value) >= factor; i++) {
      value /= factor;
      prefix = large[i]!;
    }
  } else if (x !== 0) {
    for (let i = 0; i < small.length && Math.abs(value) < 1; i++) {
      value *= factor;
      prefix = small[i]!;
    }
  }
  return { value, prefix };
}

/** Without zeros at its end; a number in scientific notation stays as it is. */
export function withoutZeros(text: string): string {
  if (text.includes('e') || !text.includes('.')) return text;
  return text.replace(/0+$/, '').replace(/\.$/, '');
}

/** Up to three decimals; numbers below 1 in scientific notation. */
function short({ value, prefix }: Scaled): string {
  if (value !== 0 && Math.abs(value) < 1) return value.toExponential(3) + prefix;
  return withoutZeros(value.toFixed(3)) + prefix;
}

/** Writes a number; null is a value that is not there. */
type Formatter = (x: number | null) => string;

function ofNumber(write: (x: number) => string): Formatter {
  return (x) => (x === null ? 'null' : write(x));
}

export const NumberFormatter: Record<'humanize' | 'humanizeNoSmallPrefix' | 'humanize1024' | 'humanizeExact', Formatter> = {
  humanize: ofNumber((x) => short(scaled(x, LARGE, SMALL, 1000))),
  humanizeNoSmallPrefix: ofNumber((x) => {
    if (Math.abs(x) < 1) return withoutZeros(x.toPrecision(3));
    const { value, prefix } = scaled(x, LARGE, [], 1000);
    return withoutZeros(value.toFixed(3)) + prefix;
  }),
  humanize1024: ofNumber((x) => short(scaled(x, LARGE_1024, [], 1024))),
  humanizeExact: ofNumber((x) => {
    const { value, prefix } = scaled(x, LARGE, SMALL, 1000);
    return `${value}${prefix}`;
  }),
};
