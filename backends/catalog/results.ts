import { isRegistryError, registryError, type RegistryError } from '../../lib/errors.ts'
import { combined, type CachedResult, type InstanceIssue, type Result } from '../../lib/result.ts'

/** Errors from the one that is reported first to the one that is reported last. */
const precedence = ['internal_error', 'service_unavailable', 'rate_limit', 'auth_error', 'config_error']

/** Returns the one of several errors that is reported: unavailable, else the rate limit, else the credentials. */
export function worstError (errors: readonly RegistryError[]): RegistryError {
  const [first] = [...errors].sort((a, b) => precedence.indexOf(a.code) - precedence.indexOf(b.code))
  return first ?? registryError('service_unavailable', 'No instance is available')
}

/** Returns an error of the table. Throws any other error. */
export function toInstanceError (error: unknown): RegistryError {
  if (!isRegistryError(error)) throw error
  return error
}

export const errorsOf = (issues: readonly InstanceIssue[]): RegistryError[] =>
  issues.flatMap(({ error }) => error ?? [])

/** Returns a value of several results as one result: as old as the oldest of them, and stale when it has issues. */
export function toResult<T> (
  value: T,
  results: ReadonlyArray<CachedResult<unknown>>,
  stale: InstanceIssue[] = [],
  missing: InstanceIssue[] = []
): Result<T> {
  const { age, ttl, hit } = combined(results)
  const whole = stale.length === 0 && missing.length === 0 && results.length > 0
  return { value, age, ttl: whole ? ttl : 0, hit, stale, missing }
}
