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
export const late = (): RegistryError => registryError('service_unavailable', 'The upstream did not answer in time', { details: 'Response timeout', proxyError: 'http_response_timeout' })

/** The result of `work`, or {@link late} when it takes more than `milliseconds`, at once when there are none; the work goes on without the caller. */
export async function within<T> (milliseconds: number, work: Promise<T>): Promise<T> {
  if (milliseconds <= 0) throw late()
  let timer: NodeJS.Timeout | undefined
  const gaveUp = new Promise<never>((_resolve, reject) => { timer = setTimeout(() => { reject(late()) }, milliseconds) })
  return await Promise.race([work, gaveUp]).finally(() => { clearTimeout(timer) })
}
