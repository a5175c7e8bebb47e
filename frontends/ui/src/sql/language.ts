// Which language a text of a rule is in: the API gives both as `query`.

/** Whether a text is a statement in SQL and no expression of PromQL: two words in a row are no expression. */
export function isStatement(text: string): boolean {
  return /^\s*(?:select|with|values)\b/i.test(text) && /^\s*(?:select|with|values)\s*(?:\(|[a-z0-9_"'*$-])/i.test(text) && !/^\s*\w+\s+(?:and|or|unless|atan2|offset)\b/i.test(text);
}
