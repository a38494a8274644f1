import { registryError, type RegistryError } from '../plugins/errors.ts'

/** Failures in a row that are taken for chance. */
const tolerated = 2
/** Milliseconds that an upstream is left alone after the next one; doubled with each further failure. */
const first = 1000
const most = 30_000

/**
 * Leaves an upstream that fails again and again alone for a moment: longer with each failure in a row, or for as long as
 * its `Retry-After` says. `clock` gives milliseconds.
 */
export function createCooldown (clock: () => number) {
  let failures = 0
  let until = -Infinity
  let last: RegistryError | undefined

  return {
    succeeded (): void {
      failures = 0
      until = -Infinity
    },
    /** One failure more; failures that fall into a rest (of calls that were under way already) do not lengthen it. */
    failed (error: RegistryError): void {
      if (error.code === 'internal_error' || (clock() < until && error.retryAfter === undefined)) return
      last = error
      failures++
      if (failures <= tolerated && error.retryAfter === undefined) return
      const pause = error.retryAfter === undefined ? Math.min(most, first * 2 ** (failures - tolerated - 1)) : error.retryAfter * 1000
      until = Math.max(until, clock() + pause)
    },
    /** The error to answer while the upstream is left alone: the last one, with the time that is left. */
    rest: (): RegistryError | undefined => {
      const left = until - clock()
      if (last === undefined || left <= 0) return undefined
      const { code, message, details, instance, proxyError } = last
      return registryError(code, message, {
        retryAfter: left / 1000,
        cause: last,
        ...(details !== undefined && { details }),
        ...(instance !== undefined && { instance }),
        ...(proxyError !== undefined && { proxyError })
      })
    }
  }
}
export type Cooldown = ReturnType<typeof createCooldown>
