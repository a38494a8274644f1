import { join } from 'node:path'
import t, { type Test } from 'tap'
import { showsNoChange } from '../../../backends/oci/transport.ts'
import type { Extension } from '../../../schemas/extension.ts'
import { startApp } from '../../fakes/app.ts'
import { writeLayout } from '../../fakes/layout.ts'
import { contentOf, createRegistryFake, type RegistryFakeOptions } from '../../fakes/registry.ts'

const names = Array.from({ length: 24 }, (_, number) => `n${String(number).padStart(2, '0')}`)
const repository = (name: string) => `project/provider/${name}`
/** Each crawl reads one repository more than the changed ones, because this time is long. */
const reconcileSeconds = 86_400

/** Starts a registry with 24 repositories whose list shows changes, and crawls once. */
async function setUp (t: Test, options: RegistryFakeOptions, settings: object = {}) {
  const root = join(t.testdir({}), 'layouts')
  await writeLayout(
    root,
    names.flatMap(name => ['1.0.0', '1.1.0', '2.0.0'].map(tag => ({ repository: repository(name), tag })))
  )
  const fake = await createRegistryFake(await contentOf(root), { auth: 'anonymous', ...options })
  t.teardown(fake.close)
  const tagsOf = (name: string) => fake.content.get(repository(name))?.tags ?? new Map<string, never>()
  const later = new Map(names.map(name => [name, tagsOf(name).get('2.0.0')]))
  for (const name of names) tagsOf(name).delete('2.0.0')
  const push = (name: string, tag = '2.0.0') => {
    const target = later.get(name)
    if (target !== undefined) fake.content.get(repository(name))?.tags.set(tag, target)
  }
  const { get, clock } = await startApp(t, {
    oci: {
      registry: fake.url,
      namespace: 'project',
      reconcile_seconds: reconcileSeconds,
      crawl_repositories: 1,
      ...settings
    }
  })
  async function crawl () {
    clock.forward(301)
    fake.requests.length = 0
    const extensions = (await get('/api/v1/extensions?limit=1000')).json<Extension[]>()
    const paths = fake.requests.map(({ method, path }) => `${method} ${path.replace(/\?.*/, '')}`)
    return {
      /** Requests for the list of repositories and its states. */
      lists: paths.filter(path => !path.includes('/provider/') && path !== 'GET /v2/'),
      read: paths.flatMap(path => /\/provider\/(\w+)\/tags/.exec(path)?.[1] ?? []),
      versions: new Map(extensions.map(({ name, version }) => [name, version])),
      checksums: new Map(extensions.map(({ name, checksum }) => [name, checksum]))
    }
  }
  const find = async (name: string) => (await get(`/api/v1/extensions/provider/${name}`)).json<Extension>()
  await get('/api/v1/extensions')
  return { fake, get, crawl, push, tagsOf, find, first: fake.requests.map(({ path }) => path.replace(/\?.*/, '')) }
}

const registries = [{
  title: 'Harbor',
  options: { flavour: 'harbor' },
  settings: { discovery: 'harbor' },
  lists: ['GET /api/v2.0/projects/project/repositories']
}, {
  title: 'Zot with its search extension',
  options: { flavour: 'zot', search: true },
  settings: {},
  lists: ['GET /v2/_catalog', 'GET /v2/_zot/ext/search']
}] as const

for (const { title, options, settings, lists } of registries) {
  await t.test(`${title}: the list of repositories shows their changes`, async t => {
    await t.test('a crawl without changes requests the list, and reads one repository', async t => {
      const { crawl } = await setUp(t, options, settings)
      const read: string[] = []
      for (let at = 0; at < 3; at++) {
        const found = await crawl()
        t.strictSame(found.lists, lists)
        t.equal(found.read.length, 1)
        read.push(...found.read)
      }
      t.equal(new Set(read).size, 3, 'in turns')
    })

    await t.test('a new version and a new repository are in the next list', async t => {
      const { fake, crawl, push } = await setUp(t, options, settings)
      await crawl()
      push('n20')
      const content = fake.content.get(repository('n00'))
      if (content !== undefined) fake.content.set(repository('young'), content)
      const { versions, read } = await crawl()
      t.equal(versions.get('n20'), '2.0.0')
      t.equal(versions.get('young'), '1.1.0')
      t.equal(read.length, 3, 'each of them was read, and one in its turn')
    })

    await t.test('a request for metadata shows a change that the list does not show, in two requests', async t => {
      const { fake, crawl, find, tagsOf } = await setUp(t, options, settings)
      await crawl()
      const same = tagsOf('n23').get('1.1.0')
      if (same !== undefined) tagsOf('n23').set('3.0.0', same)
      fake.requests.length = 0
      t.equal((await find('n23')).version, '3.0.0')
      t.strictSame(fake.requests.map(({ method, path }) => `${method} ${path.replace(/\?.*/, '')}`), [
        `GET /v2/${repository('n23')}/tags/list`,
        `GET /v2/${repository('n23')}/manifests/3.0.0`
      ])
      await find('n23')
      t.equal(fake.requests.length, 2, 'a second request is served from the cache')
      t.equal((await crawl()).versions.get('n23'), '3.0.0', 'the next list shows it, too')
    })
  })
}

await t.test('Harbor: a tag with a new target is in the next list, because it adds an artifact', async t => {
  const { crawl, push } = await setUp(t, { flavour: 'harbor' }, { discovery: 'harbor' })
  const before = (await crawl()).checksums.get('n21')
  push('n21', '1.1.0')
  t.not((await crawl()).checksums.get('n21'), before)
})

await t.test('Zot: a tag with a new target of the same size is in the list in time', async t => {
  const { crawl, push } = await setUp(t, { flavour: 'zot', search: true }, { reconcile_seconds: 3600 })
  const before = (await crawl()).checksums.get('n21')
  push('n21', '1.1.0')
  for (let at = 0; at < 12; at++) await crawl()
  t.not((await crawl()).checksums.get('n21'), before)
})

await t.test('Zot: a deleted tag is absent in the next list', async t => {
  const { crawl, tagsOf } = await setUp(t, { flavour: 'zot', search: true })
  await crawl()
  tagsOf('n22').delete('1.1.0')
  t.equal((await crawl()).versions.get('n22'), '1.0.0')
})

await t.test('Harbor: a version that replaces another one changes no number; metadata show it at once', async t => {
  const rows = { [repository('n22')]: { artifact_count: 2 } }
  const { crawl, push, tagsOf, find } = await setUp(t, { flavour: 'harbor', rows }, { discovery: 'harbor' })
  await crawl()
  push('n22')
  tagsOf('n22').delete('1.1.0')
  t.equal((await crawl()).versions.get('n22'), '1.1.0')
  t.equal((await find('n22')).version, '2.0.0')
  t.equal((await crawl()).versions.get('n22'), '2.0.0')
})

await t.test('Harbor: a pull changes the row of a repository, and is not a change', async t => {
  const rows: Record<string, object> = {}
  const { crawl } = await setUp(t, { flavour: 'harbor', rows: rows as NonNullable<RegistryFakeOptions['rows']> }, {
    discovery: 'harbor'
  })
  await crawl()
  for (const name of names) rows[repository(name)] = { pull_count: 7, update_time: '2026-02-02T00:00:00.000Z' }
  t.equal((await crawl()).read.length, 1)
  for (const name of names) rows[repository(name)] = { pull_count: 7, update_time: '2026-03-03T00:00:00.000Z' }
  t.equal((await crawl()).read.length, names.length, 'another update may be one')
})

await t.test('Harbor: rows without a number of artifacts show no change, and their repositories are read in ' +
  'turns', async t => {
  const rows = Object.fromEntries(names.map(name => [repository(name), { artifact_count: 'many' }]))
  const { crawl, push, find } = await setUp(t, { flavour: 'harbor', rows }, { discovery: 'harbor' })
  push('n20')
  const { read, versions } = await crawl()
  t.strictSame([read.length, versions.size], [1, names.length])
  await crawl()
  t.equal((await find('n20')).version, '2.0.0', 'a request for a name reads it')
})

await t.test('Zot: a repository that the search does not show is read in its turn, and is in the list', async t => {
  const { crawl, push } = await setUp(t, { flavour: 'zot', search: true, unlisted: /n2\d$/ })
  push('n10')
  push('n20')
  const { versions } = await crawl()
  t.strictSame([versions.get('n10'), versions.get('n20'), versions.size], ['2.0.0', '1.1.0', names.length])
})

await t.test('a registry without the extension is requested for it once an hour', async t => {
  for (const flavour of ['zot', 'docker-registry'] as const) {
    const { crawl, first } = await setUp(t, { flavour })
    t.equal(first.filter(path => path === '/v2/_oci/ext/discover').length, 1)
    t.notOk(first.includes('/v2/_zot/ext/search'))
    for (let at = 0; at < 11; at++) t.strictSame((await crawl()).lists, ['GET /v2/_catalog'])
    t.strictSame((await crawl()).lists, ['GET /v2/_catalog', 'GET /v2/_oci/ext/discover'])
  }
})

await t.test('without a usable response of the search, repositories are read in turns', async t => {
  const bodies = ['{}', '{"data":null,"errors":[{"message":"no"}]}', '[', '{"data":{"RepoListWithNewestImage":{}}}']
  const failures = [[404, ''], [401, ''], [503, '']] as const
  for (const [status, body] of [...bodies.map(body => [200, body] as const), ...failures]) {
    const { fake, crawl, push } = await setUp(t, { flavour: 'zot', search: true })
    fake.fault = ({ path }) =>
      path.startsWith('/v2/_zot/')
        ? { status, headers: { 'content-type': 'application/json' }, body }
        : undefined
    push('n20')
    const { versions, read } = await crawl()
    t.strictSame([versions.size, versions.get('n20'), read.length], [names.length, '1.1.0', 1], `${status} ${body}`)
    fake.fault = undefined
    const later = await crawl()
    const expected = status === 503 ? '2.0.0' : '1.1.0'
    t.equal(later.versions.get('n20'), expected, 'after a failure of the server it is requested again')
  }
})

await t.test('a change is a new state, or an update that is not a pull', async t => {
  const before = { revision: 'a', updated: '1', pulls: 1 }
  t.ok(showsNoChange(undefined, before), 'a list without states shows none')
  t.ok(showsNoChange(undefined, undefined))
  t.notOk(showsNoChange(before, undefined), 'the first state may follow a change')
  t.ok(showsNoChange({ ...before, updated: '2', pulls: 2 }, before))
  t.notOk(showsNoChange({ ...before, updated: '2' }, before))
  t.notOk(showsNoChange({ ...before, revision: 'b', pulls: 2 }, before))
})
