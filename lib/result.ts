import { isRegistryError, registryError, type RegistryError } from './errors.ts'

/** A value from the cache of one instance, and its age. */
export interface CachedResult<T> {
  value: T
  /** Seconds since the upstream returned it. */
  age: number
  /** Seconds that the value stays fresh; 0 when stale. */
  ttl: number
  /** Whether it was returned without waiting for an upstream. */
  hit: boolean
  /** Error of the upstream because of which a stale value is returned; absent when the value is fresh. */
  error?: RegistryError
}

/** An instance whose entries are stale or missing in a result, and its error. */
export interface InstanceIssue { instance: string, error: RegistryError | undefined }

/** A value of the catalog, with the properties that determine its response headers. */
export interface Result<T> {
  value: T
  /** Seconds since the upstreams returned the value. For several upstreams, the age of the oldest response. */
  age: number
  /** Seconds that the value stays fresh; 0 when stale or partial. */
  ttl: number
  /** Whether it was returned without waiting for an upstream. */
  hit: boolean
  /** Instances with stale entries in the value. */
  stale: InstanceIssue[]
  /** Instances whose entries are missing from the value. */
  missing: InstanceIssue[]
}

/** Part of a list, and the length of the whole list. */
export interface ListPage<T> { items: readonly T[], total: number }

/**
 * Returns the age of the oldest of several results, and the shortest time to live. For an empty list `ttl` is infinite.
 */
export function combined (
  results: ReadonlyArray<Pick<CachedResult<unknown>, 'age' | 'ttl' | 'hit'>>
): { age: number, ttl: number, hit: boolean } {
  let [age, ttl, hit] = [0, Infinity, true]
  for (const result of results) {
    age = Math.max(age, result.age)
    ttl = Math.min(ttl, result.ttl)
    hit &&= result.hit
  }
  return { age, ttl, hit }
}

/** Errors from the one that is reported first to the one that is reported last. */
const precedence = ['internal_error', 'service_unavailable', 'rate_limit', 'auth_error', 'config_error']

/** Returns the error of several issues that is reported: unavailable, else the rate limit, else the credentials. */
export function worstError (issues: readonly InstanceIssue[]): RegistryError {
  const errors = issues.flatMap(({ error }) => error ?? [])
  const [first] = errors.sort((a, b) => precedence.indexOf(a.code) - precedence.indexOf(b.code))
  return first ?? registryError('service_unavailable', 'No instance is available')
}

/** Returns an error of the table. Throws any other error. */
export function toInstanceError (error: unknown): RegistryError {
  if (!isRegistryError(error)) throw error
  return error
}

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
