import { registryError, type RegistryError } from './errors.ts'

/** Returns the error of an upstream that did not respond in time. */
export const late = (instance?: string): RegistryError =>
  registryError(
    'service_unavailable',
    instance === undefined ? 'The upstream did not respond in time' : `Instance ${instance} did not respond in time`,
    {
      details: 'Response timeout',
      proxyError: 'http_response_timeout',
      ...(instance !== undefined && { instance })
    }
  )

/**
 * Returns the result of `work`. Throws the reason of `signal` when that is aborted first; `work` continues in that
 * case.
 */
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
 * Runs `work` with a signal that is aborted with the error of `reason` after `milliseconds`; at once for 0 or less. The
 * signal is also aborted when `parent` is aborted. The timer ends with the work.
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
  // Node.js prints a warning for a timer with a negative delay.
  const timer = setTimeout(abort, Math.max(0, milliseconds))
  parent?.addEventListener('abort', abort)
  try {
    return await work(controller.signal)
  } finally {
    clearTimeout(timer)
    parent?.removeEventListener('abort', abort)
  }
}
