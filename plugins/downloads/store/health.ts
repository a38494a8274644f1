import type { FastifyBaseLogger } from 'fastify'

/** Milliseconds for which a directory is not used after a failure. */
const rest = 60_000

/**
 * Creates the health of the store's directory. A failure disables the store for a while, and is logged once until the
 * store works again. Downloads continue without the store.
 */
export function createStoreHealth (
  { enabled, log, clock }: { enabled: boolean, log: Pick<FastifyBaseLogger, 'warn' | 'info'>, clock: () => number }
) {
  let failedAt: number | undefined
  let failures = 0
  return {
    /** Whether the directory is used now. */
    get usable () { return enabled && (failedAt === undefined || clock() - failedAt >= rest) },
    /** Number of failures since the start. */
    get failures () { return failures },

    failed (error: unknown): void {
      failures++
      if (failedAt === undefined) {
        log.warn(
          { err: error },
          'the store cannot write to its directory: downloads continue without it; check the directory'
        )
      }
      failedAt = clock()
    },

    worked (): void {
      if (failedAt !== undefined) log.info('the store can write to its directory again')
      failedAt = undefined
    }
  }
}
export type StoreHealth = ReturnType<typeof createStoreHealth>
