// An alert as it stands in a rule file.

export interface RuleFields { alert: string; hold: string; severity: string }

/** The rule as it stands in a rule file. */
export function ruleText(expr: string, { alert, hold, severity }: RuleFields): string {
  const lines = expr.split('\n');
  // A block takes any text as it is; a plain scalar does not.
  const written = lines.length === 1 && !/[#:{}[\],&*!|>'"%@`]/.test(expr) ? [`expr: ${expr}`] : ['expr: |-', ...lines.map((line) => `  ${line}`)];
  const out = [`alert: ${alert || 'Test'}`, ...written];
  if (hold.trim() !== '') out.push(`for: ${hold.trim()}`);
  if (severity.trim() !== '') out.push('labels:', `  severity: ${JSON.stringify(severity.trim())}`);
  return `${out.join('\n')}\n`;
}
