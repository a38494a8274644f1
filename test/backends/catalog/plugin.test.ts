import { text } from 'node:stream/consumers'
import t from 'tap'
import { createCachedBackend } from '../../../backends/cached/cached-backend.ts'
import { createCatalog } from '../../../backends/catalog/catalog.ts'
import { createCache } from '../../../plugins/cache/cache.ts'
import { registryError } from '../../../lib/errors.ts'
import { createClock } from '../../fakes/clock.ts'
import { createPlainDownloads } from '../../fakes/downloads.ts'
import { createFakeDriver } from '../../fakes/driver.ts'
import { createLog } from '../../fakes/log.ts'
import { matchStrictly } from '../../fakes/match.ts'

const down = registryError('service_unavailable', 'Instance gitea is unavailable', {
  instance: 'gitea',
  details: 'Connection refused',
  proxyError: 'connection_refused'
})
const refused = registryError('auth_error', 'refused', { instance: 'gitea' })
const limited = registryError('rate_limit', 'limited', { instance: 'gitea', retryAfter: 60 })

function setUp (
  { gitea = {}, oci = {}, priority = 100 }: {
    gitea?: Record<string, string[]>,
    oci?: Record<string, string[]>,
    priority?: number
  } = {}
) {
  const clock = createClock()
  const cache = createCache({
    capacity: 1000,
    ttl_seconds: 300,
    stale_if_error_seconds: 3600,
    negative_ttl_seconds: 30,
    clock: clock.now
  })
  const [first, second] = [createFakeDriver('gitea', 'gitea', gitea), createFakeDriver('oci', 'oci', oci)]
  const { log, lines: logged } = createLog()
  const catalog = createCatalog({
    backends: [
      createCachedBackend(second.driver, {
        cache,
        priority,
        downloadUrls: 'gateway',
        publicUrl: 'https://registry.example.com/'
      }),
      createCachedBackend(first.driver, { cache, priority: 100, downloadUrls: 'upstream' })
    ],
    downloads: createPlainDownloads(),
    log,
    negativeTtl: 30,
    budget: 10
  })
  const list = async (scope: { source?: 'gitea' | 'oci', type?: 'provider' | 'taskserv' | 'cluster' } = {}) => {
    const { value, ...rest } = await catalog.list({ limit: 100, offset: 0, ...scope })
    return {
      names: value.items.map(({ type, name, source }) => `${type}/${name} ${source}`),
      total: value.total,
      ...rest
    }
  }
  return { catalog, cache, clock, gitea: first, oci: second, list, logged }
}
const aws = { type: 'provider', name: 'aws' } as const
const k3s = { type: 'taskserv', name: 'k3s' } as const

await t.test('a list has each extension once, ordered by type and name, from the instance that owns it', async t => {
  const { list, catalog, logged } = setUp({
    gitea: { 'cluster/web': ['1.0.0'], 'provider/aws': ['1.0.0'] },
    oci: { 'taskserv/k3s': ['1.0.0'], 'provider/aws': ['9.0.0'], 'provider/Zoo': ['1.0.0'] }
  })
  matchStrictly(t, await list(), {
    names: ['provider/Zoo oci', 'provider/aws gitea', 'taskserv/k3s oci', 'cluster/web gitea'],
    total: 4,
    stale: [],
    missing: []
  })
  t.equal((await catalog.find(aws)).value.version, '1.0.0', 'a higher version of another instance does not shadow it')
  t.strictSame([...(await catalog.census()).shadowed], [['oci', 1]])
  await list()
  t.equal(logged.filter(line => line.includes('shadowed')).length, 1, 'the name is logged once')
})

await t.test('the smaller priority decides about ownership before the kind does', async t => {
  const { catalog } = setUp({ gitea: { 'provider/aws': ['1.0.0'] }, oci: { 'provider/aws': ['9.0.0'] }, priority: 50 })
  matchStrictly(t, (await catalog.find(aws)).value, { version: '9.0.0', source: 'oci' })
})

await t.test('the source filter applies before ownership is decided', async t => {
  const { catalog, list } = setUp({ gitea: { 'provider/aws': ['1.0.0'] }, oci: { 'provider/aws': ['9.0.0'] } })
  matchStrictly(t, (await catalog.find({ ...aws, source: 'oci' })).value, {
    version: '9.0.0',
    source: 'oci',
    download_url: 'https://registry.example.com/api/v1/extensions/provider/aws/9.0.0'
  })
  matchStrictly(t, (await list({ source: 'oci' })).names, ['provider/aws oci'])
  matchStrictly(t, (await catalog.versions({ ...aws, source: 'oci' })).value, [{ version: '9.0.0' }])
  const { value } = await catalog.file({ ...aws, source: 'oci', version: '9.0.0' })
  t.equal(value.file.validator, 'oci-provider/aws-9.0.0')
})

await t.test('concurrent lists share one crawl, and two hundred first requests for one name share one ' +
  'load', async t => {
  const { catalog, list, gitea } = setUp({ gitea: { 'provider/aws': ['1.0.0'] } })
  await Promise.all([list(), list(), list({ type: 'provider' })])
  t.equal(gitea.calls.list, 1)
  await Promise.all(Array.from({ length: 200 }, async () => await catalog.versions(aws)))
  t.equal(gitea.calls.load, 1)
})

await t.test('metadata is read from the listing without an upstream request', async t => {
  const { catalog, list, gitea } = setUp({ gitea: { 'provider/aws': ['1.0.0'] } })
  await list()
  matchStrictly(t, await catalog.find(aws), { hit: true, value: { version: '1.0.0' } })
  t.equal(gitea.calls.load, 0)
})

await t.test('in an outage after a listing known names are stale, unknown names fail with 503, and other instances ' +
  'are unaffected', async t => {
  const { catalog, clock, list, gitea, oci } = setUp({
    gitea: { 'provider/aws': ['1.0.0'] },
    oci: { 'taskserv/k3s': ['2.0.0'], 'provider/aws': ['9.0.0'] }
  })
  await list()
  await catalog.versions(aws)
  clock.forward(301)
  gitea.fault = down
  matchStrictly(t, await catalog.find(aws), {
    value: { version: '1.0.0', source: 'gitea' },
    stale: [{ instance: 'gitea' }],
    ttl: 0
  })
  matchStrictly(t, await catalog.versions(aws), { value: [{ version: '1.0.0' }], stale: [{ instance: 'gitea' }] })
  matchStrictly(t, await catalog.find(k3s), { value: { version: '2.0.0' }, stale: [{ instance: 'gitea' }] })
  matchStrictly(t, await catalog.versions(k3s), { value: [{ version: '2.0.0' }] })
  await t.rejects(async () => await catalog.find({ type: 'provider', name: 'nowhere' }), {
    code: 'service_unavailable'
  })
  await t.rejects(async () => await catalog.versions({ type: 'provider', name: 'nowhere' }), {
    code: 'service_unavailable'
  })
  await t.rejects(
    async () => await catalog.file({ ...aws, version: '7.7.7' }),
    { code: 'service_unavailable' },
    'the version may be new'
  )
  matchStrictly(t, await list(), {
    names: ['provider/aws gitea', 'taskserv/k3s oci'],
    stale: [{ instance: 'gitea' }],
    missing: []
  })
  gitea.content.set('provider/new', ['1.0.0'])
  gitea.fault = undefined
  clock.forward(60)
  matchStrictly(t, await list(), { names: ['provider/aws gitea', 'provider/new gitea', 'taskserv/k3s oci'], stale: [] })
  t.equal(oci.calls.open, 0)
})

await t.test('ownership does not change in an outage before the first listing', async t => {
  const { catalog, gitea, list } = setUp({ gitea: { 'provider/aws': ['1.0.0'] }, oci: { 'provider/aws': ['9.0.0'] } })
  gitea.fault = down
  await t.rejects(async () => await catalog.find(aws), { code: 'service_unavailable' })
  await t.rejects(async () => await catalog.versions(aws), { code: 'service_unavailable' })
  await t.rejects(async () => await catalog.file({ ...aws, version: '9.0.0' }), { code: 'service_unavailable' })
  matchStrictly(
    t,
    await list(),
    { names: ['provider/aws oci'], missing: [{ instance: 'gitea' }], ttl: 0 },
    'the list reports the missing instance'
  )
  matchStrictly(
    t,
    await catalog.find({ ...aws, source: 'oci' }),
    { value: { version: '9.0.0' } },
    'a request for that source returns its extension'
  )
})

await t.test('when no instance responds, the error is the first of: unavailable, rate limit, credentials', async t => {
  const { list, catalog, clock, gitea, oci } = setUp({ gitea: { 'provider/aws': ['1.0.0'] } })
  gitea.fault = refused
  oci.fault = refused
  await t.rejects(list(), { code: 'auth_error' })
  await t.rejects(async () => await catalog.find(aws), { code: 'auth_error' })
  oci.fault = limited
  await t.rejects(list(), { code: 'rate_limit', retryAfter: 60 })
  gitea.fault = down
  clock.forward(5)
  await t.rejects(list(), { code: 'service_unavailable' })
})

await t.test('a stale entry is served within its time limit, and not after it', async t => {
  const { catalog, clock, list, gitea } = setUp({ gitea: { 'provider/aws': ['1.0.0'] } })
  await list()
  gitea.fault = down
  clock.forward(3800)
  matchStrictly(t, await catalog.find(aws), { value: { version: '1.0.0' } })
  clock.forward(200)
  await t.rejects(async () => await catalog.find(aws), { code: 'service_unavailable' })
  await t.rejects(list({ source: 'gitea' }), { code: 'service_unavailable' })
})

await t.test('an extension that was published a minute ago is found', async t => {
  const { catalog, clock, list, gitea } = setUp({ gitea: { 'provider/aws': ['1.0.0'] } })
  await list()
  await catalog.versions(aws)
  clock.forward(60)
  gitea.content.set('provider/new', ['1.0.0'])
  gitea.content.set('provider/aws', ['1.0.0', '1.1.0'])
  matchStrictly(t, await catalog.find({ type: 'provider', name: 'new' }), { value: { version: '1.0.0' } })
  matchStrictly(t, (await catalog.file({ ...aws, version: '1.1.0' })).value, { file: { name: 'aws.tar.gz' } })
})

await t.test('requests for an absent extension cause one upstream request within the negative TTL', async t => {
  const { catalog, clock, list, gitea } = setUp({ gitea: { 'provider/aws': ['1.0.0'] } })
  await list()
  const missing = { type: 'provider', name: 'missing' } as const
  for (let times = 0; times < 3; times++) {
    await t.rejects(async () => await catalog.find(missing), {
      code: 'not_found',
      message: 'Extension provider/missing not found'
    })
  }
  t.equal(gitea.calls.load, 0, 'a recent and complete listing proves the absence')
  clock.forward(31)
  for (let times = 0; times < 3; times++) {
    await t.rejects(async () => await catalog.find(missing), { code: 'not_found' })
  }
  t.equal(gitea.calls.load, 1)
  await t.rejects(async () => await catalog.file({ ...aws, version: '7.7.7' }), {
    code: 'not_found',
    message: 'Extension provider/aws version 7.7.7 not found'
  })
})

await t.test('an unreadable repository keeps its last known version and does not prove an absence', async t => {
  const { catalog, clock, list, gitea } = setUp({
    gitea: { 'provider/aws': ['1.0.0'], 'provider/gcp': ['1.0.0'] },
    oci: { 'provider/aws': ['9.0.0'], 'provider/new': ['9.0.0'] }
  })
  await list()
  clock.forward(301)
  gitea.content.set('provider/new', ['1.0.0'])
  gitea.content.set('provider/gcp', ['2.0.0'])
  gitea.broken.set('provider/aws', down).set('provider/new', down)
  const partial = await list()
  matchStrictly(t, partial, { missing: [{ instance: 'gitea' }], ttl: 0 })
  t.ok(partial.names.includes('provider/aws gitea'))
  matchStrictly(t, (await catalog.find(aws)).value, { version: '1.0.0', source: 'gitea' })
  matchStrictly(t, (await catalog.find({ type: 'provider', name: 'gcp' })).value, { version: '2.0.0' })
  gitea.broken.delete('provider/aws')
  gitea.broken.delete('provider/new')
  clock.forward(31)
  matchStrictly(t, await list(), { missing: [], stale: [] }, 'the repository is read again soon')
})

await t.test('an extension that disappears from a complete listing is not found', async t => {
  const { catalog, clock, list, gitea } = setUp({ gitea: { 'provider/aws': ['1.0.0'], 'provider/gcp': ['1.0.0'] } })
  await list()
  await catalog.versions(aws)
  gitea.content.delete('provider/aws')
  clock.forward(301)
  matchStrictly(t, (await list()).names, ['provider/gcp gitea'])
  clock.forward(31)
  await t.rejects(async () => await catalog.find(aws), { code: 'not_found' })
  await t.rejects(async () => await catalog.versions(aws), { code: 'not_found' })
})

await t.test('a file that is gone at its known address is looked up once more', async t => {
  const { catalog, gitea, clock } = setUp({ gitea: { 'provider/aws': ['1.0.0'] } })
  const { signal } = new AbortController()
  const { value } = await catalog.file({ ...aws, version: '1.0.0' })
  t.equal(await text((await catalog.open(value, { signal })).read({ start: 0 })), 'bytes')
  gitea.content.set('provider/aws', ['1.1.0'])
  clock.forward(1)
  await t.rejects(catalog.open(value, { signal }), { code: 'not_found' })
  t.equal(gitea.calls.load, 2)
})

await t.test('an upstream that fails repeatedly receives no requests during a short pause', async t => {
  const { catalog, clock, gitea } = setUp({ gitea: { 'provider/aws': ['1.0.0'] } })
  gitea.fault = down
  for (let times = 0; times < 20; times++) {
    await t.rejects(async () => await catalog.find(aws), { code: 'service_unavailable' })
  }
  t.equal(gitea.calls.load, 3)
  gitea.fault = undefined
  clock.forward(2)
  matchStrictly(t, await catalog.find(aws), { value: { version: '1.0.0' } })
})

await t.test('a failing repository does not affect the others', async t => {
  const { catalog, gitea } = setUp({ gitea: { 'provider/aws': ['1.0.0'], 'provider/bad': ['1.0.0'] } })
  gitea.broken.set(
    'provider/bad',
    registryError('service_unavailable', 'bad', { instance: 'gitea', proxyError: 'destination_unavailable' })
  )
  for (let times = 0; times < 10; times++) {
    await t.rejects(async () => await catalog.versions({ type: 'provider', name: 'bad' }), {
      code: 'service_unavailable'
    })
  }
  matchStrictly(t, await catalog.versions(aws), { value: [{ version: '1.0.0' }] })
})

await t.test('during an outage the newer of two stale entries is used, and an extension that was deleted before ' +
  'stays absent', async t => {
  const { catalog, clock, list, gitea } = setUp({
    gitea: { 'provider/aws': ['1.0.0'], 'provider/gone': ['1.0.0'] },
    oci: { 'provider/gone': ['7.0.0'] }
  })
  const gone = { type: 'provider', name: 'gone' } as const
  await catalog.versions(aws)
  await catalog.versions(gone)
  clock.forward(200)
  gitea.content.set('provider/aws', ['1.0.0', '2.0.0'])
  gitea.content.delete('provider/gone')
  await list()
  clock.forward(301)
  gitea.fault = down
  t.equal((await catalog.find(aws)).value.version, '2.0.0')
  matchStrictly(
    t,
    await catalog.versions(aws),
    { value: [{ version: '1.0.0' }], stale: [{ instance: 'gitea' }] },
    'older versions are served when the newest list is not available'
  )
  matchStrictly(t, (await catalog.find(gone)).value, { version: '7.0.0', source: 'oci' })
  matchStrictly(t, (await catalog.versions(gone)).value, [{ version: '7.0.0' }])
})

await t.test('a listing that is newer than an absence ends it, and an absence that is newer than a listing hides the ' +
  'extension', async t => {
  const { catalog, clock, list, gitea } = setUp({ gitea: { 'provider/old': ['1.0.0'] } })
  const [old, next] = [{ type: 'provider', name: 'old' }, { type: 'provider', name: 'next' }] as const
  await t.rejects(async () => await catalog.versions(next), { code: 'not_found' })
  clock.forward(1)
  gitea.content.set('provider/next', ['1.0.0'])
  await list()
  clock.forward(1)
  matchStrictly(t, (await catalog.versions(next)).value, [{ version: '1.0.0' }])
  gitea.content.delete('provider/old')
  await t.rejects(async () => await catalog.versions(old), { code: 'not_found' })
  await t.rejects(async () => await catalog.find(old), { code: 'not_found' })
})

await t.test('an unreadable repository is forgotten after the stale limit, and no other instance takes its name ' +
  'meanwhile', async t => {
  const { catalog, clock, list, gitea } = setUp({
    gitea: { 'provider/aws': ['1.0.0'], 'provider/gcp': ['1.0.0'] },
    oci: { 'provider/aws': ['9.0.0'] }
  })
  gitea.broken.set('provider/aws', down)
  matchStrictly(t, await list(), { names: ['provider/gcp gitea'], missing: [{ instance: 'gitea' }] }, 'never read')
  await t.rejects(async () => await catalog.find(aws), { code: 'service_unavailable' })
  gitea.broken.clear()
  clock.forward(31)
  matchStrictly(t, (await list()).names, ['provider/aws gitea', 'provider/gcp gitea'])
  gitea.broken.set('provider/aws', down)
  for (let hours = 0; hours < 3; hours++) {
    clock.forward(1200)
    await list()
  }
  matchStrictly(t, (await list()).names, ['provider/aws gitea', 'provider/gcp gitea'])
  clock.forward(1000)
  matchStrictly(t, await list(), { names: ['provider/gcp gitea'], missing: [{ instance: 'gitea' }] })
})

await t.test('requests respect the Retry-After of an upstream, and responses pass it on', async t => {
  const { catalog, clock, gitea } = setUp({ gitea: { 'provider/aws': ['1.0.0'] } })
  gitea.fault = limited
  await t.rejects(async () => await catalog.find(aws), { code: 'rate_limit', retryAfter: 60 })
  gitea.fault = undefined
  clock.forward(20)
  await t.rejects(async () => await catalog.find(aws), { code: 'rate_limit', retryAfter: 40 })
  clock.forward(41)
  matchStrictly(t, await catalog.find(aws), { value: { version: '1.0.0' } })
})

await t.test('search ranks the extensions of all instances and returns their total', async t => {
  const { catalog } = setUp({
    gitea: { 'provider/aws': ['1.0.0'], 'taskserv/my-aws': ['1.0.0'] },
    oci: { 'cluster/aws': ['1.0.0'] }
  })
  const { value } = await catalog.search({ q: 'AWS', limit: 2 })
  matchStrictly(t, value, { total: 3, items: [{ type: 'provider', name: 'aws' }, { type: 'cluster', name: 'aws' }] })
})
