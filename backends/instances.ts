import type { FastifyInstance } from 'fastify'
import type { Backend, Driver } from './backend.ts'
import { createCachedBackend, type CachedBackendOptions } from './cached-backend.ts'

/** What a kind of backend decorates the server with: its configured instances, in order of appearance. */
export interface Instances { readonly instances: readonly Backend[] }

/** Puts a configured instance's driver behind the server's cache. */
export function createInstance (fastify: FastifyInstance, driver: Driver, { priority, download_urls: downloadUrls }: { priority: number, download_urls: CachedBackendOptions['downloadUrls'] }, publicUrl: string | undefined): Backend {
  let failing = false
  return createCachedBackend(driver, {
    cache: fastify.cache,
    priority,
    downloadUrls,
    ...(publicUrl !== undefined && { publicUrl }),
    onFailure: error => {
      if (error !== undefined) fastify.log.warn({ backend: driver.name, err: error }, 'the listing could not be read, or not all of it')
      else if (failing) fastify.log.info({ backend: driver.name }, 'the listing can be read again')
      failing = error !== undefined
    }
  })
}
