import { deepEqual, equal, match, notEqual } from 'node:assert/strict'
import { setImmediate as turn } from 'node:timers/promises'
import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import fc from 'fast-check'
import Fastify, { type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import t from 'tap'
import type { Driver, Loaded } from '../../backends/driver/driver.ts'
import { createCachedBackend } from '../../backends/cached/cached-backend.ts'
import { createCatalog, type Catalog } from '../../backends/catalog/catalog.ts'
import { createHealth } from '../../backends/health.ts'
import { currentRelease, orderReleases } from '../../backends/driver/version.ts'
import replies from '../../plugins/replies/plugin.ts'
import { createCache } from '../../plugins/cache/cache.ts'
import cache from '../../plugins/cache/plugin.ts'
import errors from '../../plugins/errors.ts'
import schemas from '../../plugins/validation.ts'
import telemetry from '../../plugins/metrics/plugin.ts'
import extensions from '../../routes/extensions.ts'
import { apiSystem } from '../../routes/system.ts'
import { extensionSources, extensionTypes, type ExtensionSource } from '../../schemas/extension.ts'
import { createClock } from '../fakes/clock.ts'
import { createPlainDownloads } from '../fakes/downloads.ts'
import { createLog } from '../fakes/log.ts'
import { holds, share } from './run.ts'

const names = ['aws', 'azure', 'gcp', 'k3s', 'a-b', 'Aws', 'x.y_z']
const text = fc.string({ unit: 'binary', maxLength: 400 })
const file = fc.record({
  name: fc.constant('a.tar.gz'),
  locator: fc.constant('a'),
  validator: fc.constant('v'),
  url: fc.webUrl(),
  size: fc.nat(),
  checksum: fc.constant('sha256:00')
}, { requiredKeys: ['name', 'locator', 'validator'] })
const release = fc.record({
  version: fc.tuple(fc.nat(3), fc.nat(3), fc.nat(3)).map(numbers => numbers.join('.')),
  published_at: fc.constantFrom('1970-01-01T00:00:00Z', '2025-01-15T10:30:00Z'),
  file
}, { requiredKeys: ['version', 'published_at'] })
const metadata = fc.record({
  type: fc.constantFrom(...extensionTypes),
  name: fc.constantFrom(...names),
  description: text,
  author: text,
  repository: fc.webUrl(),
  tags: fc.array(text, { maxLength: 3 })
}, { requiredKeys: ['type', 'name', 'description'] })
const extension = fc.record({
  metadata,
  releases: fc.uniqueArray(release, { minLength: 1, maxLength: 4, selector: ({ version }) => version }).map(
    orderReleases
  )
})
const content = fc.uniqueArray(extension, {
  maxLength: 20,
  selector: ({ metadata: { type, name } }) => `${type}/${name}`
})

const [source, type, limit, offset] = [
  fc.constantFrom(...extensionSources),
  fc.constantFrom(...extensionTypes),
  fc.integer({ min: 1, max: 30 }),
  fc.nat(30)
]
const name = fc.tuple(type, fc.constantFrom(...names)).map(parts => `/${parts.join('/')}`)
const q = fc.oneof(
  fc.constantFrom('a', 'A', 'aws', ' gcp ', 's'),
  fc.string({ unit: 'binary', minLength: 1, maxLength: 3 }).filter(value => value.trim() !== '')
)
const operation = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      path: fc.constant(''),
      query: fc.record({ type, source, limit, offset }, { requiredKeys: [] })
    })
  },
  {
    weight: 3,
    arbitrary: fc.record({
      path: fc.constant('/search'),
      query: fc.record({ q, type, source, limit }, { requiredKeys: ['q'] })
    })
  },
  { weight: 2, arbitrary: fc.record({ path: name, query: fc.record({ source }, { requiredKeys: [] }) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      path: name.map(path => `${path}/versions`),
      query: fc.record({ source }, { requiredKeys: [] })
    })
  }
)
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ send: operation }) },
  { weight: 1, arbitrary: fc.record({ publish: content, at: fc.constantFrom(...extensionSources) }) },
  { weight: 1, arbitrary: fc.record({ later: fc.integer({ min: 1, max: 400 }) }) }
)

/** Creates an upstream whose content can be replaced. */
function createUpstream (source: ExtensionSource, content: readonly Loaded[]) {
  const upstream = { content }
  const driver: Driver = {
    name: source,
    source,
    list: async () => ({
      found: upstream.content.flatMap(({ metadata, releases }) => {
        const release = currentRelease(releases)
        return release === undefined ? [] : [{ metadata, release }]
      }),
      failed: []
    }),
    load: async (type, name) =>
      upstream.content.find(({ metadata }) => metadata.type === type && metadata.name === name),
    open: async () => undefined,
    ping: async () => {}
  }
  return Object.assign(upstream, { driver })
}

/** Sends each value unchanged, so that Fastify serializes it with the schema of the route. */
const plainResponses = fp(async (fastify: FastifyInstance) => {
  fastify.decorateReply('sendResource', async function (response) {
    return await this.send((await response).value)
  })
  fastify.decorateReply('sendList', async function (reply) {
    return await this.send((await reply).value.items)
  })
}, { name: 'registry-replies' })

/** Creates the routes with a catalog that can be replaced. */
async function createRoutes (
  current: () => Catalog,
  plugin: typeof plainResponses | typeof replies
): Promise<FastifyInstance> {
  const app = Fastify({ logger: false })
  await app.register(schemas)
  await app.register(errors)
  await app.register(cache, { capacity: 10, ttl_seconds: 300, stale_if_error_seconds: 300, negative_ttl_seconds: 30 })
  await app.register(telemetry)
  await app.register(plugin as typeof replies, { stale_if_error_seconds: 300, max_downloads: 1 })
  const { log } = createLog()
  const operations: Omit<Catalog, 'instances' | 'file' | 'open' | 'skipped' | 'census'> = {
    cachedList: query => current().cachedList(query),
    cachedSearch: query => current().cachedSearch(query),
    cachedFind: name => current().cachedFind(name),
    cachedVersions: name => current().cachedVersions(name),
    list: query => current().list(query),
    search: query => current().search(query),
    find: name => current().find(name),
    versions: name => current().versions(name)
  }
  app.decorate('catalog', operations as Catalog)
  app.decorate('health', createHealth([], log) as never)
  app.decorate('downloads', { statistics: () => ({ entries: 0, bytes: 0 }) } as never)
  await app.register(extensions, { prefix: '/api/v1' })
  await app.register(apiSystem, { prefix: '/api/v1' })
  await app.ready()
  return app
}

await t.test('every response has the same bytes as its value serialized with its response schema, in each ' +
  'coding', async t => {
  let catalog: Catalog
  const [ours, plain] = [await createRoutes(() => catalog, replies), await createRoutes(() => catalog, plainResponses)]
  t.teardown(async () => {
    await Promise.all([ours.close(), plain.close()])
  })
  const { log } = createLog()
  let coded = 0

  await holds(
    t,
    fc.asyncProperty(
      content,
      content,
      fc.array(step, { minLength: 1, maxLength: 25 }),
      async (first, second, steps) => {
        const clock = createClock()
        const cache = createCache({
          capacity: 1000,
          ttl_seconds: 300,
          stale_if_error_seconds: 3600,
          negative_ttl_seconds: 30,
          clock: clock.now
        })
        const upstreams = { gitea: createUpstream('gitea', first), oci: createUpstream('oci', second) }
        const backends = extensionSources.map(source =>
          createCachedBackend(upstreams[source].driver, { cache, priority: 100, downloadUrls: 'upstream' })
        )
        catalog = createCatalog({ backends, downloads: createPlainDownloads(), log, negativeTtl: 30, budget: 10 })
        const etags = new Map<string, string>()

        for (const one of steps) {
          if ('later' in one) clock.forward(one.later)
          else if ('publish' in one) upstreams[one.at].content = one.publish
          else {
            const { path, query } = one.send
            const url = `/api/v1/extensions${path}?${
              new URLSearchParams(Object.entries(query).map(([key, value]): [string, string] => [key, String(value)]))
                .toString()
            }`
            // The first request may start a refresh in the background; the second request gets its result.
            await ours.inject({ url })
            await turn()
            const response = await ours.inject({ url })
            const expected = await plain.inject({ url })
            equal(response.statusCode, expected.statusCode, url)
            deepEqual(response.rawPayload, expected.rawPayload, url)
            if (response.statusCode !== 200) continue
            equal(response.headers['content-type'], expected.headers['content-type'])
            const etag = String(response.headers.etag)
            match(etag, /^"[\w-]{27}"$/)
            equal(etags.get(response.body) ?? etag, etag, 'equal bodies have the same ETag')
            for (const [body, other] of etags) {
              if (body !== response.body) notEqual(other, etag, 'different bodies have different ETags')
            }
            etags.set(response.body, etag)
            for (const [coding, decode] of [['br', brotliDecompressSync], ['gzip', gunzipSync]] as const) {
              let form = await ours.inject({ url, headers: { 'accept-encoding': coding } })
              for (
                let turns = 0;
                response.rawPayload.length >= 1024 && form.headers['content-encoding'] === undefined && turns < 1000;
                turns++
              ) {
                await turn()
                form = await ours.inject({ url, headers: { 'accept-encoding': coding } })
              }
              equal(form.headers['content-encoding'], response.rawPayload.length < 1024 ? undefined : coding)
              if (form.headers['content-encoding'] === undefined) { continue }
              coded++
              deepEqual(decode(form.rawPayload), expected.rawPayload, `${url} in ${coding}`)
            }
          }
        }
      }
    ),
    { runs: share(200), seconds: 60 }
  )
  t.ok(coded > 0, 'some responses were large enough for a coding')
  const timeless = async (app: FastifyInstance, url: string) =>
    (await app.inject({ url })).body.replace(/"uptime":\d+/, '"uptime":0')
  for (const url of ['/api/v1/health', '/api/v1/cache/stats']) {
    t.equal(await timeless(ours, url), await timeless(plain, url), url)
  }
})
