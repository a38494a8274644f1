import { setTimeout as sleep } from 'node:timers/promises'
import pLimit from 'p-limit'
import { registryError, type RegistryError } from '../../lib/errors.ts'

/**
 * Part of a retry that each request pays in, and the most that is saved up: in the long run one retry for five
 * requests.
 */
const share = 0.2
const reserve = 10
/** Longest `Retry-After` (milliseconds) that is waited for here rather than passed on. */
export const maxWaitMs = 2000
/** Longest that is obeyed as it is: a slip of an upstream must not silence it for a day. */
const maxPauseMs = 600_000

/** Bounds the retries of an instance by its requests: an upstream in trouble is not asked three times as much. */
export function createRetryBudget () {
  let saved = reserve
  return {
    /** Pays in for a request. */
    asked (): void { saved = Math.min(reserve, saved + share) },
    /** Whether one may be tried again; takes it when it may. */
    take (): boolean {
      if (saved < 1) return false
      saved--
      return true
    }
  }
}

/**
 * A pause that an upstream asked for by `Retry-After`: it holds for every request of the instance. `clock` gives
 * milliseconds.
 */
export function createPause (clock: () => number) {
  let until = -Infinity
  let reason: ((seconds: number) => RegistryError) | undefined
  return {
    /**
     * Begins a pause, or prolongs the one that is on; `why` makes the answer of who is refused meanwhile, with the
     * seconds left.
     */
    begin (seconds: number, why: (seconds: number) => RegistryError): void {
      until = Math.max(until, clock() + Math.min(maxPauseMs, seconds * 1000))
      reason = why
    },
    /** Waits for the end of a short pause; throws during a long one. */
    async over (): Promise<void> {
      const end = until
      const left = end - clock()
      if (left <= 0 || reason === undefined) return
      if (left > maxWaitMs) throw reason(left / 1000)
      await sleep(left)
      // It may have been prolonged meanwhile.
      if (until > end) await this.over()
    }
  }
}

/**
 * Runs so many at once; so many more wait for their turn, and who comes then is refused with `service_unavailable`,
 * which says nothing of the upstream.
 */
export function createQueue (
  { instance, concurrency, waiting = 1000 }: { instance: string, concurrency: number, waiting?: number }
) {
  const limit = pLimit(concurrency)
  return async <T>(work: () => Promise<T>): Promise<T> => {
    if (limit.pendingCount >= waiting) {
      throw registryError('service_unavailable', `Instance ${instance} cannot be asked`, {
        instance,
        details: 'Too many requests wait for it',
        retryAfter: 1,
        proxyError: 'connection_limit_reached'
      })
    }
    return await limit(work)
  }
}
