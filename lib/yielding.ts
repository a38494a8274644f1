import { setImmediate as turn } from 'node:timers/promises'

/** Milliseconds after which long work yields to the event loop. */
const piece = 4
/** Number of steps between two reads of the clock. */
const steps = 4

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
