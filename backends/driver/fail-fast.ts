import { isRegistryError, type RegistryError } from '../../lib/errors.ts'

/** Number of requests in a row without a response after which a crawl sends no more requests. */
const tolerated = 3

/**
 * Returns whether a failure shows that the upstream is reachable: it sent a response that cannot be used. Such a
 * failure concerns the requested item, not the upstream as a whole.
 */
export const isUpstreamResponse = ({ code, proxyError = '', retryAfter }: RegistryError): boolean =>
  code !== 'rate_limit' && retryAfter === undefined &&
  ['destination_unavailable', 'http_protocol_error', 'http_response_incomplete'].includes(proxyError)

/**
 * Creates the function that runs the requests of a crawl over many repositories. When the upstream no longer responds,
 * the remaining requests fail at once with the last failure: they do not each wait for a timeout.
 */
export function createFailFast () {
  let silences = 0
  let last: RegistryError | undefined
  return async <T> (operation: () => Promise<T>): Promise<T> => {
    if (last !== undefined && silences >= tolerated) throw last
    try {
      const response = await operation()
      silences = 0
      return response
    } catch (error) {
      if (isRegistryError(error) && !isUpstreamResponse(error)) {
        silences++
        last = error
      } else silences = 0
      throw error
    }
  }
}
export type FailFast = ReturnType<typeof createFailFast>
