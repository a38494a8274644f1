import { setTimeout as sleep } from 'node:timers/promises'

/** Maximum value of `Retry-After` in seconds (one day); larger values are reduced to it. */
const maxSeconds = 86_400
/** Maximum pause in milliseconds, so that a wrong value does not disable an upstream for a day. */
const maxPauseMs = 600_000
/** Maximum pause in milliseconds for which a request waits. During a longer pause requests fail. */
export const maxWaitMs = 2000

/**
 * Returns the seconds of a `Retry-After` in either form (RFC 9110, section 10.2.3); undefined for other values. `now`
 * is in milliseconds since the epoch.
 */
export function retryAfterSeconds (value: string | undefined, now = Date.now()): number | undefined {
  if (value === undefined) return undefined
  const seconds = /^\d{1,9}$/.test(value.trim()) ? Number(value) : (Date.parse(value) - now) / 1000
  return Number.isFinite(seconds) ? Math.min(Math.max(0, seconds), maxSeconds) : undefined
}

/**
 * Creates the pause that a `Retry-After` demands of one upstream. `clock` returns the milliseconds of a monotonic
 * clock.
 */
export function createPause (clock: () => number) {
  let until = -Infinity

  /** Begins a pause of at most ten minutes, or extends the current one. It never shortens a pause. */
  function begin (seconds: number): void {
    until = Math.max(until, clock() + Math.min(maxPauseMs, seconds * 1000))
  }

  /** Returns the remaining milliseconds of the pause; 0 without a pause. */
  const leftMs = (): number => Math.max(0, until - clock())

  /** Waits for the end of a short pause. Throws the error of `refusal` during a long one. */
  async function over (refusal: (leftSeconds: number) => Error): Promise<void> {
    let end
    do {
      end = until
      const left = leftMs()
      if (left === 0) return
      if (left > maxWaitMs) throw refusal(left / 1000)
      await sleep(left)
      // Another response may have extended the pause in the meantime.
    } while (until > end)
  }

  return { begin, leftMs, over }
}
