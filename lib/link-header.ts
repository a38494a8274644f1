/** Target of a link, in angle brackets. */
const targetPattern = /<([^<>]*)>/g
/** Parameter of a link, with a quoted value, a token or no value. */
const parameterPattern = /\s*;\s*([^\s;,="]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?/gy

/** Returns the relation types of a link whose parameters begin at `start`, and the index after the last parameter. */
function readRelations (text: string, start: number): { relations: string[], end: number } {
  let relations: string[] | undefined
  let end = start
  parameterPattern.lastIndex = start
  for (let found = parameterPattern.exec(text); found !== null; found = parameterPattern.exec(text)) {
    end = parameterPattern.lastIndex
    const [, name = '', quoted, token = ''] = found
    const value = quoted?.replace(/\\(.)/g, '$1') ?? token
    // A second `rel` of one link must be ignored (RFC 8288, section 3.3).
    if (name.toLowerCase() === 'rel') relations ??= value.toLowerCase().split(/\s+/)
  }
  return { relations: relations ?? [], end }
}

/**
 * Returns the target of the first link with a relation type, such as `next`, in the values of a `Link` header (RFC
 * 8288). The target may be relative. Returns undefined when no link has the type; text that is not a link is skipped.
 */
export function linkTarget (header: string | readonly string[] | undefined, relation: string): string | undefined {
  const text = typeof header === 'string' ? header : (header ?? []).join(', ')
  targetPattern.lastIndex = 0
  for (let found = targetPattern.exec(text); found !== null; found = targetPattern.exec(text)) {
    const { relations, end } = readRelations(text, targetPattern.lastIndex)
    if (relations.includes(relation)) return found[1]
    // Quoted values may contain angle brackets.
    targetPattern.lastIndex = end
  }
  return undefined
}
