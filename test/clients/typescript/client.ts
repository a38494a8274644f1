import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { parseArgs } from 'node:util'
import createClient, { type Client } from 'openapi-fetch'
import type { components, operations, paths } from './generated/registry.ts'

type Extension = components['schemas']['Extension']
type ErrorResponse = components['schemas']['ErrorResponse']
/** Result of an operation: `data` after success, otherwise `error`. */
interface Result<T> { data?: T, error?: ErrorResponse, response: Response }

// Addresses of registries: one that serves the examples, and one for each kind of trouble with its only upstream.
const { values: addresses } = parseArgs({
  options: {
    registry: { type: 'string' },
    unavailable: { type: 'string' },
    refused: { type: 'string' },
    limited: { type: 'string' }
  }
})
const connect = (address: string | undefined): Client<paths> => {
  assert(address !== undefined, 'an address for each of --registry, --unavailable, --refused and --limited')
  return createClient<paths>({ baseUrl: address })
}
const registry = connect(addresses.registry)
const kubernetes = { type: 'taskserv', name: 'kubernetes' } as const

/** The data of a success. */
function dataOf<T> ({ data, error, response }: Result<T>, status = 200): T {
  assert.equal(response.status, status, error?.message ?? response.url)
  assert(data !== undefined)
  return data
}

interface Part { limit: number, offset: number }

/**
 * Returns the query of the next page from `Link`. The link is a relative reference, and a generated client needs only
 * its query.
 */
function nextOf ({ headers, url }: Response): Part | undefined {
  const next = /<([^>]*)>; rel="next"/.exec(headers.get('link') ?? '')?.[1]
  if (next === undefined) return undefined
  const { searchParams } = new URL(next, url)
  return { limit: Number(searchParams.get('limit')), offset: Number(searchParams.get('offset')) }
}

async function sha256Of (file: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(file), hash)
  return `sha256:${hash.digest('hex')}`
}

/**
 * Every operation of the document; a missing one is a compile error. Each sends a request and checks the response.
 */
const checks: Record<keyof operations, () => Promise<void>> = {
  async listExtensions () {
    // Along `Link` to the last page, and each page again: nothing changed.
    const found: Extension[] = []
    let total = 0
    let query: Part | undefined = { limit: 5, offset: 0 }
    while (query !== undefined) {
      const page: Result<Extension[]> = await registry.GET('/api/v1/extensions', { params: { query } })
      found.push(...dataOf(page))
      total = Number(page.response.headers.get('x-total-count'))

      const again: Result<Extension[]> = await registry.GET('/api/v1/extensions', {
        params: { query },
        headers: { 'If-None-Match': page.response.headers.get('etag') }
      })
      assert.equal(again.response.status, 304)
      assert.equal(again.data, undefined)
      query = nextOf(page.response)
    }
    assert.equal(found.length, total)
    assert.equal(new Set(found.map(({ type, name }) => `${type}/${name}`)).size, total)

    const clusters = dataOf(
      await registry.GET('/api/v1/extensions', { params: { query: { type: 'cluster', source: 'oci' } } })
    )
    assert.deepEqual(clusters, found.filter(({ type }) => type === 'cluster'))
  },

  async searchExtensions () {
    const [best] = dataOf(
      await registry.GET('/api/v1/extensions/search', {
        params: { query: { q: 'Kubernetes', type: 'taskserv', limit: 1 } }
      })
    )
    assert.equal(best?.name, 'kubernetes')
  },

  async getExtension () {
    const extension = dataOf(await registry.GET('/api/v1/extensions/{type}/{name}', { params: { path: kubernetes } }))
    assert.equal(extension.source, 'oci')
    assert.ok(Date.parse(extension.published_at) > 0)
    assert.deepEqual(extension.tags, ['containers', 'orchestration'])
  },

  async listExtensionVersions () {
    const versions = dataOf(
      await registry.GET('/api/v1/extensions/{type}/{name}/versions', { params: { path: kubernetes } })
    )
    assert.deepEqual(versions.map(({ version }) => version), ['1.28.0', '1.27.5', '1.27.4'])
  },

  async downloadExtension () {
    const { version, checksum, size } = dataOf(
      await registry.GET('/api/v1/extensions/{type}/{name}', { params: { path: kubernetes } })
    )
    const folder = await mkdtemp(join(tmpdir(), 'registry-client-'))
    try {
      const file = join(folder, 'extension.tar.gz')
      const download = await registry.GET('/api/v1/extensions/{type}/{name}/{version}', {
        params: { path: { ...kubernetes, version: 'latest' } },
        parseAs: 'stream'
      })
      const content = dataOf(download)
      assert(content !== null)
      assert.ok(download.response.redirected, '`latest` leads to the exact version')
      assert.ok(download.response.url.endsWith(`/${version}`))
      assert.match(
        download.response.headers.get('content-disposition') ?? '',
        /filename="?kubernetes_taskserv\.tar\.gz"?$/
      )
      await pipeline(Readable.from(content), createWriteStream(file))
      assert.equal((await stat(file)).size, size)
      assert.equal(await sha256Of(file), checksum)

      const etag = download.response.headers.get('etag')
      const again = await registry.GET('/api/v1/extensions/{type}/{name}/{version}', {
        params: { path: { ...kubernetes, version } },
        headers: { 'If-None-Match': etag }
      })
      assert.equal(again.response.status, 304)
    } finally {
      await rm(folder, { recursive: true })
    }
  },

  async headExtension () {
    const { response } = await registry.HEAD('/api/v1/extensions/{type}/{name}/{version}', {
      params: { path: { ...kubernetes, version: '1.27.5' } }
    })
    const versions = dataOf(
      await registry.GET('/api/v1/extensions/{type}/{name}/versions', { params: { path: kubernetes } })
    )
    const version = versions.find(({ version }) => version === '1.27.5')
    assert.equal(response.status, 200)
    assert.equal(Number(response.headers.get('content-length')), version?.size)
    const [, digest = ''] = /^sha-256=:(.*):$/.exec(response.headers.get('repr-digest') ?? '') ?? []
    assert.equal(`sha256:${Buffer.from(digest, 'base64').toString('hex')}`, version?.checksum)
  },

  async getCacheStats () {
    const { list_entries: lists, metadata_entries: metadata, version_entries: versions, total_entries: total } = dataOf(
      await registry.GET('/api/v1/cache/stats')
    )
    assert.ok(total > 0)
    assert.equal(total, lists + metadata + versions)
  },

  async getHealth () {
    const { status, backends } = dataOf(await registry.GET('/api/v1/health'))
    assert.equal(status, 'healthy')
    assert.deepEqual([backends.oci.enabled, backends.oci.healthy, backends.gitea.enabled], [true, true, false])
  },

  async getHealthAtRoot () {
    const { version, uptime } = dataOf(await registry.GET('/health'))
    assert.match(version, /^\d+\.\d+\.\d+/)
    assert.ok(uptime >= 0)
  },

  async getMetrics () {
    assert.match(dataOf(await registry.GET('/api/v1/metrics', { parseAs: 'text' })), /^http_requests_total\{/m)
  },

  async getMetricsAtRoot () {
    assert.match(dataOf(await registry.GET('/metrics', { parseAs: 'text' })), /^extensions_total\{/m)
  },

  async getLiveness () {
    assert.equal(dataOf(await registry.GET('/livez')).status, 'ok')
  },

  async getReadiness () {
    assert.equal(dataOf(await registry.GET('/readyz')).status, 'ok')
  }
}

const list = async (address: string | undefined) => await connect(address).GET('/api/v1/extensions')
const find = async (name: string) =>
  await registry.GET('/api/v1/extensions/{type}/{name}', { params: { path: { type: 'provider', name } } })
const fetchVersion = async (version: string) =>
  await registry.GET('/api/v1/extensions/{type}/{name}/{version}', {
    params: { path: { ...kubernetes, version } },
    parseAs: 'stream'
  })

/** Every documented error that a client can bring about, with its status. */
const provoked: Record<string, { status: number, provoke: () => Promise<Result<unknown>> }> = {
  not_found: { status: 404, provoke: async () => await find('nonexistent') },
  invalid_type: {
    status: 400,
    provoke: async () =>
      // @ts-expect-error: the generated types refuse it before the registry does
      await registry.GET('/api/v1/extensions/{type}/{name}', { params: { path: { type: 'plugin', name: 'aws' } } })
  },
  invalid_version: { status: 400, provoke: async () => await fetchVersion('newest') },
  invalid_request: {
    status: 400,
    provoke: async () => await registry.GET('/api/v1/extensions', { params: { query: { limit: 1001 } } })
  },
  method_not_allowed: {
    status: 405,
    // @ts-expect-error: the generated types refuse it before the registry does
    provoke: async () => await registry.POST('/api/v1/extensions')
  },
  precondition_failed: {
    status: 412,
    provoke: async () =>
      await registry.GET('/api/v1/extensions/{type}/{name}', {
        params: { path: kubernetes },
        headers: { 'If-Match': '"of another file"' }
      })
  },
  range_not_satisfiable: {
    status: 416,
    provoke: async () =>
      await registry.GET('/api/v1/extensions/{type}/{name}/{version}', {
        params: { path: { ...kubernetes, version: '1.27.5' } },
        headers: { range: 'bytes=1000000000-' },
        parseAs: 'stream'
      })
  },
  auth_error: { status: 401, provoke: async () => await list(addresses.refused) },
  rate_limit: { status: 429, provoke: async () => await list(addresses.limited) },
  service_unavailable: { status: 503, provoke: async () => await list(addresses.unavailable) }
}

for (const [operation, check] of Object.entries(checks)) {
  await check()
  console.log(`operation ${operation}`)
}
for (const [type, { status, provoke }] of Object.entries(provoked)) {
  const { data, error, response } = await provoke()
  assert.equal(data, undefined, type)
  assert.equal(response.status, status, type)
  assert.equal(error?.error, type)
  assert.ok(error.message !== '', type)
  if (status === 429 || status === 503) {
    assert.ok(Number(response.headers.get('retry-after')) > 0, `${type} has Retry-After`)
  }
  console.log(`error ${type}`)
}
