import pLimit from 'p-limit'
import { registryError } from '../../lib/errors.ts'

/** Retries that each request adds to the budget: on average one retry for five requests. */
const retriesPerRequest = 0.2
/** Maximum number of retries in the budget. */
const maxRetries = 10

/** Creates the retry budget of an instance. It limits the load that retries add to an overloaded upstream. */
export function createRetryBudget () {
  let retries = maxRetries
  return {
    /** Adds the retries of one request. */
    add (): void { retries = Math.min(maxRetries, retries + retriesPerRequest) },
    /** Takes one retry. Returns false, and takes nothing, when less than one retry remains. */
    take (): boolean {
      if (retries < 1) return false
      retries--
      return true
    }
  }
}
export type RetryBudget = ReturnType<typeof createRetryBudget>

/** Runs work as soon as the queue allows it. Throws `service_unavailable` when the queue is full. */
export type Queue = <T>(work: () => Promise<T>) => Promise<T>

/**
 * Creates a queue that runs `concurrency` requests at once and holds `waiting` more. The error of a full queue is not
 * an error of the upstream, so the circuit breaker does not count it.
 */
export function createQueue (
  { instance, concurrency, waiting = 1000 }: { instance: string, concurrency: number, waiting?: number }
): Queue {
  const limit = pLimit(concurrency)
  return async <T>(work: () => Promise<T>): Promise<T> => {
    if (limit.pendingCount >= waiting) {
      throw registryError('service_unavailable', `Instance ${instance} is unavailable`, {
        instance,
        details: 'Too many requests are queued',
        retryAfter: 1,
        proxyError: 'connection_limit_reached'
      })
    }
    return await limit(work)
  }
}
