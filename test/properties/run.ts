import fc from 'fast-check'
import type { Test } from 'tap'

/** True if the properties run in full, as in `npm run test:system:properties`. */
const atLength = process.env['PROPERTIES'] === 'full'

/** Returns the number of runs or cases of a property: all of `count`, or a tenth in `npm test`. */
export const share = (count: number): number => atLength ? count : Math.ceil(count / 10)

export interface RunOptions {
  runs: number
  /** Maximum seconds for searching and shrinking; well below the timeout of a test file. */
  seconds?: number
}

/**
 * Checks a property with the seed of `PROPERTY_SEED`. Without it, each full run has a new seed, and `npm test` always
 * has the same seed so that its cases repeat. A failure reports its seed and the smallest example found in time. A run
 * that does not finish fails, too.
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
 * Returns a predicate that passes without a check once there are enough cases. After a failure it always checks, so
 * that the example can be shrunk.
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
