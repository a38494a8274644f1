import t from 'tap'
import { readdirSync, readFileSync } from 'node:fs'
import { request } from 'node:http'
import { createGiteaFake, provisioningContent } from './gitea.ts'
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http'
import type { GiteaContent, GiteaFake, GiteaOptions } from './gitea.ts'
import { matchStrictly } from './match.ts'
import type { Test } from 'tap'

interface Recording {
  request: { method: string, path: string, headers: Record<string, string> }
  response: { status: number, headers: IncomingHttpHeaders, json?: unknown, text?: string, base64?: string }
}

interface Received {
  status: number
  headers: IncomingHttpHeaders
  bytes: Buffer
}

const folder = new URL('../recordings/gitea/', import.meta.url)

function recording (name: string): Recording {
  return JSON.parse(readFileSync(new URL(`${name}.json`, folder), 'utf8')) as Recording
}

const tokens = {
  reader: { scopes: ['read:organization', 'read:repository', 'read:user'] },
  writer: { scopes: ['read:organization', 'write:repository'], rights: 'write' as const },
  'writer-reading': { scopes: ['read:organization', 'read:repository'], rights: 'write' as const },
  admin: { scopes: ['all'], rights: 'admin' as const },
  stranger: { scopes: ['all'], rights: 'none' as const },
  'no-organization': { scopes: ['read:repository', 'read:user'] },
  'only-organization': { scopes: ['read:organization'] }
}

/** Token that replaces the redacted one of a recording; the default is that of the reader. */
const redacted: Record<string, string> = {
  'asset-private-bad-token': 'wrong',
  'releases-aws-as-writer': 'writer',
  'token-invalid': 'wrong',
  'token-lacks-org-scope': 'no-organization',
  'token-lacks-scope': 'only-organization'
}

/** Recordings that this fake does not serve: the search, and the container registry. */
const unserved = ['repos-search', 'v2-anonymous']

/** Returns content with the uuids of the recorded requests, and the bytes of the recorded responses. */
function recordedContent (): GiteaContent {
  const content = provisioningContent()
  const identify = (name: string, tag: string, file: number, uuid: string, bytes?: Buffer): void => {
    const releases = content.repositories.find((each) => each.name === name)?.releases
    const asset = releases?.find((each) => each.tag === tag)?.assets?.[file]
    if (asset === undefined) throw new Error(`no ${name} ${tag}`)
    Object.assign(asset, { uuid, ...(bytes === undefined ? {} : { content: bytes }) })
  }
  const archive = Buffer.from(recording('asset').response.base64 ?? '', 'base64')
  const checksum = Buffer.from(recording('asset-checksum-file').response.text ?? '')
  identify('kubernetes_taskserv', '1.28.0', 0, '81b8787c-ba30-4f87-92b9-5fdf20a5ac6e', archive)
  identify('kubernetes_taskserv', '1.28.0', 1, '385ffedd-5480-428a-b74d-1790315da292', checksum)
  identify('secret_prov', '5.0.0', 0, '9b64d5cb-ac84-4e35-b819-c9b76df1bb5c')
  return content
}

async function send (
  fake: GiteaFake,
  path: string,
  headers: OutgoingHttpHeaders = {},
  method = 'GET'
): Promise<Received> {
  const { promise, resolve, reject } = Promise.withResolvers<Received>()
  request({ host: '127.0.0.1', port: fake.port, path, method, headers, agent: false }, (response) => {
    response.toArray().then((chunks: Buffer[]) => {
      resolve({ status: response.statusCode ?? 0, headers: response.headers, bytes: Buffer.concat(chunks) })
    }, reject)
  }).once('error', reject).end()
  return await promise
}

async function getJson<T> (fake: GiteaFake, path: string, token?: string): Promise<T> {
  const { status, bytes } = await send(fake, path, token === undefined ? {} : { authorization: `token ${token}` })
  if (status !== 200) throw new Error(`${path}: ${status} ${bytes.toString()}`)
  return JSON.parse(bytes.toString()) as T
}

async function start (test: Test, options: GiteaOptions = {}, content = provisioningContent()): Promise<GiteaFake> {
  const fake = await createGiteaFake(content, { tokens, ...options })
  test.teardown(() => fake.close())
  return fake
}

const chance =
  /^(?:id|uuid|size|download_count|created|created_at|published_at|updated_at|archived_at|avatar_url|time)$/

/**
 * Returns a JSON value in which fields that differ between two servers with the same content are reduced to their type.
 */
function comparable (value: unknown, key = ''): unknown {
  if (Array.isArray(value)) return value.map((each) => comparable(each))
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, comparable(each, name)]))
  }
  if (chance.test(key)) return typeof value
  return typeof value === 'string'
    ? value.replace(/\/releases\/\d+/, '/releases/N').replace(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/, 'UUID')
    : value
}

function comparableHeaders (
  { date, connection, ...headers }: IncomingHttpHeaders,
  isJson: boolean
): IncomingHttpHeaders {
  const { 'last-modified': modified, 'content-length': length, ...rest } = headers
  return {
    ...rest,
    ...(modified === undefined ? {} : { 'last-modified': 'some time' }),
    ...(length === undefined ? {} : { 'content-length': isJson ? 'some' : length })
  }
}

for (
  const name of readdirSync(folder).map((file) => file.replace(/\.json$/, '')).filter((each) =>
    !unserved.includes(each)
  )
) {
  await t.test(`a response equals the recorded one: ${name}`, async (t) => {
    const fake = await start(t, { requireSignin: name.startsWith('signin-required') }, recordedContent())
    const { request: { method, path, headers }, response } = recording(name)
    const authorization = headers['authorization'] === undefined
      ? {}
      : { authorization: `token ${redacted[name] ?? 'reader'}` }
    const received = await send(fake, path, { ...headers, ...authorization, host: '127.0.0.1:3000' }, method)
    t.equal(received.status, response.status)
    t.strictSame(
      comparableHeaders(received.headers, response.json !== undefined),
      comparableHeaders(response.headers, response.json !== undefined)
    )
    if (response.json !== undefined) {
      t.strictSame(comparable(JSON.parse(received.bytes.toString())), comparable(response.json))
    }
    if (response.base64 !== undefined) t.equal(received.bytes.toString('base64'), response.base64)
    if (response.text !== undefined && !response.text.endsWith('…')) t.equal(received.bytes.toString(), response.text)
  })
}

await t.test('a draft is listed only for a writer, and not with draft=false', async (t) => {
  const fake = await start(t)
  const tags = async (query: string, token?: string): Promise<string[]> => {
    const releases = await getJson<Array<{ tag_name: string }>>(
      fake,
      `/api/v1/repos/provisioning/aws_prov/releases${query}`,
      token
    )
    return releases.map((each) => each.tag_name)
  }
  const published = ['nightly', '2.0.0-rc.1', '1.2.0', '1.1.0', 'v1.0.0']
  t.strictSame(await tags(''), published)
  t.strictSame(await tags('', 'writer-reading'), published)
  t.strictSame(await tags('', 'writer'), ['3.0.0', ...published])
  t.strictSame(await tags('?draft=false', 'writer'), published)
  t.strictSame(await tags('?pre-release=true'), ['2.0.0-rc.1'])
  fake.options.forgejo = true
  t.strictSame(await tags('', 'writer-reading'), ['3.0.0', ...published], 'Forgejo does not require the scope')
})

await t.test('names are found in any letter case, and the response has the original spelling', async (t) => {
  const fake = await start(t)
  matchStrictly(t, await getJson(fake, '/api/v1/repos/Provisioning/AWS_Prov'), { full_name: 'provisioning/aws_prov' })
})

await t.test('the total counts rows that a signed-in user may not see, and the page does not contain ' +
  'them', async (t) => {
  const fake = await start(t)
  const path = '/api/v1/orgs/provisioning/repos?limit=50'
  const { headers, bytes } = await send(fake, path, { authorization: 'Bearer stranger' })
  t.equal(headers['x-total-count'], '66')
  t.equal((JSON.parse(bytes.toString()) as unknown[]).length, 49)
  t.equal((await getJson<unknown[]>(fake, path, 'reader')).length, 50)
})

await t.test('a token is accepted in each form that Gitea accepts', async (t) => {
  const fake = await start(t)
  const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`
  for (
    const authorization of [
      'token reader',
      'Bearer reader',
      'bearer reader',
      basic('anyone:reader'),
      basic('reader:'),
      basic('reader:x-oauth-basic')
    ]
  ) {
    t.equal((await send(fake, '/api/v1/repos/provisioning/secret_prov', { authorization })).status, 200, authorization)
  }
  for (const authorization of ['token wrong', basic('anyone:wrong')]) {
    t.equal((await send(fake, '/api/v1/version', { authorization })).status, 401, authorization)
  }
})

await t.test('disabled releases are hidden, except from an administrator', async (t) => {
  const fake = await start(t)
  t.equal((await getJson<unknown[]>(fake, '/api/v1/repos/provisioning/nounit_taskserv/releases', 'admin')).length, 1)
  t.equal(
    (await send(fake, '/provisioning/nounit_taskserv/releases/download/1.0.0/nounit_taskserv.tar.gz')).status,
    404
  )
})

await t.test('a user as owner is found only under /users', async (t) => {
  const content = provisioningContent()
  const fake = await start(t, {}, { ...content, owner: { login: 'somebody', kind: 'user' } })
  t.equal((await send(fake, '/api/v1/orgs/somebody')).status, 404)
  matchStrictly(t, await getJson(fake, '/api/v1/users/somebody'), { login: 'somebody', full_name: '' })
  t.equal((await getJson<unknown[]>(fake, '/api/v1/users/somebody/repos')).length, 30)
  t.equal((await send(fake, '/api/v1/users/nobody')).status, 404)
})

await t.test('content may change while the fake runs', async (t) => {
  const fake = await start(t)
  const path = '/api/v1/repos/provisioning/web_cluster'
  const releases = async (): Promise<Array<{ tag_name: string, assets: Array<{ uuid: string }> }>> =>
    await getJson(fake, `${path}/releases`)
  fake.publish('web_cluster', {
    tag: '1.0.0',
    published_at: '2027-01-01T00:00:00Z',
    assets: [{ name: 'a.tar.gz', content: 'a' }]
  })
  const [before] = await releases()
  t.equal(before?.tag_name, '1.0.0')
  matchStrictly(t, await getJson(fake, path), { release_counter: 2 })
  fake.detach('web_cluster', '1.0.0', 'a.tar.gz')
  fake.attach('web_cluster', '1.0.0', { name: 'a.tar.gz', content: 'b' })
  const [after] = await releases()
  t.not(after?.assets[0]?.uuid, before?.assets[0]?.uuid, 'a replaced file has a new uuid')
  t.equal((await send(fake, `/attachments/${before?.assets[0]?.uuid ?? ''}`)).status, 404)
  fake.withdraw('web_cluster', '1.0.0')
  t.equal((await releases()).length, 1)
  fake.repository('web_cluster').private = true
  t.equal((await send(fake, path)).status, 404)
  fake.remove('aws_prov')
  t.equal((await send(fake, '/api/v1/repos/provisioning/aws_prov')).status, 404)
})

await t.test('topics are absent as in Gitea before 1.23, and null as in Forgejo', async (t) => {
  const old = await start(t, { topics: false })
  t.notOk('topics' in await getJson<object>(old, '/api/v1/repos/provisioning/aws_prov'))
  const forgejo = await start(t, { forgejo: true })
  matchStrictly(t, await getJson(forgejo, '/api/v1/repos/provisioning/web_cluster'), { topics: null, parent: null })
  matchStrictly(t, await getJson(forgejo, '/api/v1/version'), { version: /\+gitea-/ })
})

await t.test('an external asset is redirected to its address, as in Forgejo', async (t) => {
  const fake = await start(t, { forgejo: true })
  const { uuid } = fake.attach('web_cluster', '0.9.0', {
    name: 'far.tar.gz',
    content: '',
    type: 'external',
    url: 'https://elsewhere.example.net/far.tar.gz'
  })
  const [release] = await getJson<Array<{ assets: object[] }>>(fake, '/api/v1/repos/provisioning/web_cluster/releases')
  matchStrictly(t, release?.assets[0], {
    type: 'external',
    size: 0,
    browser_download_url: 'https://elsewhere.example.net/far.tar.gz'
  })
  const { status, headers } = await send(fake, `/attachments/${uuid}`)
  t.equal(status, 303)
  t.equal(headers.location, 'https://elsewhere.example.net/far.tar.gz')
})

await t.test('an asset has a digest when configured', async (t) => {
  const fake = await start(t, { digests: 'digest' })
  const path = '/api/v1/repos/provisioning/k3s_taskserv/releases'
  matchStrictly(t, await getJson(fake, path), [{ assets: [{ digest: /^sha256:[0-9a-f]{64}$/ }, {}] }])
  fake.options.digests = 'sha256'
  matchStrictly(t, await getJson(fake, path), [{ assets: [{ sha256: /^[0-9a-f]{64}$/ }, {}] }])
})

await t.test('a download is redirected to an object storage that refuses the token', async (t) => {
  const fake = await start(t, { serveDirect: true })
  const path = '/provisioning/aws_prov/releases/download/1.2.0/aws_prov.tar.gz'
  const { status, headers } = await send(fake, path)
  t.equal(status, 303)
  const location = headers.location ?? ''
  t.ok(location.startsWith(fake.storage?.url ?? 'no storage'))
  const plain = await fetch(location)
  t.strictSame(Buffer.from(await plain.arrayBuffer()), fake.repository('aws_prov').releases[2]?.assets[0]?.content)
  const resumed = await fetch(location, { headers: { range: 'bytes=3-' } })
  t.equal(resumed.status, 206)
  t.match(resumed.headers.get('content-range'), /^bytes 3-/)
  t.equal((await fetch(location, { headers: { authorization: 'token reader' } })).status, 400)
  t.equal((await fetch(location.split('?')[0] ?? '')).status, 403)
  t.equal(fake.storage?.requests.length, 4)
})

await t.test('each GET, HEAD and 304 counts as a download', async (t) => {
  const fake = await start(t)
  const asset = fake.repository('aws_prov').releases[0]?.assets[0]
  const path = `/attachments/${asset?.uuid ?? ''}`
  await send(fake, path)
  await send(fake, path, {}, 'HEAD')
  t.equal((await send(fake, path, { 'if-modified-since': 'Fri, 01 Jan 2100 00:00:00 GMT' })).status, 304)
  t.equal(asset?.download_count, 3)
})

await t.test('a file is found by tag and name as in the web interface', async (t) => {
  const fake = await start(t)
  const at = '/provisioning/'
  const statuses: Array<[string, number]> = [
    ['slash_prov/releases/download/release%2F1.0.0/slash_prov.tar.gz', 200],
    ['slash_prov/releases/download/release/1.0.0/slash_prov.tar.gz', 404],
    ['k3s_taskserv/releases/download/v1.27.5+k3s1/k3s_taskserv.tar.gz', 200],
    ['aws_prov/releases/download/3.0.0/aws_prov.tar.gz', 404],
    ['aws_prov/releases/download/latest/aws_prov.tar.gz', 200],
    ['renamed_old_taskserv/releases/download/1.0.0/renamed_taskserv.tar.gz', 301],
    ['nothing/releases/download/1.0.0/nothing.tar.gz', 404]
  ]
  for (const [path, status] of statuses) t.equal((await send(fake, at + path)).status, status, path)
  const { headers } = await send(fake, `${at}edge_cluster/releases/download/1.0.0/edge%20cluster%20(1.0.0).tar.gz`)
  t.equal(headers['content-disposition'], 'inline; filename="edge cluster (1.0.0).tar.gz"')
})

await t.test('methods other than GET are refused below /api/v1', async (t) => {
  const fake = await start(t)
  matchStrictly(t, await send(fake, '/api/v1/version', {}, 'HEAD'), { status: 405, headers: { allow: 'GET' } })
})
