import { isRegistryError, type RegistryError } from '../../lib/errors.ts'

/** Questions in a row without an answer after which a walk asks nothing more. */
const tolerated = 3

/**
 * Whether a failure is an answer all the same: the upstream is there, and says something that cannot be used. It then
 * speaks of what was asked for, not of the upstream as a whole.
 */
export const isUpstreamResponse = ({ code, proxyError = '', retryAfter }: RegistryError): boolean =>
  code !== 'rate_limit' && retryAfter === undefined &&
  ['destination_unavailable', 'http_protocol_error', 'http_response_incomplete'].includes(proxyError)

/**
 * Lets a walk over many repositories end when the upstream answers nothing any more: what is left fails at once with
 * the last failure, instead of each waiting for its own time-out.
 */
export function createFailFast () {
  let silences = 0
  let last: RegistryError | undefined
  return async <T> (question: () => Promise<T>): Promise<T> => {
    if (last !== undefined && silences >= tolerated) throw last
    try {
      const answer = await question()
      silences = 0
      return answer
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
