import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Extension, ExtensionVersion } from '../../../schemas/extension.ts'
import { startApp } from '../../fakes/app.ts'
import { writeLayout } from '../../fakes/layout.ts'
import { matchStrictly } from '../../fakes/match.ts'
import { contentOf, createRegistryFake } from '../../fakes/registry.ts'

const names = ['a', 'b', 'c']
const repository = (name: string) => `provider/${name}`
const current = (version: string) => names.map(name => `${name} ${version}`)

/**
 * Starts a registry with three repositories and two versions each, all of which each crawl reads. Crawls once, and
 * returns the requests of further crawls.
 */
async function setUp (t: Test) {
  const root = join(t.testdir({}), 'layouts')
  await writeLayout(
    root,
    names.flatMap(name => ['1.0.0', '1.1.0', '2.0.0'].map(tag => ({ repository: repository(name), tag })))
  )
  const fake = await createRegistryFake(await contentOf(root))
  t.teardown(fake.close)
  /** Tags that exist and are not pushed yet. */
  const later = new Map(names.map(name => [name, fake.content.get(repository(name))?.tags.get('2.0.0')]))
  for (const { tags } of fake.content.values()) tags.delete('2.0.0')
  const push = (name: string, tag: string) => {
    const target = later.get(name)
    if (target !== undefined) fake.content.get(repository(name))?.tags.set(tag, target)
  }
  const { get, clock } = await startApp(t, { oci: { registry: fake.url, reconcile_seconds: 0 } })
  const requested = () =>
    fake.requests.flatMap(({ method, path }) =>
      path === '/v2/'
        ? []
        : [`${method} ${path.replace(/\?.*/, '').replace('/v2/', '').replace(/sha256:.*/, 'digest')}`]
    ).sort()
  async function crawl () {
    clock.forward(301)
    fake.requests.length = 0
    const extensions = (await get('/api/v1/extensions')).json<Extension[]>()
    return { requested: requested(), versions: extensions.map(({ name, version }) => `${name} ${version}`), extensions }
  }
  await get('/api/v1/extensions')
  return { fake, get, crawl, requested, push }
}
const tags = names.map(name => `GET provider/${name}/tags/list`)
const heads = names.map(name => `HEAD provider/${name}/manifests/1.1.0`)

await t.test(
  'the first crawl requests the catalog, the tags of each repository, and one manifest of each by its ' +
    'tag',
  async t => {
    const { requested } = await setUp(t)
    t.strictSame(
      requested(),
      ['GET _catalog', ...tags, ...names.map(name => `GET provider/${name}/manifests/1.1.0`)].sort()
    )
  }
)

await t.test('a crawl without changes requests the tags and one digest of each repository', async t => {
  const { crawl } = await setUp(t)
  for (let round = 0; round < 2; round++) {
    matchStrictly(t, await crawl(), {
      requested: ['GET _catalog', ...tags, ...heads].sort(),
      versions: current('1.1.0')
    })
  }
})

await t.test('a new version causes a request for only its manifest', async t => {
  const { crawl, push } = await setUp(t)
  push('b', '2.0.0')
  const { requested, versions } = await crawl()
  t.strictSame(requested, ['GET _catalog', ...tags, heads[0], 'GET provider/b/manifests/2.0.0', heads[2]].sort())
  t.strictSame(versions, ['a 1.1.0', 'b 2.0.0', 'c 1.1.0'])
})

await t.test('a changed target of a tag causes a request for its manifest', async t => {
  const { crawl, push } = await setUp(t)
  const before = (await crawl()).extensions.find(({ name }) => name === 'c')?.checksum
  push('c', '1.1.0')
  const { requested, extensions } = await crawl()
  t.strictSame(requested, ['GET _catalog', ...tags, ...heads, 'GET provider/c/manifests/digest'].sort())
  t.not(extensions.find(({ name }) => name === 'c')?.checksum, before)
  const again = (await crawl()).requested
  t.notOk(again.includes('GET provider/c/manifests/digest'), 'the manifest is requested once')
})

await t.test('a deleted tag is absent after the next crawl, and so is a deleted repository', async t => {
  const { fake, crawl } = await setUp(t)
  fake.content.get(repository('a'))?.tags.delete('1.1.0')
  fake.content.delete(repository('b'))
  t.strictSame((await crawl()).versions, ['a 1.0.0', 'c 1.1.0'])
})

await t.test('each version of an extension causes one request, for the first list and later ones', async t => {
  const { fake, get } = await setUp(t)
  const versions = async () =>
    (await get('/api/v1/extensions/provider/a/versions')).json<ExtensionVersion[]>().map(({ version }) => version)
  fake.requests.length = 0
  t.strictSame(await versions(), ['1.1.0', '1.0.0'])
  t.strictSame(fake.requests.map(({ method, path }) => `${method} ${path.replace(/\?.*/, '')}`).sort(), [
    'GET /v2/provider/a/manifests/1.0.0',
    'GET /v2/provider/a/tags/list',
    'HEAD /v2/provider/a/manifests/1.1.0'
  ])
})
