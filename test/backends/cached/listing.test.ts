import t from 'tap'
import { createCachedBackend } from '../../../backends/cached/cached-backend.ts'
import { createCatalog } from '../../../backends/catalog/catalog.ts'
import { createCache } from '../../../plugins/cache/cache.ts'
import { registryError } from '../../../lib/errors.ts'
import { createClock } from '../../fakes/clock.ts'
import { createPlainDownloads } from '../../fakes/downloads.ts'
import { createFakeDriver } from '../../fakes/driver.ts'
import { createLog } from '../../fakes/log.ts'

function setUp (others: Record<string, string[]> = {}) {
  const clock = createClock()
  const cache = createCache({
    capacity: 1000,
    ttl_seconds: 300,
    stale_if_error_seconds: 3600,
    negative_ttl_seconds: 30,
    clock: clock.now
  })
  const upstream = createFakeDriver('gitea', 'gitea', {
    'provider/aws': ['1.0.0'],
    'provider/gcp': ['1.0.0'],
    'cluster/k3s': ['2.0.0']
  })
  const backend = createCachedBackend(upstream.driver, { cache, priority: 100, downloadUrls: 'upstream' })
  const other = createCachedBackend(createFakeDriver('oci', 'oci', others).driver, {
    cache,
    priority: 200,
    downloadUrls: 'upstream'
  })
  const { log } = createLog()
  const catalog = createCatalog({
    backends: [backend, other],
    downloads: createPlainDownloads(),
    log,
    negativeTtl: 30,
    budget: 10
  })
  const list = async (query: { type?: 'provider', offset?: number } = {}) =>
    (await catalog.list({ limit: 10, offset: 0, ...query })).value.items
  return { upstream, clock, catalog, backend, list }
}

await t.test('a crawl without changes keeps the objects of all lists and extensions', async t => {
  const { upstream, clock, catalog, list } = setUp()
  const before = {
    all: await list(),
    providers: await list({ type: 'provider' }),
    second: await list({ offset: 1 }),
    found: (await catalog.search({ q: 'a', limit: 10 })).value.items
  }
  clock.forward(301)
  t.equal(await list(), before.all)
  t.equal(upstream.calls.list, 2)
  t.equal(await list({ type: 'provider' }), before.providers)
  t.equal(await list({ offset: 1 }), before.second)
  t.not(before.second, before.all)
  t.equal(
    (await catalog.search({ q: ' A ', limit: 11 })).value.items,
    before.found,
    'a limit above the total returns the same list'
  )
})

await t.test('changed extensions become new objects, and unchanged ones keep theirs', async t => {
  const { upstream, clock, list } = setUp()
  const [aws, gcp, k3s] = await list()
  upstream.content.set('provider/gcp', ['1.0.0', '1.1.0'])
  upstream.content.set('provider/azure', ['1.0.0'])
  clock.forward(301)
  const after = await list()
  t.strictSame(after.map(({ name, version }) => `${name} ${version}`), [
    'aws 1.0.0',
    'azure 1.0.0',
    'gcp 1.1.0',
    'k3s 2.0.0'
  ])
  t.equal(after[0], aws)
  t.not(after[2], gcp)
  t.equal(after[3], k3s)
  upstream.content.delete('provider/aws')
  clock.forward(301)
  t.strictSame((await list()).map(({ name }) => name), ['azure', 'gcp', 'k3s'])
})

await t.test('versions that are read again keep their list object while no version is new', async t => {
  const { upstream, clock, catalog } = setUp()
  const versions = async () => (await catalog.versions({ type: 'provider', name: 'aws' })).value
  const before = await versions()
  clock.forward(301)
  t.equal(await versions(), before)
  t.ok(upstream.calls.load > 1)
  upstream.content.set('provider/aws', ['1.0.0', '1.1.0'])
  clock.forward(301)
  t.strictSame((await versions()).map(({ version }) => version), ['1.1.0', '1.0.0'])
})

await t.test('an unreadable name that is later absent belongs to its next owner, though all other names are ' +
  'unchanged', async t => {
  const { upstream, clock, list } = setUp({ 'provider/azure': ['3.0.0'] })
  upstream.content.set('provider/azure', ['1.0.0'])
  upstream.broken.set('provider/azure', registryError('service_unavailable', 'Broken', { instance: 'gitea' }))
  t.strictSame((await list()).map(({ name }) => name), ['aws', 'gcp', 'k3s'], 'the first instance may own it')
  upstream.broken.clear()
  upstream.content.delete('provider/azure')
  clock.forward(301)
  t.strictSame((await list()).map(({ name, source }) => `${name} ${source}`), [
    'aws gitea',
    'azure oci',
    'gcp gitea',
    'k3s gitea'
  ])
})

await t.test('a request for metadata reads the current version only, from a driver that can do this', async t => {
  const { upstream, clock, backend } = setUp()
  const { driver, calls, content } = upstream
  driver.current = async (type, name) => {
    const loaded = await driver.load(type, name)
    calls.load--
    const release = loaded?.releases[0]
    return loaded === undefined || release === undefined ? undefined : { metadata: loaded.metadata, release }
  }
  const versions = async () => (await backend.versions('provider', 'aws')).value?.map(({ version }) => version)
  t.equal((await backend.find('provider', 'aws')).value?.version, '1.0.0')
  t.equal(calls.load, 0, 'metadata need no list of versions')
  t.strictSame(await versions(), ['1.0.0'])
  clock.forward(100)
  content.set('provider/aws', ['1.1.0', '1.0.0'])
  t.strictSame(await versions(), ['1.0.0'], 'from the cache')
  t.equal((await backend.find('provider', 'aws', { maxAge: 10 })).value?.version, '1.1.0')
  t.equal(calls.load, 1)
  t.strictSame(await versions(), ['1.1.0', '1.0.0'], 'versions are not older than metadata with a new version')
  content.delete('provider/aws')
  t.equal((await backend.find('provider', 'aws', { maxAge: -1 })).value, undefined)
  t.equal((await backend.versions('provider', 'aws')).value, undefined)
  t.equal(calls.load, 2, 'the absence holds for both')
})

await t.test('loads of metadata and of versions of a name run one after another, so that no older data replace newer ' +
  'data', async t => {
  const { upstream, backend } = setUp()
  const { driver, content } = upstream
  const wait = Promise.withResolvers<void>()
  const load = driver.load.bind(driver)
  driver.load = async (type, name) => {
    const loaded = await load(type, name)
    await wait.promise
    return loaded
  }
  driver.current = async (type, name) => {
    const loaded = await load(type, name)
    const release = loaded?.releases[0]
    return loaded === undefined || release === undefined ? undefined : { metadata: loaded.metadata, release }
  }
  const versions = backend.versions('provider', 'aws')
  await new Promise(setImmediate)
  content.set('provider/aws', ['1.1.0', '1.0.0'])
  const found = backend.find('provider', 'aws')
  wait.resolve()
  t.strictSame((await versions).value?.map(({ version }) => version), ['1.0.0'])
  t.equal((await found).value?.version, '1.1.0')
  t.equal((await backend.find('provider', 'aws')).value?.version, '1.1.0')
})
