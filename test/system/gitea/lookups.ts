import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { Extension, ExtensionVersion } from '../../../schemas/extension.ts'
import { startApp } from '../../fakes/app.ts'
import { createGiteaFake, type GiteaContent } from '../../fakes/gitea.ts'
import { sha256 } from '../../fakes/gitea/provisioning.ts'
import { hasLine, matchStrictly } from '../../fakes/match.ts'

const versions = Array.from({ length: 60 }, (_, minor) => `1.${minor}.0`)
const bytesOf = (version: string) => `archive of ${version}`
const checksumOf = (version: string) => `sha256:${sha256(bytesOf(version))}`
const newest = '1.59.0'

/** Returns one extension with 60 versions, each with an archive and its checksum file. */
function content (): GiteaContent {
  return {
    owner: { login: 'org' },
    repositories: [{
      name: 'x_prov',
      releases: versions.map(tag => ({
        tag,
        assets: [{ name: 'x_prov.tar.gz', content: bytesOf(tag) }, {
          name: 'x_prov.tar.gz.sha256',
          content: `${sha256(bytesOf(tag))}  x_prov.tar.gz\n`
        }]
      }))
    }]
  }
}

async function setUp (t: Test, { more = {} }: { more?: object } = {}) {
  const gitea = await createGiteaFake(content())
  t.teardown(gitea.close)
  const crawl = Promise.withResolvers<undefined>()
  t.teardown(() => { crawl.resolve(undefined) })
  gitea.fault = async ({ path }) => /\/orgs\/.*limit=50/.test(path) ? await crawl.promise : undefined
  const started = await startApp(t, { gitea: { url: gitea.url, organization: 'org', timeout_seconds: 20 }, ...more })
  /** Returns the requested paths without health probes and without the crawl, which waits for `crawl`. */
  const requested = (): string[] => gitea.requests.map(({ path }) => path).filter(path => !path.includes('/orgs/'))
  const checksumFiles = () =>
    new Set(
      gitea.repository('x_prov').releases.flatMap(({ assets }) =>
        assets.flatMap(({ name, uuid }) => name.endsWith('.sha256') ? [`/attachments/${uuid}`] : [])
      )
    )
  const checksumRequests = (): string[] => {
    const files = checksumFiles()
    return requested().filter(path => files.has(path))
  }
  const checksumUuid = (version: string) =>
    gitea.repository('x_prov').releases.find(({ tag }) => tag === version)?.assets.find(({ name }) =>
      name.endsWith('.sha256')
    )?.uuid ?? ''
  return {
    gitea,
    ...started,
    crawl: () => {
      crawl.resolve(undefined)
    },
    requested,
    checksumRequests,
    checksumUuid
  }
}
const path = '/api/v1/extensions/provider/x'
const shown = (list: ExtensionVersion[]) => list.map(({ version, checksum }) => [version, checksum])
const complete = versions.map(version => [version, checksumOf(version)]).reverse()

await t.test('a cold download of one of 60 versions sends five requests: repository, two pages of releases, checksum ' +
  'file, file', async t => {
  for (const version of [newest, '1.3.0']) {
    const { get, requested } = await setUp(t)
    const response = await get(`${path}/${version}`)
    matchStrictly(t, [response.statusCode, response.body], [200, bytesOf(version)])
    t.equal(
      response.headers['repr-digest'],
      `sha-256=:${Buffer.from(sha256(bytesOf(version)), 'hex').toString('base64')}:`,
      'the checksum of the publisher is read before the headers are sent'
    )
    t.equal(requested().length, 5, requested().join('\n'))
  }
})

await t.test('metadata of an extension with 60 versions reads only the checksum file of the current ' +
  'version', async t => {
  const { get, requested } = await setUp(t)
  matchStrictly(t, (await get(path)).json<Extension>(), { version: newest, checksum: checksumOf(newest) })
  t.equal(requested().length, 4, requested().join('\n'))
})

await t.test('a list of versions has the checksum of each version, and a known checksum is not fetched ' +
  'again', async t => {
  const { get, checksumRequests } = await setUp(t)
  await get(`${path}/1.7.0`)
  await get(path)
  t.equal(checksumRequests().length, 2)
  t.strictSame(shown((await get(`${path}/versions`)).json()), complete)
  t.equal(checksumRequests().length, 60)
  t.equal((await get(`${path}/1.8.0`)).statusCode, 200)
  t.equal(checksumRequests().length, 60, 'a later download fetches no checksum file')
})

await t.test('parallel downloads of several versions read the releases once, and each checksum file once', async t => {
  const { get, requested, checksumRequests } = await setUp(t)
  const expected = ['1.1.0', '1.2.0', '1.3.0', '1.1.0', '1.2.0', '1.3.0']
  const responses = await Promise.all(expected.map(async version => await get(`${path}/${version}`)))
  t.strictSame(
    responses.map(({ statusCode, body }) => [statusCode, body]),
    expected.map(version => [200, bytesOf(version)])
  )
  t.equal(checksumRequests().length, 3)
  t.equal(requested().filter(path => path.includes('/repos/')).length, 3)
})

await t.test('metadata, versions and a listing have the same checksum in any order of requests', async t => {
  const orders = [[path, `${path}/versions`], [`${path}/versions`, path], [
    `${path}/${newest}`,
    path,
    `${path}/versions`
  ], [`${path}/1.3.0`, `${path}/versions`, path]]
  for (const order of orders) {
    const { get, crawl } = await setUp(t)
    const bodies = new Map<string, string>()
    for (const url of order) bodies.set(url, (await get(url)).body)
    t.equal((JSON.parse(bodies.get(path) ?? '') as Extension).checksum, checksumOf(newest))
    t.strictSame(shown(JSON.parse(bodies.get(`${path}/versions`) ?? '') as ExtensionVersion[]), complete)
    const [one, other] = await Promise.all([get(`${path}/versions`), get(`${path}/versions`)])
    t.equal(one.headers.etag, other.headers.etag)
    t.equal(one.body, bodies.get(`${path}/versions`))
    crawl()
    t.equal((await get('/api/v1/extensions')).json<Extension[]>()[0]?.checksum, checksumOf(newest))
    t.equal((await get(path)).body, bodies.get(path))
  }
})

await t.test('cached checksum files are not read again when the releases are', async t => {
  const { get, clock, checksumRequests } = await setUp(t)
  await get(`${path}/versions`)
  clock.forward(301)
  const again = await get(`${path}/versions`)
  t.strictSame(shown(again.json()), complete)
  t.equal(checksumRequests().length, 60)
})

await t.test('a checksum file that cannot be read leaves only its version without a checksum, and is read again half ' +
  'a minute later', async t => {
  const { gitea, get, clock, checksumUuid, checksumRequests } = await setUp(t)
  const before = gitea.fault
  gitea.fault = request => request.path.includes(checksumUuid('1.3.0')) ? { status: 500, body: '' } : before?.(request)
  const first = await get(`${path}/versions`)
  t.strictSame(
    shown(first.json()),
    complete.map(([version, checksum]) => [version, version === '1.3.0' ? undefined : checksum])
  )
  t.ok(Number(first.headers['x-cache-ttl']) <= 30, 'the response is fresh for half a minute')
  const requests = checksumRequests().length
  t.equal((await get(`${path}/1.3.0`)).body, bytesOf('1.3.0'))
  t.strictSame(
    [first, await get(`${path}/versions`)].map(({ headers }) => headers['x-cache-hit']),
    ['false', 'true'],
    'the second response does not wait for the upstream'
  )
  t.equal(checksumRequests().length, requests, 'the file is not read again at once')
  gitea.fault = before
  clock.forward(31)
  t.strictSame(shown((await get(`${path}/versions`)).json()), complete)
})

await t.test('an instance stays usable when its checksum files cannot be read', async t => {
  for (const fault of [{ status: 500, body: '' }, { status: 403, body: '' }, 'refuse-reset'] as const) {
    const { gitea, get } = await setUp(t)
    const before = gitea.fault
    gitea.fault = request => request.path.startsWith('/attachments/') ? fault : before?.(request)
    const response = await get(`${path}/versions`)
    t.equal(response.statusCode, 200)
    t.strictSame(shown(response.json()), complete.map(([version]) => [version, undefined]))
    gitea.fault = before
    t.equal((await get(`${path}/1.3.0`)).statusCode, 200, 'the circuit is closed')
  }
})

await t.test('a server that refuses each connection receives no requests for the remaining checksum files', async t => {
  const { gitea, get, checksumRequests } = await setUp(t)
  const before = gitea.fault
  gitea.fault = request => request.path.startsWith('/attachments/') ? 'refuse-reset' : before?.(request)
  t.equal((await get(`${path}/versions`)).statusCode, 200)
  t.ok(checksumRequests().length <= 30, String(checksumRequests().length))
})

await t.test('a checksum file that arrives after the time limit is in the next response only', async t => {
  const { gitea, get, clock, checksumUuid } = await setUp(t, { more: { server: { request_budget_seconds: 3 } } })
  const [reached, released] = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()]
  const before = gitea.fault
  gitea.fault = async request => {
    if (!request.path.includes(checksumUuid('1.3.0'))) return await before?.(request)
    reached.resolve(undefined)
    return await released.promise
  }
  const first = await get(`${path}/versions`)
  await reached.promise
  t.strictSame(
    shown(first.json()),
    complete.map(([version, checksum]) => [version, version === '1.3.0' ? undefined : checksum])
  )
  released.resolve(undefined)
  clock.forward(31)
  t.strictSame(shown((await get(`${path}/versions`)).json()), complete)
})

await t.test('a missing checksum file means that its release has changed: the releases are read once more', async t => {
  const { gitea, get, requested } = await setUp(t)
  await get(`${path}/1.1.0`)
  gitea.detach('x_prov', '1.3.0', 'x_prov.tar.gz')
  gitea.detach('x_prov', '1.3.0', 'x_prov.tar.gz.sha256')
  gitea.attach('x_prov', '1.3.0', { name: 'x_prov.tar.gz', content: 'mended' })
  gitea.attach('x_prov', '1.3.0', { name: 'x_prov.tar.gz.sha256', content: sha256('mended') })
  const response = await get(`${path}/1.3.0`)
  matchStrictly(t, [response.statusCode, response.body], [200, 'mended'])
  t.equal(response.headers['repr-digest'], `sha-256=:${Buffer.from(sha256('mended'), 'hex').toString('base64')}:`)
  t.equal(
    requested().filter(path => path.includes('/repos/')).length,
    6,
    'the repository and its two pages of releases are read twice'
  )
  gitea.fault = ({ path }) =>
    path.startsWith('/attachments/') && !path.includes('x_prov') ? { status: 404, body: '' } : undefined
  for (let round = 0; round < 3; round++) t.equal((await get(path)).json<Extension>().checksum, undefined)
  t.equal(
    requested().filter(path => path.includes('/repos/')).length,
    9,
    'a file that stays missing does not cause a read at each request'
  )
})

await t.test('a file that does not match its checksum file is refused', async t => {
  const { gitea, get } = await setUp(t)
  gitea.detach('x_prov', '1.3.0', 'x_prov.tar.gz.sha256')
  gitea.attach('x_prov', '1.3.0', { name: 'x_prov.tar.gz.sha256', content: 'a'.repeat(64) })
  await t.rejects(
    get(`${path}/1.3.0`).then(({ statusCode, body }) => {
      if (statusCode !== 200 || body !== bytesOf('1.3.0')) throw new Error(String(statusCode))
    })
  )
  hasLine(t, (await get('/metrics')).body, 'checksum_failures_total{backend="gitea"} 1')
})

await t.test('the crawl uses a checksum that was looked up, and looks up a missing one', async t => {
  const { get, crawl, checksumRequests } = await setUp(t)
  await get(`${path}/1.3.0`)
  crawl()
  t.equal((await get('/api/v1/extensions')).json<Extension[]>()[0]?.checksum, checksumOf(newest))
  t.equal(checksumRequests().length, 2)
})

await t.test('after a restart without an upstream only the checksums that were looked up are included', async t => {
  const gitea = await createGiteaFake(content())
  t.teardown(gitea.close)
  const config = {
    cache: { directory: t.testdir({}) },
    gitea: { url: gitea.url, organization: 'org', timeout_seconds: 1 }
  }
  const former = await startApp(t, config)
  await former.get('/api/v1/extensions')
  await former.get(`${path}/1.3.0`)
  await former.app.close()
  await gitea.stop()
  const { get } = await startApp(t, config)
  const response = await get(`${path}/versions`)
  matchStrictly(t, [response.statusCode, response.headers['x-cache-ttl']], [200, '0'], 'stale')
  t.strictSame(
    shown(response.json()),
    complete.map(([version, checksum]) => [version, version === '1.3.0' || version === newest ? checksum : undefined])
  )
})

/**
 * Returns the checksum of the newest version in each response that has it; a header is converted to the form of the
 * bodies.
 */
async function shownOfNewest (app: FastifyInstance): Promise<Record<string, string | undefined>> {
  const digest = async (method: 'HEAD' | 'GET') => {
    const [, encoded = ''] =
      /^sha-256=:(.*):$/.exec(
        String((await app.inject({ method, url: `${path}/${newest}` })).headers['repr-digest'])
      ) ?? []
    return encoded === '' ? undefined : `sha256:${Buffer.from(encoded, 'base64').toString('hex')}`
  }
  const head = await digest('HEAD')
  return {
    head,
    list: (await app.inject('/api/v1/extensions')).json<Extension[]>()[0]?.checksum,
    metadata: (await app.inject(path)).json<Extension>().checksum,
    versions: (await app.inject(`${path}/versions`)).json<ExtensionVersion[]>()[0]?.checksum
  }
}
const everywhere = (checksum: string | undefined) => ({
  head: checksum,
  list: checksum,
  metadata: checksum,
  versions: checksum
})

await t.test('after a restart without an upstream the versions include a checksum that a crawl read after ' +
  'them', async t => {
  const config = { cache: { directory: t.testdir({}) } }
  const { gitea, app, get, clock, crawl, checksumRequests } = await setUp(t, { more: config })
  await get(`${path}/1.3.0`)
  clock.forward(1)
  crawl()
  await get('/api/v1/extensions')
  t.equal(checksumRequests().length, 2, 'read once for both the listing and the versions')
  await app.close()
  await gitea.stop()
  const { app: next } = await startApp(t, {
    ...config,
    gitea: { url: gitea.url, organization: 'org', timeout_seconds: 20 }
  })
  t.strictSame(await shownOfNewest(next), everywhere(checksumOf(newest)))
})

await t.test('after a restart a checksum that a download looks up is included in metadata and versions although the ' +
  'API is down', async t => {
  const config = { cache: { directory: t.testdir({}) } }
  const { gitea, app, get, clock, crawl } = await setUp(t, { more: config })
  crawl()
  await get('/api/v1/extensions')
  gitea.publish('x_prov', {
    tag: '2.0.0',
    assets: [{ name: 'x_prov.tar.gz', content: 'two' }, { name: 'x_prov.tar.gz.sha256', content: sha256('two') }]
  })
  clock.forward(60)
  await get(`${path}/1.3.0`)
  await app.close()
  gitea.fault = ({ path }) => path.startsWith('/api/') ? { status: 500, body: '' } : undefined
  const { get: send } = await startApp(t, {
    ...config,
    gitea: { url: gitea.url, organization: 'org', timeout_seconds: 20 }
  })
  t.equal((await send(`${path}/2.0.0`)).body, 'two')
  t.equal((await send(`${path}/versions`)).json<ExtensionVersion[]>()[0]?.checksum, `sha256:${sha256('two')}`)
  matchStrictly(t, (await send(path)).json<Extension>(), { version: '2.0.0', checksum: `sha256:${sha256('two')}` })
})
