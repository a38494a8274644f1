import { TimeoutError, type RetryFunction } from 'got'
import { createPause, maxWaitMs, retryAfterSeconds } from '../../lib/retry-after.ts'
import { statusError } from './errors.ts'
import { failureOf } from './failure.ts'
import { createRetryBudget } from './limits.ts'
import type { ResponseHead } from './messages.ts'
import type { UpstreamObserver } from './options.ts'

export interface ExchangeOptions {
  instance: string
  observe: UpstreamObserver | undefined
  random: () => number
  clock: () => number
}

/**
 * Creates the pause and the retries of one instance, which all its requests share. A `Retry-After` applies to every
 * request, including those of a crawl in progress. The circuit breaker cannot do this, because it counts a crawl as one
 * request.
 */
export function createExchange ({ instance, observe, random, clock }: ExchangeOptions) {
  const retryBudget = createRetryBudget()
  const pause = createPause(clock)
  /** Status of the last response that began a pause. */
  let pausingStatus = 503

  function obey ({ statusCode, headers }: ResponseHead): void {
    const seconds = statusCode === 429 || statusCode === 503 ? retryAfterSeconds(headers['retry-after']) : undefined
    if (seconds === undefined) return
    pause.begin(seconds)
    pausingStatus = statusCode
  }

  /** Returns the milliseconds before the next attempt of a request; 0 ends the attempts. */
  const retryDelay: RetryFunction = ({ computedValue, retryAfter, attemptCount, error }) => {
    // A timeout is not retried, because its request has already used its time.
    if (computedValue === 0 || error instanceof TimeoutError || (retryAfter ?? 0) > maxWaitMs) return 0
    if (!retryBudget.take()) return 0
    if (retryAfter !== undefined && error.response !== undefined) obey(error.response)
    return retryAfter ?? Math.ceil(100 * 2 ** attemptCount * (0.5 + random() / 2))
  }

  /**
   * Sends a request when no pause is in progress, and observes its result. Throws the error of {@link failureOf}, or
   * the error of a long pause.
   */
  async function send<T extends ResponseHead> (request: () => Promise<T>): Promise<T> {
    await pause.over(left => statusError(instance, pausingStatus, { 'retry-after': String(Math.ceil(left)) }))
    retryBudget.add()
    const started = performance.now()
    const report = (status: string) => observe?.(instance, status, (performance.now() - started) / 1000)
    try {
      const response = await request()
      report(String(response.statusCode))
      obey(response)
      return response
    } catch (error) {
      if (!(error instanceof Error && error.name === 'AbortError')) report('error')
      throw failureOf(instance, error)
    }
  }

  return { send, retryDelay, takeRetry: () => retryBudget.take() }
}
export type Exchange = ReturnType<typeof createExchange>
