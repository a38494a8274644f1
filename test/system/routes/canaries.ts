import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startApp } from '../../fakes/app.ts'
import { createSearch, secretsOfConfig } from '../../fakes/canary.ts'
import { createGiteaFake, provisioningContent, type GiteaOptions } from '../../fakes/gitea.ts'
import { artifacts } from '../../fakes/artifacts.ts'
import { writeLayout } from '../../fakes/layout.ts'
import { createLoopback, type Fault, type Loopback } from '../../fakes/loopback.ts'
import { matchStrictly } from '../../fakes/match.ts'
import { contentOf, createRegistryFake } from '../../fakes/registry.ts'

const paths = [
  '',
  '?source=gitea',
  '?source=oci&limit=3',
  '/search?q=aws',
  '/provider/aws',
  '/provider/aws?source=oci',
  '/provider/aws/versions',
  '/taskserv/kubernetes/1.28.0',
  '/taskserv/kubernetes/1.28.0?source=oci',
  '/taskserv/kubernetes/latest',
  '/provider/nowhere',
  '/provider/nowhere/versions',
  '/cluster/nowhere/1.0.0',
  '/provider/..',
  '/bad/aws'
].map(path => `/api/v1/extensions${path}`)
const system = [
  '/health',
  '/api/v1/health',
  '/metrics',
  '/api/v1/metrics',
  '/api/v1/cache/stats',
  '/livez',
  '/readyz',
  '/openapi.json',
  '/docs/',
  '/nowhere'
]

/**
 * Starts a registry over a Gitea and an OCI registry that both redirect files to presigned addresses of a storage, all
 * with credentials.
 */
async function setUp (t: Test, { timeout = 5, ...options }: GiteaOptions & { timeout?: number } = {}) {
  const auth = Buffer.from('robot:canary-docker-password').toString('base64')
  const folder = t.testdir({})
  await writeLayout(join(folder, 'layouts'), artifacts)
  const content = await contentOf(join(folder, 'layouts'))
  const storage = await createLoopback(({ path }) => {
    const digest = path.slice(1).split('?', 1)[0] ?? ''
    const blob = [...content.values()].map(({ blobs }) => blobs.get(digest)).find(found => found !== undefined)
    return blob === undefined ? { status: 404, body: '' } : { status: 200, body: blob }
  })
  const gitea = await createGiteaFake(provisioningContent(), {
    tokens: { 'canary-gitea-token': { scopes: ['all'] } },
    serveDirect: true,
    ...options
  })
  const oci = await createRegistryFake(content, {
    auth: 'bearer',
    guests: false,
    users: { robot: 'canary-docker-password' },
    storage: storage.url
  })
  t.teardown(async () => {
    await Promise.all([storage.close(), gitea.close(), oci.close()])
  })
  const docker = join(
    t.testdir({ 'config.json': JSON.stringify({ auths: { [new URL(oci.url).host]: { auth } } }) }),
    'config.json'
  )
  const config = {
    // A stored file needs no upstream request, so the store is off.
    store: { enabled: false },
    gitea: {
      url: gitea.url,
      organization: 'provisioning',
      token: 'canary-gitea-token',
      timeout_seconds: timeout,
      redirect_hosts: [new URL(gitea.storage?.url ?? '').host]
    },
    oci: {
      registry: oci.url,
      docker_config: docker,
      timeout_seconds: timeout,
      redirect_hosts: [new URL(storage.url).host]
    }
  }
  return {
    config,
    gitea,
    oci,
    storages: [storage, gitea.storage].filter((one): one is Loopback => one !== undefined),
    ...await startApp(t, config)
  }
}

await t.test('headers and query parameters of a client are not sent to an upstream', async t => {
  const { app, gitea, oci, storages, clock } = await setUp(t)
  const names = [
    'authorization',
    'cookie',
    'proxy-authorization',
    'x-forwarded-for',
    'x-forwarded-host',
    'x-forwarded-proto',
    'forwarded',
    'x-real-ip',
    'range',
    'if-range',
    'if-none-match',
    'if-modified-since',
    'if-unmodified-since',
    'user-agent',
    'referer',
    'origin',
    'accept',
    'accept-language',
    'x-request-id',
    'traceparent',
    'via',
    'x-custom',
    'x-http-method-override',
    'cache-control',
    'te',
    'x-api-key',
    'private-token'
  ]
  const headers = Object.fromEntries(names.map(name => [name, `client-canary-${name}`]))
  const statuses = new Set<number>()
  for (const method of ['GET', 'HEAD'] as const) {
    if (method === 'HEAD') clock.forward(301)
    for (const url of [...paths, ...system]) {
      const { statusCode, headers: completed, body } = await app.inject({
        method,
        url: `${url}${url.includes('?') ? '&' : '?'}token=client-canary-query`,
        headers
      })
      statuses.add(statusCode)
      t.ok([200, 302, 400, 404].includes(statusCode), `${method} ${url} ${statusCode}`)
      t.notMatch(
        `${JSON.stringify({ ...completed, 'x-request-id': '', location: '' })} ${body}`,
        /client-canary/,
        `${method} ${url}`
      )
    }
  }
  // A malformed If-Match is refused; an If-Match with the entity tag of the file opens the file.
  const conditional = { 'if-match': 'client-canary-if-match' }
  for (const url of paths.filter(url => !/latest|nowhere|\.\.|\/bad\//.test(url))) {
    const { statusCode, headers: { etag }, body } = await app.inject({ url, headers: conditional })
    matchStrictly(t, [statusCode, etag], [412, undefined], url)
    t.notMatch(body, /client-canary/, url)
    const current = String((await app.inject({ method: 'HEAD', url })).headers.etag)
    t.equal(
      (await app.inject({ url, headers: { 'if-match': `"client-canary-if-match", ${current}` } })).statusCode,
      200,
      url
    )
  }
  const all = [gitea, oci, ...storages]
  for (const { requests } of all) t.ok(requests.length > 0, 'each upstream was requested')
  for (const { method, path, headers: seen } of all.flatMap(({ requests }) => requests)) {
    t.notMatch(`${path} ${JSON.stringify(seen)}`, /client-canary/, path)
    t.match(seen['user-agent'], /^extension-registry\//)
    t.strictSame(
      Object.keys(seen).filter(name =>
        !['host', 'connection', 'user-agent', 'accept', 'accept-encoding', 'authorization'].includes(name)
      ),
      [],
      path
    )
    t.ok(method === 'GET' || method === 'HEAD')
  }
})

await t.test('credentials are sent to their own origin only, never in a custom header or an address', async t => {
  const { config, get, gitea, oci, storages } = await setUp(t)
  for (const path of paths) await get(path)
  const search = createSearch(
    secretsOfConfig(config).filter(secret => !secret.startsWith('X-') && secret !== 'canary-signature')
  )
  for (const [name, own] of [['token ', gitea], ['B', oci]] as const) {
    t.ok(own.requests.some(({ headers }) => headers.authorization?.startsWith(name)), 'the credentials were used')
  }
  for (const { requests } of storages) {
    t.ok(requests.length > 0, 'the storage was requested')
    for (const { headers } of requests) t.notOk(headers.authorization !== undefined || search(JSON.stringify(headers)))
  }
  for (const { path, headers: { authorization, ...headers } } of [gitea, oci].flatMap(({ requests }) => requests)) {
    t.notOk(search(path) || search(JSON.stringify(headers)), path)
  }
  t.ok(
    gitea.requests.every(({ headers }) =>
      headers.authorization === undefined || headers.authorization === 'token canary-gitea-token'
    )
  )
  t.ok(oci.requests.every(({ headers }) => headers.authorization !== 'token canary-gitea-token'))
})

await t.test('a presigned address is in no log line, response, header or metric, for any storage failure', async t => {
  const { get, clock, storages, gitea, oci } = await setUp(t, { timeout: 0.3 })
  const seen: string[] = []
  const files = ['/taskserv/kubernetes/1.28.0', '/taskserv/kubernetes/1.28.0?source=oci'].map(path =>
    `/api/v1/extensions${path}`
  )
  const send = async (url: string) => {
    const { statusCode, headers, rawPayload } = await get(url).catch(() => ({
      statusCode: 0,
      headers: {},
      rawPayload: Buffer.alloc(0)
    }))
    seen.push(JSON.stringify(headers), rawPayload.toString('latin1'))
    return statusCode
  }
  for (const url of files) t.equal(await send(url), 200, url)
  const signed = (path: string): string =>
    storages.map(({ url }) => `${url}${path}?X-Amz-Signature=canary-signature`).join('')
  const faults: Array<Exclude<ReturnType<Fault>, Promise<unknown>>> = [
    'refuse-reset',
    'hang',
    'stall',
    'truncate',
    ...[400, 401, 403, 404, 416, 429, 500, 503].map(status => ({
      status,
      headers: { 'content-type': 'application/xml', 'x-amz-request-id': 'canary-signature' },
      body: '<Error>X-Amz-Signature=canary-signature</Error>'
    })),
    ...[
      'https://elsewhere.test/x?X-Amz-Signature=canary-signature',
      '?X-Amz-Signature=canary-signature',
      signed('/x').slice(0, 80),
      'http://[X-Amz-Signature'
    ].map(location => ({ status: 307, headers: { location }, body: '' })),
    {
      status: 200,
      headers: {
        'content-type': 'text/html',
        'content-disposition': 'inline; filename="X-Amz-Signature"',
        etag: '"X-Amz-Signature"',
        'set-cookie': 'X-Amz-Signature=1'
      },
      body: 'page'
    }
  ]
  for (const fault of faults) {
    // Every circuit has left the open state.
    clock.forward(31)
    for (const storage of storages) storage.fault = () => fault
    for (const url of files) t.not(await send(url), 500, `${url} ${JSON.stringify(fault)}`)
  }
  for (const storage of storages) await storage.stop()
  for (const url of files) t.equal(await send(url), 503, 'no storage')
  for (const upstream of [gitea, oci]) {
    upstream.fault = ({ path }) =>
      /attachments|blobs/.test(path)
        ? {
            status: 303,
            headers: { location: 'https://not-configured.test/x?X-Amz-Signature=canary-signature' },
            body: ''
          }
        : undefined
  }
  for (const url of files) t.equal(await send(url), 503, 'a storage that is not configured')
  for (const url of system) await send(url)
  // Every test of the suite checks the log and the metrics.
  t.strictSame(seen.filter(text => /X-Amz|canary/.test(text)), [])
})
