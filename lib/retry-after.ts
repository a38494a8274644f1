import { setTimeout as sleep } from 'node:timers/promises'

/** Maximum value of `Retry-After` that is parsed as it is, in seconds: one day. */
const maxSeconds = 86_400
/** Maximum pause in milliseconds: a wrong value must not disable an upstream for a day. */
const maxPauseMs = 600_000
/** Maximum pause in milliseconds that a request waits for. A longer one refuses the request. */
export const maxWaitMs = 2000

/**
 * Returns the seconds of a `Retry-After` in either form (RFC 9110 section 10.2.3); undefined for other values. `now` is
 * in milliseconds since the epoch.
 */
export function retryAfterSeconds (value: string | undefined, now = Date.now()): number | undefined {
  if (value === undefined) return undefined
  const seconds = /^\d{1,9}$/.test(value.trim()) ? Number(value) : (Date.parse(value) - now) / 1000
  return Number.isFinite(seconds) ? Math.min(Math.max(0, seconds), maxSeconds) : undefined
}

/**
 * Creates the pause of a `Retry-After`: the one rule for how long it is obeyed. `clock` returns milliseconds and is
 * monotonic.
 */
export function createPause (clock: () => number) {
  let until = -Infinity

  /** Begins a pause of at most ten minutes, or prolongs the one in progress. It never shortens one. */
  function begin (seconds: number): void {
    until = Math.max(until, clock() + Math.min(maxPauseMs, seconds * 1000))
  }

  /** Returns the milliseconds that are left; 0 outside of a pause. */
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
      // Another response may have prolonged the pause meanwhile.
    } while (until > end)
  }

  return { begin, leftMs, over }
}
