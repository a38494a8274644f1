import { setImmediate as turn } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Crawl, Driver, Loaded, Metadata, Release } from '../backends/driver/driver.ts'
import { createCachedBackend } from '../backends/cached/cached-backend.ts'
import { createCatalog } from '../backends/catalog/catalog.ts'
import replies from '../plugins/replies/plugin.ts'
import cache from '../plugins/cache/plugin.ts'
import { parseConfig } from '../lib/config/parse.ts'
import crossOrigin from '../plugins/cors.ts'
import { registryError } from '../lib/errors.ts'
import errors from '../plugins/errors.ts'
import methods from '../plugins/methods.ts'
import requestId from '../plugins/request-id.ts'
import schemas from '../plugins/validation.ts'
import securityHeaders from '../plugins/security-headers.ts'
import { serverOptions } from '../lib/server-options.ts'
import telemetry from '../plugins/metrics/plugin.ts'
import extensions from '../routes/extensions.ts'
import { describe } from './words.ts'

/** Number of versions of each extension. */
export const versions = 10
/** Number of extensions that the upstream lists per turn of the event loop, like a page of a real upstream. */
const pageSize = 50

const metadataOf = (number: number): Metadata => {
  const { type, name, description, tags } = describe(number)
  return {
    type,
    name,
    description,
    tags,
    author: 'Extensions',
    repository: `https://git.example.com/extensions/${name}`
  }
}

function releaseOf (number: number, version: string): Release {
  const digest = number.toString(16).padStart(64, '0')
  const url = `https://git.example.com/extensions/${
    describe(number).name
  }/releases/download/v${version}/${number}.tar.gz`
  return {
    version,
    published_at: '2026-11-23T05:24:36Z',
    file: {
      name: `${number}.tar.gz`,
      size: 1000 + number,
      url,
      checksum: `sha256:${digest}`,
      validator: digest,
      locator: url
    }
  }
}

/**
 * Creates an upstream in this process with this number of extensions. Each crawl finds one more extension, and new
 * versions of some extensions.
 */
function createDriver (count: number): Driver & { crawls: () => number } {
  let crawls = 0
  return {
    name: 'generated',
    source: 'gitea',
    crawls: () => crawls,
    async list () {
      const found: Crawl['found'] = []
      for (let number = 0; number < count + crawls; number++) {
        if (number % pageSize === 0) await turn()
        found.push({
          metadata: metadataOf(number),
          release: releaseOf(number, `1.${versions}.${number % 100 === 0 ? crawls : 0}`)
        })
      }
      crawls++
      return { found, failed: [] }
    },
    async load (_type, name): Promise<Loaded> {
      const number = Number(name.slice(name.lastIndexOf('-') + 1))
      return {
        metadata: metadataOf(number),
        releases: Array.from({ length: versions }, (_, at) => releaseOf(number, `1.${versions - at}.0`))
      }
    },
    open: async () => undefined,
    ping: async () => {}
  }
}

export interface ScaleApp {
  app: FastifyInstance
  /** Moves the clock of the cache by these seconds. */
  forward: (seconds: number) => void
  /** Returns the number of completed crawls of the upstream. */
  crawlCount: () => number
}

/** Creates the routes of the catalog as in `app.ts`, over one generated upstream. */
export async function createScaleApp (count: number): Promise<ScaleApp> {
  const config = parseConfig({ cache: { capacity: 2 * count + 1000 } })
  let now = 0
  const app = Fastify({ ...serverOptions(config), logger: false })
  await app.register(schemas)
  await app.register(errors)
  await app.register(methods)
  await app.register(requestId)
  await app.register(securityHeaders, config.server)
  await app.register(cache, { ...config.cache, clock: () => now, budget: 600_000 })
  await app.register(telemetry)
  await app.register(crossOrigin, config.server)
  await app.register(replies, { ...config.cache, max_downloads: config.server.max_downloads })
  const driver = createDriver(count)
  const backend = createCachedBackend(driver, { cache: app.cache, priority: 100, downloadUrls: 'upstream' })
  const absent = async () => {
    throw registryError('not_found', 'There are no files here')
  }
  app.decorate(
    'catalog',
    createCatalog({
      backends: [backend],
      downloads: { look: absent, open: absent },
      log: app.log,
      negativeTtl: config.cache.negative_ttl_seconds,
      budget: 600
    })
  )
  await app.register(extensions, { prefix: '/api/v1' })
  await app.ready()
  return { app, forward: seconds => { now += seconds * 1000 }, crawlCount: driver.crawls }
}
