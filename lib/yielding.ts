import { setImmediate as turn } from 'node:timers/promises'

/** Milliseconds after which long work yields to the event loop. */
const piece = 4
/** Number of steps between two reads of the clock. */
const steps = 4
/** Number of elements that are sorted or merged between two reads of the clock; at most a millisecond. */
const run = 1024

/** Calls `step` for each item and yields to the event loop regularly, so that other work can run. */
export async function forEachYielding<T> (things: Iterable<T>, step: (thing: T) => void): Promise<void> {
  let began = performance.now()
  let done = 0
  for (const thing of things) {
    step(thing)
    if (++done % steps !== 0 || performance.now() - began < piece) continue
    await turn()
    began = performance.now()
  }
}

/** Returns the lists of a sequence, each with up to `run` elements. */
function * runsOf<T> (things: Iterable<T>): Generator<T[]> {
  let next: T[] = []
  for (const thing of things) {
    next.push(thing)
    if (next.length < run) continue
    yield next
    next = []
  }
  if (next.length > 0) yield next
}

/**
 * Returns the elements sorted, and yields to the event loop regularly. Equal elements keep their order.
 */
export async function sortYielding<T> (things: Iterable<T>, compare: (a: T, b: T) => number): Promise<T[]> {
  let began = performance.now()
  const pause = async (): Promise<void> => {
    if (performance.now() - began < piece) return
    await turn()
    began = performance.now()
  }
  let runs: T[][] = []
  for (const next of runsOf(things)) {
    runs.push(next.sort(compare))
    await pause()
  }
  async function merge (one: readonly T[], other: readonly T[]): Promise<T[]> {
    const merged: T[] = []
    let [at, otherAt] = [0, 0]
    while (at < one.length || otherAt < other.length) {
      const isFirst = otherAt === other.length ||
        (at < one.length && compare(one[at] as T, other[otherAt] as T) <= 0)
      merged.push((isFirst ? one[at++] : other[otherAt++]) as T)
      if (merged.length % run === 0) await pause()
    }
    return merged
  }
  while (runs.length > 1) {
    const merged: T[][] = []
    for (let at = 0; at < runs.length; at += 2) merged.push(await merge(runs[at] ?? [], runs[at + 1] ?? []))
    runs = merged
  }
  return runs[0] ?? []
}
