import { setImmediate as turn } from 'node:timers/promises'

/** Milliseconds for which long work holds up the event loop at a time. */
const piece = 4
/** Steps between two looks at the clock. */
const steps = 4

/** Does something with each of many things, and lets others have their turn again and again meanwhile. */
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
