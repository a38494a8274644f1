import type { FastifyBaseLogger } from 'fastify'
import type { Skip } from './backend.ts'
import { plainText } from './text.ts'

/** Items remembered of one instance; past the bound they are counted again and again. */
const remembered = 10_000

/** Counts and logs what an instance leaves out: each item once, however often it is met. */
export function createSkip (instance: string, log: FastifyBaseLogger, count: (reason: string) => void): Skip {
  const seen = new Set<string>()
  return (reason, named) => {
    // Its name may be anything; it is kept and logged.
    const item = plainText(named, 512) ?? ''
    const key = `${reason} ${item}`
    if (seen.has(key)) return
    if (seen.size < remembered) seen.add(key)
    count(reason)
    log.debug({ backend: instance, reason, item }, 'left out of the catalog')
  }
}
