import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { createLoopback, type LoopbackResponse } from '../../../fakes/loopback.ts'
import { createRegistryFake, type RegistryContent } from '../../../fakes/registry.ts'
import { createRegistryTransport } from '../../../fakes/registry-driver.ts'

interface Recording { request: { path: string }, response: { status: number, headers: object, text: string } }
interface Page {
  data: { RepoListWithNewestImage: { Page: { TotalCount: number }, Results: Array<Record<string, unknown>> } }
}

const recording = (name: string): Recording => JSON.parse(
  readFileSync(new URL(`../../../recordings/oci/zot-search/${name}.json`, import.meta.url), 'utf8')
) as Recording
const rowsOf = (text: string) => (JSON.parse(text) as Page).data.RepoListWithNewestImage
const names = ['cluster/web', 'provider/aws', 'taskserv/k3s'].map(name => `provisioning/${name}`)

/** Returns a recorded response, whose length is that of its body. */
function responseOf (name: string): LoopbackResponse {
  const { status, headers, text } = recording(name).response
  const { 'content-length': _length, ...kept } = headers as Record<string, string>
  return { status, headers: kept, body: text }
}

/** Returns the repositories of a registry that responds with these recordings. */
async function repositories (t: Test, { extensions, search }: { extensions: string, search: string }) {
  const fake = await createLoopback(({ path }) => {
    if (path === '/v2/_oci/ext/discover') return responseOf(extensions)
    if (path.startsWith('/v2/_zot/')) return responseOf(search)
    const body = path === '/v2/' ? '{}' : JSON.stringify({ repositories: names })
    return { status: 200, headers: { 'content-type': 'application/json' }, body }
  })
  t.teardown(fake.close)
  const transport = createRegistryTransport(t, { registry: fake.url, namespace: 'provisioning' }, { readsStates: true })
  return { found: await transport.repositories('provisioning', { withStates: true }), fake }
}

await t.test('the states of repositories are read from a real Zot', async t => {
  for (const search of ['search', 'other-user']) {
    const { found } = await repositories(t, { extensions: 'extensions', search })
    t.strictSame(found.names, names)
    t.strictSame([...found.states?.keys() ?? []], names)
    t.match(found.states?.get('provisioning/provider/aws')?.revision, /"1030","1\.0\.0","sha256:cf5b26a6a3daae/)
  }
  const { found } = await repositories(t, { extensions: 'extensions', search: 'known-user' })
  t.strictSame(found.names, names, 'the names are those of the catalog')
  t.equal(found.states?.size, 3)
})

await t.test('a real Zot without the extension, or one that refuses it, has no states', async t => {
  for (
    const recordings of [
      { extensions: 'extensions-none', search: 'search' },
      { extensions: 'search-missing', search: 'search' },
      { extensions: 'extensions', search: 'search-missing' },
      { extensions: 'extensions', search: 'search-malformed' },
      { extensions: 'extensions', search: 'wrong-password' }
    ]
  ) {
    const { found } = await repositories(t, recordings)
    t.strictSame([found.names, found.states, found.truncated], [names, undefined, false], JSON.stringify(recordings))
  }
})

await t.test('the pages are read until the number of repositories is reached', async t => {
  const content: RegistryContent = new Map(
    Array.from({ length: 1001 }, (_, number) => [`org/provider/n${number}`, { tags: new Map(), blobs: new Map() }])
  )
  const fake = await createRegistryFake(content, { flavour: 'zot', search: true })
  t.teardown(fake.close)
  const transport = createRegistryTransport(t, { registry: fake.url, namespace: 'org' }, { readsStates: true })
  const searches = () => fake.requests.filter(({ path }) => path.startsWith('/v2/_zot/')).length
  t.equal((await transport.repositories('org', { withStates: true })).states?.size, 1001)
  t.equal(searches(), 3)
  t.equal((await transport.repositories('org')).states, undefined)
  t.equal(searches(), 3, 'a read of the names alone sends no search')
})

await t.test('a namespace with few repositories of a large registry has no states, since their search would need ' +
  'more requests', async t => {
  const names = ['org/provider/a', ...Array.from({ length: 501 }, (_, number) => `other/provider/n${number}`)]
  const content: RegistryContent = new Map(names.map(name => [name, { tags: new Map(), blobs: new Map() }]))
  const fake = await createRegistryFake(content, { flavour: 'zot', search: true })
  t.teardown(fake.close)
  for (const [namespace, size] of [['org', undefined], ['other', 501], ['empty', undefined]] as const) {
    const transport = createRegistryTransport(t, { registry: fake.url, namespace }, { readsStates: true })
    t.equal((await transport.repositories(namespace, { withStates: true })).states?.size, size, namespace)
  }
  t.equal(fake.requests.filter(({ path }) => path.startsWith('/v2/_zot/')).length, 1 + 2)
})

await t.test('rows with very long texts are malformed, and have no state', async t => {
  const row = { Name: 'provisioning/provider/aws', LastUpdated: 'x'.repeat(1025), Size: '1', NewestImage: null }
  const body = { data: { RepoListWithNewestImage: { Page: { TotalCount: 1 }, Results: [row] } } }
  const fake = await createLoopback(({ path }) => {
    if (path === '/v2/_oci/ext/discover') return responseOf('extensions')
    const found = path.startsWith('/v2/_zot/') ? body : { repositories: names }
    return { status: 200, headers: { 'content-type': 'application/json' }, body: JSON.stringify(found) }
  })
  t.teardown(fake.close)
  const transport = createRegistryTransport(t, { registry: fake.url, namespace: 'provisioning' }, { readsStates: true })
  t.equal((await transport.repositories('provisioning', { withStates: true })).states, undefined)
})

const digestOf = (bytes: string): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
const mediaType = 'application/vnd.oci.image.manifest.v1+json'

/** Adds the artifact that the recorded registry has under a tag. */
function push (content: RegistryContent, repository: string, tag: string, layer: string): void {
  const body = JSON.stringify({
    schemaVersion: 2,
    mediaType,
    artifactType: 'application/vnd.example',
    config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf('{}'), size: 2 },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: digestOf(layer), size: layer.length }],
    annotations: { 'org.opencontainers.image.created': '2026-01-01T00:00:00Z' }
  })
  const known = content.get(repository) ?? { tags: new Map(), blobs: new Map() }
  known.tags.set(tag, { digest: digestOf(body), mediaType })
  known.blobs.set(digestOf(body), Buffer.from(body))
  content.set(repository, known)
}

await t.test('the fake responds as the recorded Zot with the same content', async t => {
  const content: RegistryContent = new Map()
  push(content, 'provisioning/provider/aws', '1.0.0', 'aws 1.0.0')
  push(content, 'provisioning/provider/aws', '1.1.0', 'aws 1.1.0')
  push(content, 'provisioning/taskserv/k3s', '1.27.5', 'k3s')
  push(content, 'provisioning/cluster/web', '0.9.0', 'web')
  const fake = await createRegistryFake(content, { flavour: 'zot', search: true })
  t.teardown(fake.close)
  const withoutTime = ({ Page, Results }: ReturnType<typeof rowsOf>) => ({
    Page,
    Results: Results.map(({ LastUpdated, ...row }) => ({ ...row, hasTime: typeof LastUpdated === 'string' }))
  })
  for (const name of ['extensions', 'search', 'search-page', 'search-end']) {
    const { request, response } = recording(name)
    const found = await (await fetch(new URL(request.path, fake.url))).text()
    if (name === 'extensions') t.equal(found, response.text)
    else t.strictSame(withoutTime(rowsOf(found)), withoutTime(rowsOf(response.text)), name)
  }
})
