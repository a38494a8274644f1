import type { Test } from 'tap'

const isPlain = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype

/** Returns `found` reduced to the keys of `pattern`; a value that matches a pattern is replaced by the pattern. */
function reduced (found: unknown, pattern: unknown): unknown {
  if (pattern instanceof RegExp) return typeof found === 'string' && pattern.test(found) ? pattern : found
  if (pattern === String) return typeof found === 'string' ? pattern : found
  if (pattern === Number) return typeof found === 'number' ? pattern : found
  if (typeof pattern === 'function') return found instanceof pattern ? pattern : found
  if (Array.isArray(pattern)) {
    return Array.isArray(found) ? found.map((item, at) => at in pattern ? reduced(item, pattern[at]) : item) : found
  }
  if (!isPlain(pattern) || typeof found !== 'object' || found === null || Array.isArray(found)) return found
  const values = found as Record<string, unknown>
  return Object.fromEntries(Object.keys(pattern).map(key => [key, reduced(values[key], pattern[key])]))
}

/**
 * Asserts that a value matches a pattern whose lists are complete. `t.match` accepts longer lists, and text that
 * contains the text of the pattern. Here lists have the length of their pattern, and text is equal. Objects may have
 * further keys. A regular expression, `String`, `Number` or a class matches as in `t.match`.
 */
export function matchStrictly (t: Test, found: unknown, pattern: unknown, message = 'matches'): void {
  t.strictSame(reduced(found, pattern), pattern, message)
}

/** Asserts that a text has a line, such as a sample of a metric. In `t.match` the value 1 is also found in 10. */
export function hasLine (t: Test, text: string, line: string, message = line): void {
  t.ok(text.split('\n').includes(line), message)
}
