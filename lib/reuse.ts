import { isDeepStrictEqual } from 'node:util'

/** Returns whether two flat objects have equal properties; lists are compared by their elements. */
function alike<T extends object> (one: T, other: T): boolean {
  for (
    const key in one
  ) {
    if (one[key] !== other[key] && !(Array.isArray(one[key]) && isDeepStrictEqual(one[key], other[key]))) {
      return false
    }
  }
  for (const key in other) if (!Object.hasOwn(one, key)) return false
  return true
}

/**
 * Returns `before` when it equals `now`, so that data derived from the earlier object, such as its bytes, can be
 * reused.
 */
export const reuse = <T extends object>(before: T | undefined, now: T): T =>
  before !== undefined && (before === now || alike(before, now)) ? before : now

/** Reuses the earlier elements of a list where they are equal, and the list itself when all of them are. */
export function reuseAll<T extends object> (before: readonly T[] | undefined, now: readonly T[]): readonly T[] {
  if (before === undefined) return now
  const kept = now.map((one, at) => reuse(before[at], one))
  return kept.length === before.length && kept.every((one, at) => one === before[at]) ? before : kept
}
