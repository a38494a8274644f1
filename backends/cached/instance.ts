import { createHash } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import type { GiteaConfig, OciConfig } from '../../schemas/upstreams.ts'
import type { Backend } from './backend.ts'
import type { Driver } from '../driver/driver.ts'
import { createCachedBackend } from './cached-backend.ts'
import { createSkips } from './skips.ts'

export type { Backend } from './backend.ts'

/** Decorator of a kind of backend: its configured instances, in order of appearance. */
export interface Instances { readonly instances: readonly Backend[] }

/** Keys that only state how requests are sent, or hold secrets. They do not select the data that is read. */
const unrelated = new Set([
  'token',
  'token_file',
  'username',
  'password_file',
  'docker_config',
  'ca_file',
  'verify_ssl',
  'timeout_seconds',
  'reconcile_seconds',
  'crawl_repositories',
  'concurrency',
  'queue',
  'priority',
  'redirect_hosts',
  'auth_hosts'
])
const credentials = ['token', 'token_file', 'password_file', 'docker_config'] as const

/**
 * Returns a hash of the settings that select the data of an instance and its form. Whether there are credentials is
 * part of it, because requests with credentials can read more. Secrets are not part of it.
 */
function identityOf (instance: GiteaConfig | OciConfig, publicUrl: string | undefined): string {
  const related = Object.entries(instance).filter(([key]) => !unrelated.has(key)).sort(([a], [b]) => a < b ? -1 : 1)
  const known = credentials.some(key => key in instance)
  return createHash('sha256').update(JSON.stringify([related, known, publicUrl ?? ''])).digest('hex')
}

/** Puts a configured instance's driver behind the server's cache. */
export function createInstance (
  fastify: FastifyInstance,
  driver: Driver,
  config: GiteaConfig | OciConfig,
  publicUrl: string | undefined
): Backend {
  const { priority, download_urls: downloadUrls } = config
  let failing = false
  return createCachedBackend(driver, {
    cache: fastify.cache,
    priority,
    downloadUrls,
    identity: identityOf(config, publicUrl),
    skips: createSkips({
      instance: driver.name,
      log: fastify.log,
      count: reason => {
        fastify.telemetry.observeSkip(driver.name, reason)
      }
    }),
    ...(publicUrl !== undefined && { publicUrl }),
    onFailure: error => {
      if (error !== undefined) {
        fastify.log.warn(
          { backend: driver.name, err: error },
          'the crawl failed, or is incomplete: cached entries are used'
        )
      } else if (failing) fastify.log.info({ backend: driver.name }, 'the crawl succeeded again')
      failing = error !== undefined
    }
  })
}
