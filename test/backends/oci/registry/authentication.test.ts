import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { isRegistryError } from '../../../../lib/errors.ts'
import type { Resolver } from '../../../../plugins/upstream/addresses.ts'
import { startApp } from '../../../fakes/app.ts'
import { writeLayout } from '../../../fakes/layout.ts'
import { createLoopback } from '../../../fakes/loopback.ts'
import { matchStrictly } from '../../../fakes/match.ts'
import { contentOf, createRegistryFake, type RegistryFakeOptions } from '../../../fakes/registry.ts'
import { createRegistryTransport } from '../../../fakes/registry-driver.ts'

const canary = 'canary-password'
const users = { user: canary }
const basic = `Basic ${Buffer.from(`user:${canary}`).toString('base64')}`
const aws = 'provisioning/provider/aws'
const k3s = 'provisioning/taskserv/k3s'

async function setUp (
  t: Test,
  options: RegistryFakeOptions = {},
  config: (folder: string, url: string) => object = () => ({}),
  files: Record<string, string> = {}
) {
  const folder = t.testdir({ password: `${canary}\n`, ...files })
  const root = join(folder, 'layouts')
  await writeLayout(root, [aws, k3s].map(repository => ({ repository, tag: '1.0.0' })))
  const fake = await createRegistryFake(await contentOf(root), { auth: 'bearer', users, ...options })
  t.teardown(fake.close)
  const time = { now: 0 }
  const transport = createRegistryTransport(t, {
    registry: fake.url,
    namespace: 'provisioning',
    ...config(folder, fake.url)
  }, { clock: () => time.now })
  return { fake, transport, time, folder }
}
const login = (folder: string) => ({ username: 'user', password_file: join(folder, 'password') })
const signal = () => AbortSignal.timeout(5000)
const tokens = /^\/(?:v2\/)?token/
const outcome = async (operation: Promise<unknown>) => await operation.then(() => 'no error', (error: unknown) => {
  if (!isRegistryError(error)) throw error
  return error
})

await t.test('a token is fetched once for a repository, and used until shortly before its end', async t => {
  for (
    const [response, seconds] of [[{}, 60], [{ expires_in: 300 }, 300], [{ expires_in: 5 }, 60], [
      { expires_in: 'soon' },
      60
    ]] as const
  ) {
    const { fake, transport, time } = await setUp(t, { tokenResponse: response }, login)
    await transport.tags(aws)
    await transport.tags(aws)
    await transport.resolve(aws, '1.0.0')
    t.equal(fake.count(tokens), 1)
    matchStrictly(t, fake.requests.find(({ path }) => tokens.test(path)), {
      path: '/token?service=registry&scope=repository%3Aprovisioning%2Fprovider%2Faws%3Apull',
      headers: { authorization: basic }
    })
    time.now = (seconds - 11) * 1000
    await transport.tags(aws)
    t.equal(fake.count(tokens), 1)
    time.now = (seconds - 9) * 1000
    await transport.tags(aws)
    t.equal(fake.count(tokens), 2)
    await transport.tags(k3s)
    t.equal(fake.count(tokens), 3, 'another repository has its own token')
  }
})

await t.test('only the first request, which reads the challenge, has no credentials', async t => {
  const { fake, transport } = await setUp(t, {}, login)
  await transport.tags(aws)
  t.strictSame(
    fake.requests.map(({ path, headers }) => [path.replace(/\?.*/, ''), headers.authorization?.split(' ')[0]]),
    [
      ['/v2/', undefined],
      ['/token', 'Basic'],
      [`/v2/${aws}/tags/list`, 'Bearer']
    ]
  )
})

await t.test('concurrent requests for one token share one fetch, and a failed fetch is repeated', async t => {
  const { fake, transport } = await setUp(t, {}, login)
  await transport.ping(signal())
  fake.requests.length = 0
  await Promise.all(Array.from({ length: 20 }, async () => await transport.tags(aws)))
  t.equal(fake.count(tokens), 1)

  const failing = await setUp(t, {}, login)
  failing.fake.fault = ({ path }) => tokens.test(path) ? { status: 404, body: '' } : undefined
  matchStrictly(t, await outcome(failing.transport.tags(aws)), { code: 'service_unavailable' })
  failing.fake.fault = undefined
  t.strictSame(await failing.transport.tags(aws), [{ name: '1.0.0' }])
})

await t.test('an aborted request does not abort the token fetch of others', async t => {
  const { fake, transport } = await setUp(t, { tokenResponse: {} }, login)
  const release = Promise.withResolvers<undefined>()
  fake.fault = async ({ path }) => tokens.test(path) ? await release.promise : undefined
  const hangUp = new AbortController()
  const digest = fake.content.get(aws)?.tags.get('1.0.0')?.digest ?? ''
  const first = transport.blob(aws, { digest, size: 1 }, { signal: hangUp.signal }).catch(() => 'gone')
  const second = transport.tags(aws)
  await fake.arrived(tokens)
  hangUp.abort()
  await turn()
  release.resolve(undefined)
  t.equal(await first, 'gone')
  t.strictSame(await second, [{ name: '1.0.0' }])
  t.equal(fake.count(tokens), 1)
})

await t.test('a refused token is replaced once, and then the refusal is returned', async t => {
  const { fake, transport } = await setUp(t, {}, login)
  await transport.tags(aws)
  fake.revoke()
  t.strictSame(await transport.tags(aws), [{ name: '1.0.0' }])
  t.equal(fake.count(tokens), 2)

  fake.options.denied = /provider/
  fake.revoke()
  fake.requests.length = 0
  matchStrictly(t, await outcome(transport.tags(aws)), { code: 'auth_error', instance: 'oci' })
  t.equal(fake.count(/tags\/list/), 2, 'two requests')
  t.equal(fake.count(tokens), 1)
  t.strictSame(await transport.tags(k3s), [{ name: '1.0.0' }], 'another repository is not affected')
})

await t.test('a token server with an access_token field, and one scope for all repositories, is supported', async t => {
  const { fake, transport } = await setUp(t, { flavour: 'gitea', tokenField: 'access_token' }, () => ({}))
  await transport.ping(signal())
  t.strictSame(await transport.tags(aws), [{ name: '1.0.0' }])
  t.match(fake.requests.find(({ path }) => tokens.test(path))?.path, '?service=container_registry&scope=*')
})

await t.test('a password is sent with the first request after the challenge, and only without token ' +
  'authentication', async t => {
  const { fake, transport } = await setUp(t, { auth: 'basic' }, login)
  await transport.tags(aws)
  t.strictSame(fake.requests.map(({ headers }) => headers.authorization), [undefined, basic])

  // Zot allows anonymous requests, and lists more repositories for known users.
  const open = await setUp(t, { auth: 'anonymous' }, login)
  await open.transport.tags(aws)
  t.strictSame(open.fake.requests.map(({ headers }) => headers.authorization), [undefined, basic])
})

await t.test('refused credentials cause an auth_error, and so do missing credentials that are required', async t => {
  for (const auth of ['basic', 'bearer'] as const) {
    const wrong = await setUp(
      t,
      { auth, guests: false },
      folder => ({ username: 'other', password_file: join(folder, 'password') })
    )
    matchStrictly(t, await outcome(wrong.transport.ping(signal())), {
      code: 'auth_error',
      details: 'Authentication failed'
    })
    matchStrictly(t, await outcome(wrong.transport.repositories('provisioning')), { code: 'auth_error' })
    const none = await setUp(t, { auth, guests: false })
    matchStrictly(t, await outcome(none.transport.ping(signal())), { code: 'auth_error' })
  }
  const token = await setUp(t, {}, () => ({ token: 'canary-wrong' }))
  matchStrictly(t, await outcome(token.transport.ping(signal())), { code: 'auth_error' })
  t.equal(token.fake.requests.length, 1, 'a configured token is not replaced by another one')
})

await t.test('a bearer token of the configuration or of a file is sent with every request', async t => {
  const fixed = await setUp(t, { tokens: ['canary-fixed'] }, () => ({ token: 'canary-fixed' }))
  await fixed.transport.tags(aws)
  t.strictSame(fixed.fake.requests.map(({ headers }) => headers.authorization), ['Bearer canary-fixed'])

  const { fake, transport, folder } = await setUp(
    t,
    { tokens: ['canary-first', 'canary-second!'] },
    folder => ({ token_file: join(folder, 'token') }),
    { token: 'canary-first\n' }
  )
  await transport.tags(aws)
  await writeFile(join(folder, 'token'), 'canary-second!\n')
  await transport.tags(aws)
  t.strictSame(fake.requests.map(({ headers }) => headers.authorization), [
    'Bearer canary-first',
    'Bearer canary-second!'
  ])
  await rm(join(folder, 'token'))
  matchStrictly(t, await outcome(transport.tags(aws)), { code: 'config_error' })
})

await t.test('a changed password is used for the next request, and gets a new token', async t => {
  const { fake, transport, folder } = await setUp(t, {}, login)
  await transport.tags(aws)
  fake.options.users = { user: 'canary-changed' }
  await writeFile(join(folder, 'password'), 'canary-changed\n')
  await outcome(transport.tags(aws))
  t.equal(
    fake.requests.filter(({ path }) => tokens.test(path)).at(-1)?.headers.authorization,
    `Basic ${Buffer.from('user:canary-changed').toString('base64')}`
  )
})

await t.test('credentials for a token server on another host', async t => {
  async function elsewhere (t: Test, config: (host: string) => object, realm = (url: string) => `${url}/token`) {
    const server = await createLoopback(() => ({
      status: 200,
      headers: { 'content-type': 'application/json' },
      body: '{"token":"canary-token"}'
    }))
    t.teardown(server.close)
    const made = await setUp(
      t,
      { realm: realm(server.url), tokens: ['canary-token'] },
      folder => ({ ...login(folder), ...config(new URL(server.url).host) })
    )
    return { server, ...made }
  }

  await t.test('a host that is not configured causes a config_error with its name, and receives no ' +
    'credentials', async t => {
    const { server, transport } = await elsewhere(t, () => ({}))
    const error = await outcome(transport.tags(aws))
    matchStrictly(t, error, {
      code: 'config_error',
      message: 'Instance oci requires a token from a host that is not configured',
      details: `Token server ${new URL(server.url).host} is not in auth_hosts`
    })
    t.equal(server.requests.length, 0)
  })

  await t.test('a host in auth_hosts, with or without its port, receives the credentials', async t => {
    for (const named of [(host: string) => host, () => '127.0.0.1']) {
      const { server, fake, transport } = await elsewhere(t, host => ({ auth_hosts: [named(host)] }))
      t.strictSame(await transport.tags(aws), [{ name: '1.0.0' }])
      t.strictSame(server.requests.map(({ headers }) => headers.authorization), [basic])
      t.ok(
        fake.requests.every(({ headers }) => headers.authorization !== basic),
        'the registry receives only the token'
      )
    }
  })

  await t.test('a token server that redirects, or has an invalid address, receives no credentials', async t => {
    const redirecting = await elsewhere(t, host => ({ auth_hosts: [host] }))
    redirecting.server.fault = () => ({ status: 302, headers: { location: 'http://169.254.169.254/' }, body: '' })
    matchStrictly(t, await outcome(redirecting.transport.tags(aws)), {
      code: 'service_unavailable',
      details: 'Redirect to a host that is not configured'
    })
    for (const realm of ['token', '/token', 'ftp://x/', 'http://user:pw@127.0.0.1/']) {
      const { transport } = await elsewhere(t, () => ({}), () => realm)
      matchStrictly(t, await outcome(transport.tags(aws)), {
        code: 'service_unavailable',
        details: 'Token server has no usable address'
      }, realm)
    }
  })
})

await t.test('invalid responses of a token server are failures', async t => {
  const { fake, transport } = await setUp(t, {}, login)
  const bodies: Array<[string, string]> = [
    ['<html>', 'Response of the token server is not JSON'],
    ['{}', 'Response of the token server has no token'],
    ['[]', 'Response of the token server has no token'],
    ['{"token":""}', 'Response of the token server has no token'],
    ['{"token":"a\\nb"}', 'Response of the token server has no token'],
    ['{"token":7}', 'Response of the token server has no token']
  ]
  for (const [body, details] of bodies) {
    fake.fault = ({ path }) =>
      tokens.test(path) ? { status: 200, headers: { 'content-type': 'application/json' }, body } : undefined
    matchStrictly(t, await outcome(transport.tags(aws)), { code: 'service_unavailable', details }, body)
  }
  fake.fault = ({ path }) => tokens.test(path) ? 'endless' : undefined
  matchStrictly(t, await outcome(transport.tags(aws)), {
    code: 'service_unavailable',
    details: 'Response is too large'
  })
})

await t.test('a storage that a blob is redirected to receives no credentials, also after its challenge', async t => {
  const storage = await createLoopback(() => ({
    status: 401,
    headers: { 'www-authenticate': 'Basic realm="storage"' },
    body: ''
  }))
  t.teardown(storage.close)
  const { fake, transport } = await setUp(
    t,
    { storage: storage.url },
    folder => ({ ...login(folder), redirect_hosts: [new URL(storage.url).host] })
  )
  const digest = [...fake.content.get(aws)?.blobs.keys() ?? []][0] ?? ''
  matchStrictly(t, await outcome(transport.blob(aws, { digest, size: 1 }, { signal: signal() })), {
    code: 'service_unavailable'
  })
  t.strictSame(storage.requests.map(({ headers }) => headers.authorization), [undefined])
})

await t.test('a token that the registry no longer accepts is replaced, for any challenge', async t => {
  for (const headers of [{ 'www-authenticate': 'Basic realm="harbor"' }, {}]) {
    const { fake, transport } = await setUp(t)
    await transport.tags(aws)
    const before = fake.count(tokens)
    let refused = false
    fake.fault = ({ path }) => {
      if (!path.includes('/tags/') || refused) return undefined
      refused = true
      return { status: 401, headers, body: '' }
    }
    t.strictSame(await transport.tags(aws), [{ name: '1.0.0' }])
    t.equal(fake.count(tokens), before + 1)
  }
})

await t.test('a realm that was wrong once is read again', async t => {
  const { fake, transport } = await setUp(t)
  fake.fault = ({ path }) =>
    path.includes('token')
      ? undefined
      : {
          status: 401,
          headers: { 'www-authenticate': 'Bearer realm="http://wrong.example/token",service="x"' },
          body: ''
        }
  matchStrictly(t, await outcome(transport.tags(aws)), { code: 'config_error' })
  fake.fault = undefined
  await outcome(transport.tags(aws))
  t.strictSame(await transport.tags(aws), [{ name: '1.0.0' }])
})

await t.test('a token server that is not in auth_hosts must have a public address', async t => {
  const server = await createLoopback(() => ({
    status: 200,
    headers: { 'content-type': 'application/json' },
    body: '{"token":"canary-token"}'
  }))
  const { fake, folder } = await setUp(t, {
    realm: `http://public.test:${server.port}/token`,
    tokens: ['canary-token']
  })
  t.teardown(server.close)
  const resolver: Resolver = (_hostname, _options, callback) => {
    callback(null, [{ address: '127.0.0.1', family: 4 }])
  }
  const start = async (config: object, network: object) =>
    await startApp(t, {
      oci: {
        registry: fake.url,
        namespace: 'provisioning',
        public_url: `http://public.test:${server.port}`,
        ...login(folder),
        ...config
      }
    }, { network })
  const { get } = await start({}, { resolver })
  const { statusCode, body, headers } = await get('/api/v1/extensions')
  t.equal(statusCode, 503)
  t.strictSame(JSON.parse(body), {
    error: 'service_unavailable',
    message: 'Instance oci is unavailable',
    details: 'Host is on a private network and is not configured'
  })
  t.equal(headers['proxy-status'], 'oci; error=destination_ip_prohibited')
  t.equal(server.connections, 0)
  const named = await start({ auth_hosts: ['public.test'] }, { resolver })
  t.equal((await named.get('/api/v1/extensions')).statusCode, 200)
  const open = await start({}, { resolver, guard: () => true })
  t.equal((await open.get('/api/v1/extensions')).statusCode, 200)
  t.strictSame(new Set(server.requests.map(({ headers }) => headers.authorization)), new Set([basic]))
})
