import t, { type Test } from 'tap'
import type { Extension, ExtensionVersion } from '../../../schemas/extension.ts'
import { startApp } from '../../fakes/app.ts'
import { createGiteaFake, type GiteaContent, type GiteaFake } from '../../fakes/gitea.ts'
import type { Fault } from '../../fakes/loopback.ts'
import { matchStrictly } from '../../fakes/match.ts'

const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']
const archive = (tag: string) => ({ name: 'x.tar.gz', content: tag })
const checksum = { name: 'x.tar.gz.sha256', content: 'a'.repeat(64) }
const pushed = '2026-11-23T09:00:00Z'

/** Eight repositories with a release each, one with only a release that is not a version, one without releases. */
function content (): GiteaContent {
  return {
    owner: { login: 'org' },
    repositories: [
      ...names.map(name => ({
        name: `${name}_prov`,
        releases: [{ tag: '1.0.0', assets: [archive('1.0.0'), checksum] }]
      })),
      { name: 'unversioned_prov', releases: [{ tag: 'nightly' }] },
      { name: 'unreleased_prov' },
      { name: 'other' }
    ]
  }
}

/** Starts a registry that has crawled once and reconciles daily, and returns the requests of each further crawl. */
async function setUp (t: Test, config: object = {}) {
  const gitea = await createGiteaFake(content())
  t.teardown(gitea.close)
  const { get, clock } = await startApp(t, {
    gitea: { url: gitea.url, organization: 'org', timeout_seconds: 1, reconcile_seconds: 86_400, ...config }
  })
  const list = async () => (await get('/api/v1/extensions')).json<Extension[]>()
  const requested = () =>
    gitea.requests.flatMap(({ path }) =>
      path.includes('limit=1&') ? [] : [path.replace(/\?.*/, '').replace(/^\/api\/v1\/(?:repos\/org\/)?/, '')]
    ).sort()
  /** Crawls again after this number of seconds. */
  async function crawl (
    seconds = 301
  ): Promise<{ requested: string[], versions: string[], status: number, partial: unknown }> {
    clock.forward(seconds)
    gitea.requests.length = 0
    const response = await get('/api/v1/extensions')
    return {
      requested: requested(),
      versions: response.json<Extension[]>().map(({ name, version }) => `${name} ${version}`),
      status: response.statusCode,
      partial: response.headers['proxy-status']
    }
  }
  await list()
  return { gitea, get, clock, crawl, requested }
}
const releases = (...letters: string[]) => letters.map(letter => `${letter}_prov/releases`)
const all = names.map(name => `${name} 1.0.0`)
const listing = 'orgs/org/repos'
/** May have a version now: each crawl requests it. */
const unversioned = 'unversioned_prov/releases'

/** Returns a fault that changes the rows of each page of the listing. */
const changedRows = ({ url }: GiteaFake, change: (rows: object[]) => object[]): Fault => async ({ path, headers }) => {
  if (!path.includes('/orgs/') || headers['x-again'] !== undefined) return undefined
  const rows = await (await fetch(url + path, { headers: { 'x-again': '1' } })).json() as object[]
  return {
    status: 200,
    headers: { 'content-type': 'application/json', 'x-total-count': String(rows.length) },
    body: JSON.stringify(change(rows))
  }
}

await t.test('the first crawl requests every repository with releases', async t => {
  const { requested } = await setUp(t)
  t.strictSame(
    requested().filter(path => !path.startsWith('/attachments/')),
    [...releases(...names), listing, unversioned].sort()
  )
})

await t.test('a crawl without changes requests only the listing and a repository whose releases are not ' +
  'versions', async t => {
  const { crawl } = await setUp(t)
  for (let round = 0; round < 3; round++) {
    matchStrictly(t, await crawl(), { requested: [listing, unversioned], versions: all }, `crawl ${round}`)
  }
})

await t.test('changed fields of a listing take effect at once, although the releases are not requested', async t => {
  const { gitea, get, crawl } = await setUp(t)
  gitea.repository('a_prov').description = 'another one'
  t.strictSame((await crawl()).requested, [listing, unversioned])
  matchStrictly(t, (await get('/api/v1/extensions/provider/a')).json(), {
    description: 'another one',
    checksum: `sha256:${'a'.repeat(64)}`
  })
})

await t.test('a new release causes requests for only its repository and its checksum file', async t => {
  const { gitea, crawl } = await setUp(t)
  gitea.publish('b_prov', { tag: '2.0.0', assets: [archive('2.0.0'), checksum] })
  const { requested, versions } = await crawl()
  matchStrictly(t, requested, [/^\/attachments\//, 'b_prov/releases', listing, unversioned])
  t.equal(requested.length, 4)
  t.ok(versions.includes('b 2.0.0'))
})

await t.test('a repository without versions is found after its first one', async t => {
  const { gitea, crawl } = await setUp(t)
  gitea.publish('unreleased_prov', { tag: '0.1.0' })
  gitea.publish('unversioned_prov', { tag: '0.2.0' })
  const { requested, versions } = await crawl()
  t.strictSame(requested, [listing, 'unreleased_prov/releases', 'unversioned_prov/releases'])
  t.strictSame(versions, [...all, 'unreleased 0.1.0', 'unversioned 0.2.0'])
})

await t.test('a release that is deleted, or made a draft by deleting its tag, is absent after the next ' +
  'crawl', async t => {
  const { gitea, get, crawl } = await setUp(t)
  gitea.publish('a_prov', { tag: '2.0.0' })
  t.ok((await crawl()).versions.includes('a 2.0.0'))
  gitea.withdraw('a_prov', '2.0.0')
  const [only] = gitea.repository('c_prov').releases
  if (only !== undefined) only.draft = true
  const { requested, versions } = await crawl()
  t.strictSame(requested, [...releases('a'), listing, unversioned], 'c has no releases left according to the listing')
  t.strictSame(versions, all.filter(version => version !== 'c 1.0.0'))
  t.equal((await get('/api/v1/extensions/provider/c')).statusCode, 404)
})

await t.test('a push causes a request for the repository, because a release may have been replaced with ' +
  'it', async t => {
  const { gitea, crawl } = await setUp(t)
  gitea.withdraw('d_prov', '1.0.0')
  gitea.publish('d_prov', { tag: '1.1.0' })
  gitea.repository('d_prov').updated_at = pushed
  const { requested, versions } = await crawl()
  t.strictSame(requested, [...releases('d'), listing, unversioned])
  t.ok(versions.includes('d 1.1.0'))
})

await t.test('each crawl requests a repository for an hour after its change, because files can follow their ' +
  'release', async t => {
  const { gitea, get, crawl } = await setUp(t)
  gitea.publish('e_prov', { tag: '2.0.0' })
  t.strictSame((await crawl()).requested, [...releases('e'), listing, unversioned])
  gitea.attach('e_prov', '2.0.0', archive('2.0.0'))
  t.strictSame((await crawl()).requested, [...releases('e'), listing, unversioned])
  matchStrictly(t, (await get('/api/v1/extensions/provider/e')).json(), { version: '2.0.0', size: 5 })
  for (let gone = 301; gone < 3600; gone += 301) await crawl()
  t.strictSame((await crawl()).requested, [listing, unversioned], 'an hour after the change')
})

await t.test('files may follow a release of the last hour, although the first crawl already found it', async t => {
  const gitea = await createGiteaFake({
    owner: { login: 'org' },
    repositories: [{ name: 'new_prov', releases: [{ tag: '1.0.0', published_at: new Date().toISOString() }] }, {
      name: 'pushed_prov',
      updated_at: new Date().toISOString(),
      releases: [{ tag: '1.0.0' }]
    }]
  })
  t.teardown(gitea.close)
  const { get, clock } = await startApp(t, { gitea: { url: gitea.url, organization: 'org' } })
  await get('/api/v1/extensions')
  gitea.attach('new_prov', '1.0.0', archive('1.0.0'))
  clock.forward(301)
  await get('/api/v1/extensions')
  matchStrictly(t, (await get('/api/v1/extensions/provider/new')).json(), { size: 5 })
  t.equal(gitea.count(/pushed_prov\/releases/), 2)
})

await t.test('a change that no listing shows is found within the reconcile time, in evenly distributed ' +
  'requests', async t => {
  const { gitea, crawl } = await setUp(t, { reconcile_seconds: 3010 })
  // Replaces releases between two crawls, without a push.
  for (const name of names) {
    gitea.withdraw(`${name}_prov`, '1.0.0')
    gitea.publish(`${name}_prov`, { tag: '1.0.1' })
  }
  const shares: number[] = []
  const seen = new Set<string>()
  for (let round = 0; round < 10; round++) {
    const { requested } = await crawl()
    const fresh = requested.filter(path => path.endsWith('/releases') && path !== unversioned && !seen.has(path))
    shares.push(fresh.length)
    for (const path of fresh) seen.add(path)
  }
  t.strictSame([...seen].sort(), releases(...names), 'each repository')
  t.ok(Math.max(...shares) <= 2, `spread evenly: ${shares.join(' ')}`)
  t.strictSame((await crawl()).versions, names.map(name => `${name} 1.0.1`))
})

await t.test('a pause above the reconcile time causes requests for all repositories; with 0 each crawl sends ' +
  'them', async t => {
  const { crawl } = await setUp(t, { reconcile_seconds: 3600 })
  t.strictSame((await crawl(3601)).requested, [...releases(...names), listing, unversioned].sort())
  const always = await setUp(t, { reconcile_seconds: 0 })
  t.strictSame((await always.crawl()).requested, [...releases(...names), listing, unversioned].sort())
})

await t.test('a changed repository that cannot be read keeps its last version, stale, and the next crawl requests it ' +
  'again', async t => {
  const { gitea, crawl } = await setUp(t)
  gitea.publish('f_prov', { tag: '2.0.0' })
  gitea.fault = ({ path }) => path.includes('f_prov') ? { status: 500, body: '' } : undefined
  const failed = await crawl()
  matchStrictly(t, failed, { status: 200, versions: all, partial: /^gitea; / })
  t.ok(failed.requested.every(path => [listing, unversioned, 'f_prov/releases'].includes(path)))
  gitea.fault = undefined
  const mended = await crawl(61)
  matchStrictly(t, mended, { requested: [...releases('f'), listing, unversioned], partial: undefined })
  t.ok(mended.versions.includes('f 2.0.0'))
})

await t.test('the next crawl requests a checksum file again that could not be read or was missing during a ' +
  'crawl', async t => {
  for (const status of [500, 404]) {
    const { gitea, crawl, get } = await setUp(t)
    gitea.publish('g_prov', { tag: '2.0.0', assets: [archive('2.0.0'), { ...checksum, content: 'b'.repeat(64) }] })
    // An hour after the change only repositories without a remembered result are requested.
    gitea.fault = ({ path }) => path.startsWith('/attachments/') ? { status, body: '' } : undefined
    await crawl()
    for (let gone = 0; gone < 3700; gone += 301) await crawl()
    gitea.fault = undefined
    t.ok((await crawl()).requested.includes('g_prov/releases'), String(status))
    matchStrictly(t, (await get('/api/v1/extensions/provider/g')).json(), {
      version: '2.0.0',
      checksum: `sha256:${'b'.repeat(64)}`
    })
  }
})

await t.test('a crawl uses the result of an earlier request by name, so that the list is not older', async t => {
  const { gitea, get, crawl } = await setUp(t)
  gitea.detach('h_prov', '1.0.0', 'x.tar.gz')
  gitea.attach('h_prov', '1.0.0', { name: 'x.tar.gz', content: 'another file' })
  t.equal((await get('/api/v1/extensions/provider/h/versions')).json<ExtensionVersion[]>()[0]?.size, 12)
  await crawl()
  matchStrictly(t, (await get('/api/v1/extensions/provider/h')).json(), { size: 12 })
})

await t.test('a crawl does not replace a newer result of a client request during the crawl', async t => {
  const { gitea, get, clock } = await setUp(t)
  gitea.detach('h_prov', '1.0.0', 'x.tar.gz')
  gitea.attach('h_prov', '1.0.0', { name: 'x.tar.gz', content: 'another file' })
  gitea.publish('a_prov', { tag: '2.0.0' })
  const [reached, released] = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()]
  gitea.fault = async ({ path }) => {
    if (!path.includes('a_prov/releases')) return undefined
    reached.resolve(undefined)
    return await released.promise
  }
  clock.forward(301)
  const crawling = get('/api/v1/extensions')
  await reached.promise
  // The crawl has already used the remembered result of h_prov.
  t.equal((await get('/api/v1/extensions/provider/h/versions')).json<ExtensionVersion[]>()[0]?.size, 12)
  released.resolve(undefined)
  await crawling
  const listed = (await get('/api/v1/extensions')).json<Extension[]>()
  matchStrictly(t, listed.find(({ name }) => name === 'a'), { version: '2.0.0' })
  matchStrictly(t, listed.find(({ name }) => name === 'h'), { size: 12 })
})

await t.test(
  'a repository that disappears and returns is requested again, and so is another one with its ' +
    'name',
  async t => {
    const { gitea, crawl } = await setUp(t)
    gitea.remove('a_prov')
    t.strictSame(await crawl(), {
      requested: [listing, unversioned],
      versions: all.slice(1),
      status: 200,
      partial: undefined
    })
    gitea.add({ name: 'a_prov', releases: [{ tag: '3.0.0' }] })
    matchStrictly(t, await crawl(), {
      requested: [...releases('a'), listing, unversioned],
      versions: ['a 3.0.0', ...all.slice(1)]
    })
    // The number of releases is the same, without a push.
    gitea.remove('b_prov')
    gitea.add({ name: 'b_prov', releases: [{ tag: '4.0.0' }] })
    const [c, d] = [gitea.repository('c_prov'), gitea.repository('d_prov')]
    Object.assign(c, { name: 'd_prov' })
    Object.assign(d, { name: 'c_prov' })
    Object.assign(d.releases[0] ?? {}, { tag: '5.0.0' })
    const { requested, versions } = await crawl()
    t.ok(releases('b', 'c', 'd').every(path => requested.includes(path)))
    t.strictSame(versions.slice(1, 4), ['b 4.0.0', 'c 5.0.0', 'd 1.0.0'])
  }
)

await t.test('a repository that becomes private, or disables its releases, is absent after the next crawl', async t => {
  const { gitea, crawl } = await setUp(t, { include_private: false })
  gitea.repository('a_prov').private = true
  gitea.repository('b_prov').has_releases = false
  t.strictSame((await crawl()).versions, all.slice(2))
  gitea.repository('a_prov').private = false
  gitea.repository('b_prov').has_releases = true
  matchStrictly(t, await crawl(), { requested: [...releases('a', 'b'), listing, unversioned], versions: all })
})

await t.test('a published draft, and a version that replaces another tag, are found by the next crawl and by ' +
  'name', async t => {
  const { gitea, get, crawl } = await setUp(t)
  const draft = gitea.publish('a_prov', { tag: '2.0.0', draft: true })
  matchStrictly(t, await crawl(), { requested: [listing, unversioned], versions: all })
  draft.draft = false
  gitea.withdraw('unversioned_prov', 'nightly')
  gitea.publish('unversioned_prov', { tag: '0.1.0' })
  const { versions } = await crawl()
  t.ok(versions.includes('a 2.0.0'))
  t.ok(versions.includes('unversioned 0.1.0'))
  matchStrictly(t, (await get('/api/v1/extensions/provider/unversioned')).json(), { version: '0.1.0' })
})

await t.test('the next crawl requests a repository again whose scheduled request failed, although the listing shows ' +
  'no change', async t => {
  const { gitea, crawl } = await setUp(t, { reconcile_seconds: 2408 })
  gitea.fault = ({ path }) => /[a-h]_prov\/releases/.test(path) ? { status: 500, body: '' } : undefined
  const failed = await crawl()
  const [turn = ''] = failed.requested.filter(path => path.endsWith('/releases') && path !== unversioned)
  matchStrictly(t, failed, { versions: all, partial: /^gitea; / })
  gitea.fault = undefined
  const next = await crawl(61)
  t.ok(next.requested.includes(turn), turn)
  matchStrictly(t, next, { versions: all, partial: undefined })
})

await t.test('when a page of the list fails, the other extensions are listed, and later crawls do not request them ' +
  'again', async t => {
  const { gitea, crawl } = await setUp(t)
  gitea.fault = changedRows(gitea, rows => rows.slice(0, 3))
  matchStrictly(t, await crawl(), { versions: all, partial: /^gitea; / })
  gitea.fault = undefined
  matchStrictly(t, await crawl(), { requested: [listing, unversioned], versions: all, partial: undefined })
})

for (const field of ['updated_at', 'release_counter']) {
  await t.test(`a server without ${field} receives requests for all repositories`, async t => {
    const { gitea, crawl } = await setUp(t)
    gitea.fault = changedRows(gitea, rows => rows.map(row => ({ ...row, [field]: undefined })))
    // An hour after the last rows that had the field.
    for (let gone = 0; gone < 3700; gone += 301) await crawl()
    const requested = (await crawl()).requested.filter(path => path.endsWith('/releases'))
    t.ok([...releases(...names), unversioned].every(path => requested.includes(path)), requested.join(' '))
  })
}
