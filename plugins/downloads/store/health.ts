import type { FastifyBaseLogger } from 'fastify'

/** Milliseconds for which a directory that could not be written is left alone. */
const rest = 60_000

/**
 * Whether the store's directory is of use now. A failure turns it off for a while, and is told once until it works
 * again: downloads go on without it.
 */
export function createStoreHealth (
  { enabled, log, clock }: { enabled: boolean, log: Pick<FastifyBaseLogger, 'warn' | 'info'>, clock: () => number }
) {
  let failedAt: number | undefined
  let failures = 0
  return {
    /** Whether it is to be tried. */
    get usable () { return enabled && (failedAt === undefined || clock() - failedAt >= rest) },
    /** How often it could not be used. */
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
