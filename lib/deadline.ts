import { registryError, type RegistryError } from './errors.ts'

/** How long somebody waits, over everything that is waited for. */
export interface Deadline {
  /** Milliseconds that are left, never negative. */
  left: () => number
}

/** A deadline in so many milliseconds of the monotonic clock. */
export function createDeadline (budget: number): Deadline {
  const until = performance.now() + budget
  return { left: () => Math.max(0, until - performance.now()) }
}

/** What is answered when an upstream did not answer in time. */
export const late = (instance?: string): RegistryError =>
  registryError(
    'service_unavailable',
    instance === undefined ? 'The upstream did not answer in time' : `Instance ${instance} did not answer in time`,
    {
      details: 'Response timeout',
      proxyError: 'http_response_timeout',
      ...(instance !== undefined && { instance })
    }
  )

/**
 * The result of `work`, or what `tooLate` makes when it takes more than `milliseconds`, at once when there are none;
 * the work goes on without the caller.
 */
export async function within<T> (milliseconds: number, work: Promise<T>, tooLate: () => Error): Promise<T> {
  if (milliseconds <= 0) throw tooLate()
  let timer: NodeJS.Timeout | undefined
  const gaveUp = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(tooLate())
    }, milliseconds)
  })
  return await Promise.race([work, gaveUp]).finally(() => {
    clearTimeout(timer)
  })
}

/**
 * Returns a signal that is aborted after so many milliseconds, at once when there are none, with the error of `reason`.
 * It keeps no process alive.
 */
export function deadlineAfter (milliseconds: number, reason: () => Error): AbortSignal {
  const controller = new AbortController()
  if (milliseconds <= 0) controller.abort(reason())
  else setTimeout(() => { controller.abort(reason()) }, milliseconds).unref()
  return controller.signal
}

/** Returns the result of `work`. Throws the reason of `signal` when that is aborted first; the work continues then. */
export async function untilAborted<T> (work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    work.catch(() => {})
    throw signal.reason
  }
  const aborted = Promise.withResolvers<never>()
  const abort = () => { aborted.reject(signal.reason) }
  signal.addEventListener('abort', abort)
  return await Promise.race([work, aborted.promise]).finally(() => { signal.removeEventListener('abort', abort) })
}

/**
 * Runs `work` with a signal that is aborted with the error of `reason` after so many milliseconds, at once when there
 * are none, or when `parent` is aborted. Its timer ends with the work.
 */
export async function withDeadline<T> (
  milliseconds: number,
  reason: () => Error,
  work: (signal: AbortSignal) => Promise<T>,
  parent?: AbortSignal
): Promise<T> {
  const controller = new AbortController()
  const abort = () => { controller.abort(reason()) }
  if (milliseconds <= 0 || parent?.aborted === true) abort()
  const timer = setTimeout(abort, milliseconds)
  parent?.addEventListener('abort', abort)
  try {
    return await work(controller.signal)
  } finally {
    clearTimeout(timer)
    parent?.removeEventListener('abort', abort)
  }
}
