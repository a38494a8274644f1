import fc from 'fast-check'
import type { Test } from 'tap'

/** Whether properties are checked at length, as `npm run test:system:properties` does. */
const atLength = process.env['PROPERTIES'] === 'full'

/** Returns the number of runs or cases of a property: all of `count`, or a tenth in `npm test`. */
export const share = (count: number): number => atLength ? count : Math.ceil(count / 10)

export interface RunOptions {
  runs: number
  /** Seconds after which searching, and shrinking what was found, ends: well below the time that a test file has. */
  seconds?: number
}

/**
 * Checks a property with the seed of `PROPERTY_SEED`. Without it, the seed is new for each run at length, and otherwise
 * the same, so that `npm test` repeats its cases. A failure reports its seed and the smallest example that was found in
 * time. A run that does not finish fails, too.
 */
export async function holds<T> (
  t: Test,
  property: fc.IAsyncProperty<T>,
  { runs, seconds = 240 }: RunOptions
): Promise<void> {
  const { PROPERTY_SEED: given } = process.env
  const seed = given === undefined ? atLength ? Math.floor(Math.random() * 2 ** 31) : 1 : Number(given)
  const started = performance.now()
  const details = await fc.check(property, {
    seed,
    numRuns: runs,
    interruptAfterTimeLimit: seconds * 1000,
    markInterruptAsFailure: true
  })
  t.comment(`${details.numRuns} runs in ${((performance.now() - started) / 1000).toFixed(1)} s, seed ${seed}`)
  if (!details.failed) {
    t.pass(`holds, ${runs} times`)
    return
  }
  const { errorInstance: error, numRuns, interrupted } = details
  const example = (await fc.asyncDefaultReportMessage(details) ?? '').slice(0, 10_000)
  t.fail(
    `${
      interrupted && error === undefined ? 'not finished' : 'does not hold'
    } after ${numRuns} runs; repeat with PROPERTY_SEED=${seed}`,
    {
      found: `${example}\n${error instanceof Error ? error.stack ?? error.message : String(error)}`
    }
  )
}

/**
 * A predicate that is not asked any more once there is enough, unless it failed: then the example is to be made
 * smaller.
 */
export function until<T> (enough: () => boolean, predicate: (value: T) => Promise<void>): (value: T) => Promise<void> {
  let failed = false
  return async value => {
    if (!failed && enough()) return
    try {
      await predicate(value)
    } catch (error) {
      failed = true
      throw error
    }
  }
}
