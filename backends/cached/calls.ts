import { isRegistryError, registryError, type RegistryError } from '../../lib/errors.ts'
import type { Breaker, RunOptions } from './breaker.ts'

/** Runs a call of the driver behind the circuit breaker. */
export type UpstreamCall = <T>(call: () => Promise<T>, options?: RunOptions) => Promise<T>

/** Creates the calls of one instance's driver. An error that is not of the error table becomes `internal_error`. */
export const createUpstreamCall = (instance: string, breaker: Breaker): UpstreamCall =>
  async (call, options = {}) =>
    await breaker.run(async () => {
      try {
        return await call()
      } catch (error) {
        throw isRegistryError(error)
          ? error
          : registryError('internal_error', 'Internal server error', { cause: error, instance })
      }
    }, options)

/**
 * Returns whether a request for one name is sent although this failure opened the circuit. A listing that cannot be
 * used does not show that single names cannot be read.
 */
export const passes = ({ proxyError }: RegistryError): boolean => proxyError === 'http_protocol_error'
