import { isDeepStrictEqual } from 'node:util'

/** Whether two flat objects say the same; of lists in them, each element counts. */
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

/** An earlier object again where a new one says the same: what was made of it, such as its bytes, still holds. */
export const reuse = <T extends object>(before: T | undefined, now: T): T =>
  before !== undefined && (before === now || alike(before, now)) ? before : now

/** The same of a list, and of its elements one by one. */
export function reuseAll<T extends object> (before: readonly T[] | undefined, now: readonly T[]): readonly T[] {
  if (before === undefined) return now
  const kept = now.map((one, at) => reuse(before[at], one))
  return kept.length === before.length && kept.every((one, at) => one === before[at]) ? before : kept
}
