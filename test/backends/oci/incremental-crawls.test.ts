import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Extension, ExtensionVersion } from '../../../schemas/extension.ts'
import { startApp } from '../../fakes/app.ts'
import { writeLayout } from '../../fakes/layout.ts'
import { matchStrictly } from '../../fakes/match.ts'
import { contentOf, createRegistryFake, type RegistryFakeOptions } from '../../fakes/registry.ts'

const count = 24
const names = Array.from({ length: count }, (_, number) => `n${String(number).padStart(2, '0')}`)
const repository = (name: string) => `provider/${name}`
/** Seconds between two crawls, and within which each repository is read. A crawl reads two of them. */
const [interval, bound] = [300, 3600]
const crawlsInBound = bound / interval

/** Starts a registry with 24 repositories, crawls once, and returns the requests and results of further crawls. */
async function setUp (t: Test, settings: object = {}, options: RegistryFakeOptions = {}) {
  const root = join(t.testdir({}), 'layouts')
  const tags = ['1.0.0', '1.1.0', '2.0.0', 'latest']
  await writeLayout(
    root,
    names.flatMap(name => tags.map(tag => ({ repository: repository(name), tag })))
  )
  const fake = await createRegistryFake(await contentOf(root), options)
  t.teardown(fake.close)
  const tagsOf = (name: string) => fake.content.get(repository(name))?.tags ?? new Map<string, never>()
  /** Targets of tags that exist and are not pushed yet. */
  const later = new Map(names.map(name => [name, tagsOf(name).get('2.0.0')]))
  for (const name of names) tagsOf(name).delete('2.0.0')
  const push = (name: string, tag: string) => {
    const target = later.get(name)
    if (target !== undefined) fake.content.get(repository(name))?.tags.set(tag, target)
  }
  const { app, get, clock } = await startApp(t, {
    oci: { registry: fake.url, reconcile_seconds: bound, crawl_repositories: 1, ...settings }
  })
  const requested = () =>
    fake.requests.flatMap(({ method, path }) => {
      const short = path.replace(/\?.*/, '').replace('/v2/', '').replace(/sha256:.*/, 'digest')
      // The registry is requested for its extensions once an hour.
      return short === '' || short.startsWith('_oci/') ? [] : [`${method} ${short}`]
    })
  const list = async () => {
    const response = await get('/api/v1/extensions?limit=1000')
    const extensions = response.statusCode === 200 ? response.json<Extension[]>() : []
    return { response, extensions, versions: new Map(extensions.map(({ name, version }) => [name, version])) }
  }
  async function crawl () {
    clock.forward(interval + 1)
    fake.requests.length = 0
    return { ...await list(), requested: requested() }
  }
  const find = async (name: string) => (await get(`/api/v1/extensions/provider/${name}`)).json<Extension>()
  const versionsOf = async (name: string) =>
    (await get(`/api/v1/extensions/provider/${name}/versions`)).json<ExtensionVersion[]>().map(item => item.version)
  await list()
  return { app, fake, get, clock, crawl, push, find, versionsOf, tagsOf, requested, list }
}
const tagsRequest = (name: string) => `GET provider/${name}/tags/list`
const isTags = (request: string) => request.endsWith('/tags/list')
const isHead = (request: string) => request.startsWith('HEAD ')

await t.test('without a sign of changes a crawl reads a share of the repositories, each in time', async t => {
  const { crawl } = await setUp(t)
  const read: string[] = []
  for (let at = 0; at < crawlsInBound; at++) {
    const { requested, extensions } = await crawl()
    t.equal(extensions.length, count)
    t.equal(requested.filter(isTags).length, 2)
    t.equal(requested.filter(isHead).length, 2, 'one digest for each list of tags')
    t.equal(requested.length, 5, 'and the list of repositories')
    read.push(...requested.filter(isTags))
  }
  t.strictSame(read.sort(), names.map(tagsRequest), 'each repository once')
})

await t.test('a new version is in the list in time; its repository is then read in each crawl for an ' +
  'hour, without a request for the known tag', async t => {
  const { crawl, push } = await setUp(t)
  push('n23', '2.0.0')
  let crawls = 0
  for (; crawls <= crawlsInBound; crawls++) if ((await crawl()).versions.get('n23') === '2.0.0') break
  t.ok(crawls < crawlsInBound, 'in time')
  for (let at = 0; at < 11; at++) {
    const { requested } = await crawl()
    t.strictSame(requested.filter(request => request.includes('n23')), [tagsRequest('n23')])
  }
  await crawl()
  t.notOk((await crawl()).requested.includes(tagsRequest('n23')), 'and then in its turn')
})

await t.test('a deleted version leaves the list in time', async t => {
  const { crawl, tagsOf } = await setUp(t)
  tagsOf('n20').delete('1.1.0')
  for (let at = 0; at < crawlsInBound; at++) await crawl()
  t.equal((await crawl()).versions.get('n20'), '1.0.0')
})

await t.test('a tag with a new target is in the list in time, and its manifest is requested once', async t => {
  const { crawl, push } = await setUp(t)
  const before = (await crawl()).extensions.find(({ name }) => name === 'n20')?.checksum
  push('n20', '1.1.0')
  const all: string[] = []
  let after: string | undefined
  for (let at = 0; at <= crawlsInBound; at++) {
    const { requested, extensions } = await crawl()
    after = extensions.find(({ name }) => name === 'n20')?.checksum
    all.push(...requested)
  }
  t.not(after, before)
  t.equal(all.filter(request => request.includes('manifests/digest')).length, 1)
})

await t.test('a request for a name shows a new version at once, and so does the next list', async t => {
  const { crawl, push, find, versionsOf, get } = await setUp(t)
  await crawl()
  for (const name of ['n21', 'n22', 'n23']) push(name, '2.0.0')
  t.equal((await find('n21')).version, '2.0.0')
  t.strictSame(await versionsOf('n22'), ['2.0.0', '1.1.0', '1.0.0'])
  t.equal((await get('/api/v1/extensions/provider/n23/2.0.0')).body, 'file of provider/n23 2.0.0')
  const { versions, requested } = await crawl()
  t.strictSame(['n21', 'n22', 'n23'].map(name => versions.get(name)), ['2.0.0', '2.0.0', '2.0.0'])
  t.ok(requested.includes(tagsRequest('n21')), 'a repository that a request found changed is read again')
})

await t.test('a request for a name shows a deleted version and a replaced tag at once, and so does the next ' +
  'list', async t => {
  const { crawl, push, find, tagsOf } = await setUp(t)
  const { extensions } = await crawl()
  const before = extensions.find(({ name }) => name === 'n22')?.checksum
  tagsOf('n21').delete('1.1.0')
  push('n22', '1.1.0')
  t.equal((await find('n21')).version, '1.0.0')
  const replaced = (await find('n22')).checksum
  t.not(replaced, before)
  const list = await crawl()
  t.equal(list.versions.get('n21'), '1.0.0')
  t.equal(list.extensions.find(({ name }) => name === 'n22')?.checksum, replaced)
})

await t.test('metadata that the last crawls did not read are younger than the lifetime of cached data', async t => {
  const { crawl, find, get, fake } = await setUp(t)
  await crawl()
  await find('n23')
  fake.requests.length = 0
  t.equal((await get('/api/v1/extensions/provider/n23')).headers['age'], '0')
  t.equal(fake.requests.length, 0, 'a second request is served from the cache')
})

await t.test('a repository that leaves the list of repositories is absent at once', async t => {
  const { fake, crawl } = await setUp(t)
  fake.content.delete(repository('n23'))
  t.notOk((await crawl()).versions.has('n23'))
})

await t.test('a new repository is in the next list', async t => {
  const { fake, crawl } = await setUp(t)
  const content = fake.content.get(repository('n00'))
  if (content !== undefined) fake.content.set('provider/young', content)
  t.equal((await crawl()).versions.get('young'), '1.1.0')
})

await t.test('a repository without a version is read in each crawl, because a 404 depends on it', async t => {
  const { crawl, tagsOf, push } = await setUp(t)
  tagsOf('n23').clear()
  for (let at = 0; at < crawlsInBound; at++) await crawl()
  t.ok((await crawl()).requested.includes(tagsRequest('n23')))
  push('n23', '2.0.0')
  t.equal((await crawl()).versions.get('n23'), '2.0.0')
})

await t.test('a failed repository keeps its entry as stale, and is read again by each crawl', async t => {
  const { fake, crawl, get } = await setUp(t)
  fake.fault = ({ path }) => path.includes('n00') ? { status: 500 } : undefined
  let failed = await crawl()
  while (!failed.requested.includes(tagsRequest('n00'))) failed = await crawl()
  matchStrictly(t, [failed.versions.get('n00'), failed.versions.size], ['1.1.0', count])
  t.ok((await crawl()).requested.includes(tagsRequest('n00')))
  matchStrictly(t, (await get('/api/v1/health')).json(), { status: 'degraded' })
  fake.fault = undefined
  t.ok((await crawl()).requested.includes(tagsRequest('n00')))
  t.match((await crawl()).response.headers['cache-control'], /^public/)
})

await t.test('an unreachable registry makes the whole list stale, also if its repositories are configured', async t => {
  const { fake, crawl } = await setUp(t, { discovery: 'list', repositories: names.map(repository) })
  t.ok((await crawl()).requested.some(isTags), 'each crawl sends a request')
  await fake.close()
  const { versions, response } = await crawl()
  t.equal(versions.size, count)
  matchStrictly(t, response.headers, { 'cache-control': 'no-cache', 'cache-status': /^oci; hit; detail=stale,/ })
})

await t.test('items that an earlier crawl skipped stay as long as their repository is not read again', async t => {
  const { crawl, app, tagsOf } = await setUp(t)
  const skipped = () => app.catalog.skipped().items.map(item => item.repository)
  t.strictSame(skipped().sort(), names.map(repository), 'the tag latest of each repository')
  for (let at = 0; at < 3; at++) await crawl()
  t.strictSame(skipped().sort(), names.map(repository))
  for (const name of names) tagsOf(name).delete('latest')
  for (let at = 0; at <= crawlsInBound; at++) await crawl()
  t.strictSame(skipped(), [], 'and leave when each repository was read')
})

await t.test('a catalog of at most crawl_repositories repositories is read completely by each crawl', async t => {
  for (const [minimum, expected] of [[count, count], [count - 4, count - 4], [undefined, count]] as const) {
    const { crawl } = await setUp(t, { crawl_repositories: minimum })
    for (let at = 0; at < 2; at++) t.equal((await crawl()).requested.filter(isTags).length, expected)
  }
})
