import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Extension } from '../../../schemas/extension.ts'
import type { HealthResponse } from '../../../schemas/health.ts'
import { startApp } from '../../fakes/app.ts'
import {
  createGiteaFake,
  provisioningContent,
  type GiteaContent,
  type GiteaFake,
  type GiteaOptions
} from '../../fakes/gitea.ts'
import type { LoopbackResponse } from '../../fakes/loopback.ts'
import { matchStrictly } from '../../fakes/match.ts'

async function setUp (
  t: Test,
  { options = {}, config = {}, content = provisioningContent(), fault, registry = {} }: {
    options?: GiteaOptions,
    config?: object,
    content?: GiteaContent,
    fault?: GiteaFake['fault'],
    registry?: object
  } = {}
) {
  const gitea = await createGiteaFake(content, options)
  t.teardown(gitea.close)
  gitea.fault = fault
  return {
    gitea,
    ...await startApp(
      t,
      { gitea: { url: gitea.url, organization: 'provisioning', timeout_seconds: 1, ...config } },
      registry
    )
  }
}
const html: LoopbackResponse = {
  status: 200,
  headers: { 'content-type': 'text/html; charset=utf-8' },
  body: '<html>Sign in</html>'
}
const json = (status: number, body: unknown, headers: Record<string, string> = {}): LoopbackResponse => ({
  status,
  headers: { 'content-type': 'application/json', ...headers },
  body: typeof body === 'string' ? body : JSON.stringify(body)
})
const unavailable = { error: 'service_unavailable', message: 'Instance gitea is unavailable' }

await t.test('a server that requires sign-in causes an auth_error, and never an empty catalog', async t => {
  const signin = await setUp(t, { options: { requireSignin: true } })
  const pages = await setUp(t, { fault: () => html })
  const away = await setUp(t, {
    fault: () => ({ status: 303, headers: { location: '/user/login?redirect_to=%2F' }, body: '' })
  })
  for (const [name, { get }] of Object.entries({ signin, pages, away })) {
    for (const path of ['', '/search?q=aws', '/provider/aws', '/provider/aws/versions', '/provider/aws/1.2.0']) {
      const response = await get(`/api/v1/extensions${path}`)
      matchStrictly(t, [response.statusCode, response.json()], [401, {
        error: 'auth_error',
        message: "Instance gitea refuses the registry's credentials"
      }], `${name} ${path}`)
    }
  }
})

await t.test('a download that is redirected to the login page fails with an auth_error', async t => {
  const { gitea, get } = await setUp(t)
  await get('/api/v1/extensions')
  gitea.options.requireSignin = true
  const { statusCode, body } = await get('/api/v1/extensions/taskserv/k3s/1.27.5+k3s1')
  matchStrictly(t, [statusCode, JSON.parse(body)], [401, { error: 'auth_error' }])
})

await t.test('an invalid token, or one without the scope, causes an auth_error for public data as well', async t => {
  const invalid = await setUp(t, { options: { tokens: {} }, config: { token: 'not-known' } })
  const scopeless = await setUp(t, {
    options: { tokens: { weak: { scopes: ['read:organization'] } } },
    config: { token: 'weak' }
  })
  for (const { get } of [invalid, scopeless]) {
    const { statusCode, body } = await get('/api/v1/extensions')
    t.equal(statusCode, 401)
    t.notMatch(body, /not-known|weak/)
  }
})

await t.test('a missing organization is not an empty catalog', async t => {
  const { get } = await setUp(t, { config: { organization: 'nobody' } })
  matchStrictly(t, (await get('/api/v1/extensions')).json(), { ...unavailable, details: 'Organization not found' })
})

await t.test('a repository with disabled releases does not affect the others', async t => {
  const { gitea, get } = await setUp(t)
  const response = await get('/api/v1/extensions')
  matchStrictly(t, [response.statusCode, response.headers['x-partial'], response.headers['x-total-count']], [
    200,
    undefined,
    '10'
  ])
  t.equal((await get('/api/v1/extensions/taskserv/nounit')).statusCode, 404)
  t.equal(gitea.count(/nounit_taskserv\/releases/), 0)
})

await t.test(
  'a failing repository among others makes the list partial, keeps its last known version, and is not a ' +
    '404',
  async t => {
    const cold = await setUp(t, {
      fault: ({ path }) => path.includes('/aws_prov/releases') ? json(500, {}) : undefined
    })
    const first = await cold.get('/api/v1/extensions')
    matchStrictly(t, [
      first.statusCode,
      first.headers['x-partial'],
      first.headers['x-total-count'],
      first.headers['cache-control']
    ], [200, 'gitea', '9', 'no-cache'])
    matchStrictly(t, (await cold.get('/api/v1/extensions/provider/aws')).json(), unavailable)
    t.equal((await cold.get('/api/v1/extensions/provider/upcloud')).statusCode, 200)

    const warm = await setUp(t, { config: { reconcile_seconds: 0 } })
    await warm.get('/api/v1/extensions')
    warm.gitea.fault = cold.gitea.fault
    warm.clock.forward(301)
    const second = await warm.get('/api/v1/extensions')
    matchStrictly(t, [second.statusCode, second.headers['x-partial'], second.headers['x-total-count']], [
      200,
      undefined,
      '10'
    ])
    t.match(second.headers['cache-status'], /^gitea; hit; detail=stale, extension-registry; /)
    matchStrictly(t, (await warm.get('/api/v1/extensions/provider/aws')).json(), { version: '1.2.0' })
  }
)

await t.test('every failure is a 503 with its reason, and never a 404 or 500', async t => {
  const faults: Array<[string, NonNullable<GiteaFake['fault']>, string]> = [
    ['reset', () => 'refuse-reset', 'Connection reset'],
    ['no response', () => 'hang', 'Response timeout'],
    ['server error', () => json(502, {}), 'Upstream responded with status 502'],
    [
      'not JSON by its type',
      () => ({ status: 200, headers: { 'content-type': 'text/plain' }, body: '[]' }),
      'Response is not JSON'
    ],
    ['not JSON', () => json(200, '[{'), 'Response is not valid JSON'],
    ['another form', () => json(200, { ok: true }), 'Response has an unexpected structure'],
    ['truncated', () => 'truncate', 'Response is incomplete'],
    [
      'endless pages',
      () => json(200, [], { link: '<https://x/?page=99999>; rel="last"', 'x-total-count': '5000000' }),
      'Response has too many pages'
    ],
    [
      'redirect elsewhere',
      () => ({ status: 302, headers: { location: 'http://169.254.169.254/latest' }, body: '' }),
      'Redirect to a host that is not configured'
    ]
  ]
  for (const [name, fault, details] of faults) {
    const { get } = await setUp(t, { fault })
    for (const path of ['', '/search?q=aws']) {
      matchStrictly(t, (await get(`/api/v1/extensions${path}`)).json(), { ...unavailable, details }, `${name} ${path}`)
    }
    const one = await get('/api/v1/extensions/provider/aws')
    t.equal(one.statusCode, 503, name)
    t.ok(Number(one.headers['retry-after']) >= 1, `${name}: has a Retry-After`)
  }
})

await t.test('the rate limit of the upstream is respected, and passed on with its Retry-After', async t => {
  const { gitea, get, clock } = await setUp(t, { fault: () => json(429, {}, { 'retry-after': '120' }) })
  const response = await get('/api/v1/extensions')
  matchStrictly(t, [response.statusCode, response.json<{ error: string }>().error, response.headers['retry-after']], [
    429,
    'rate_limit',
    '120'
  ])
  await turn()
  const requested = gitea.requests.length
  await get('/api/v1/extensions/provider/aws')
  t.equal(gitea.requests.length, requested)
  gitea.fault = undefined
  clock.forward(121)
  t.equal((await get('/api/v1/extensions')).statusCode, 200)
})

await t.test('malformed items make the list partial and do not affect the others', async t => {
  const { gitea, get } = await setUp(t)
  gitea.fault = async ({ path, headers }) => {
    if (!/\/orgs\/provisioning\/repos/.test(path) || headers['x-again'] !== undefined) return undefined
    const response = await fetch(gitea.url + path, { headers: { 'x-again': '1' } })
    return json(200, [{ name: 'broken_prov', owner: null }, 'x', null, ...await response.json() as unknown[]], {
      link: response.headers.get('link') ?? '',
      'x-total-count': response.headers.get('x-total-count') ?? ''
    })
  }
  const reply = await get('/api/v1/extensions')
  matchStrictly(t, [reply.statusCode, reply.headers['x-partial'], reply.headers['x-total-count']], [
    200,
    'gitea',
    '10'
  ])
  t.match((await get('/metrics')).body, /extensions_skipped_total\{backend="gitea",reason="malformed"\} \d/)
})

await t.test(
  'credentials are sent only to the configured server, and redirects are followed only to configured ' +
    'hosts',
  async t => {
    const tokens = { 'canary-token': { scopes: ['all'] } }
    const refused = await setUp(t, { options: { serveDirect: true, tokens }, config: { token: 'canary-token' } })
    matchStrictly(t, (await refused.get('/api/v1/extensions/taskserv/k3s/1.27.5+k3s1')).json(), {
      ...unavailable,
      details: 'Redirect to a host that is not configured'
    })
    t.equal(refused.gitea.storage?.requests.length, 0)

    const gitea = await createGiteaFake(provisioningContent(), { serveDirect: true, tokens })
    t.teardown(gitea.close)
    const { get } = await startApp(t, {
      gitea: {
        url: gitea.url,
        organization: 'provisioning',
        token: 'canary-token',
        redirect_hosts: [`127.0.0.1:${gitea.storage?.port ?? 0}`]
      }
    })
    const response = await get('/api/v1/extensions/taskserv/k3s/1.27.5+k3s1')
    t.equal(response.statusCode, 200)
    t.ok((gitea.storage?.requests.length ?? 0) >= 2, 'the checksum files and the file')
    t.ok(gitea.storage?.requests.every(({ headers }) => headers.authorization === undefined))
    t.ok(gitea.requests.every(({ headers }) => headers.authorization === 'token canary-token'))
    t.notMatch(JSON.stringify(response.headers), /canary|storage|X-Amz|signature/i)
  }
)

await t.test('a 404 or a redirect of a proxy in front of the upstream does not prove an absence', async t => {
  const faults: Array<[string, GiteaFake['fault']]> = [
    ['404 of a proxy', () => ({ status: 404, headers: { 'content-type': 'text/plain' }, body: '404 page not found' })],
    ['404 page', () => ({ status: 404, headers: { 'content-type': 'text/html' }, body: '<html></html>' })],
    ['301 to https', ({ path }) => ({ status: 301, headers: { location: `https://127.0.0.1${path}` }, body: '' })],
    ['308 to a maintenance page', () => ({ status: 308, headers: { location: '/maintenance' }, body: '' })]
  ]
  for (const [name, fault] of faults) {
    const { gitea, get, clock } = await setUp(t)
    await get('/api/v1/extensions')
    clock.forward(301)
    gitea.fault = fault
    matchStrictly(t, (await get('/api/v1/extensions/provider/aws')).json(), { version: '1.2.0' }, name)
    for (const path of ['taskserv/many/versions', 'provider/nowhere', 'provider/aws/1.2.0']) {
      t.equal((await get(`/api/v1/extensions/${path}`)).statusCode, 503, `${name}: ${path}`)
    }
  }
})

await t.test('a server with small pages is read completely when a proxy drops its Link header', async t => {
  const { gitea, get } = await setUp(t, { options: { maxResponseItems: 20 } })
  gitea.fault = async ({ path, headers }) => {
    if (!path.startsWith('/api/') || headers['x-again'] !== undefined) return undefined
    const response = await fetch(gitea.url + path, { headers: { 'x-again': '1' } })
    return {
      status: response.status,
      headers: { 'content-type': 'application/json', 'x-total-count': response.headers.get('x-total-count') ?? '' },
      body: await response.text()
    }
  }
  t.equal((await get('/api/v1/extensions')).headers['x-total-count'], '10')
  t.equal((await get('/api/v1/extensions/taskserv/many/versions')).json<unknown[]>().length, 57)
})

await t.test('a page in the place of a checksum file is not accepted, and not cached', async t => {
  const { gitea, get, clock } = await setUp(t, {
    fault: ({ path }) => path.startsWith('/attachments/') ? html : undefined
  })
  const first = await get('/api/v1/extensions')
  t.equal(first.headers['x-partial'], 'gitea')
  gitea.fault = undefined
  clock.forward(60)
  t.match((await get('/api/v1/extensions/provider/aws')).json<Extension>().checksum, /^sha256:/)
})

await t.test('an old checksum file that cannot be read does not affect the other versions', async t => {
  const { gitea, get } = await setUp(t)
  const old =
    gitea.repository('aws_prov').releases.find(({ tag }) => tag === 'v1.0.0')?.assets.find(({ name }) =>
      name.endsWith('.sha256')
    )?.uuid ?? ''
  gitea.fault = ({ path }) => path.includes(old) ? json(500, {}) : undefined
  const versions = (await get('/api/v1/extensions/provider/aws/versions')).json<Extension[]>()
  t.strictSame(versions.map(({ version, checksum }) => [version, checksum !== undefined]), [
    ['2.0.0-rc.1', true],
    ['1.2.0', true],
    ['1.1.0', true],
    ['1.0.0', false]
  ])
  t.equal((await get('/api/v1/extensions/provider/aws/1.0.0')).statusCode, 200)
})

await t.test('files of one instance do not affect another instance, even with the same uuid', async t => {
  const content = (digest: string): GiteaContent => ({
    owner: { login: 'org' },
    repositories: [{
      name: 'x_prov',
      releases: [{
        tag: '1.0.0',
        assets: [{ name: 'x_prov.tar.gz', content: 'x' }, {
          name: 'x_prov.tar.gz.sha256',
          content: digest.repeat(64),
          uuid: '11111111-1111-4111-8111-111111111111'
        }]
      }]
    }]
  })
  const [evil, good] = [await createGiteaFake(content('e')), await createGiteaFake(content('a'))]
  t.teardown(evil.close)
  t.teardown(good.close)
  const { get } = await startApp(t, {
    gitea: [{ name: 'evil', priority: 900, url: evil.url, organization: 'org' }, {
      name: 'good',
      priority: 1,
      url: good.url,
      organization: 'org'
    }]
  })
  t.equal((await get('/api/v1/extensions/provider/x')).json<Extension>().checksum, `sha256:${'a'.repeat(64)}`)
})

await t.test(
  'a stopped upstream leaves known extensions stale, unknown names 503 and health degraded; after a ' +
    'restart it is healthy',
  async t => {
    const { gitea, get, clock } = await setUp(t, { registry: { probeInterval: 20 } })
    await get('/api/v1/extensions')
    await get('/api/v1/extensions/provider/aws/versions')
    await gitea.stop()
    clock.forward(301)
    const list = await get('/api/v1/extensions')
    matchStrictly(
      t,
      [list.statusCode, list.headers['x-total-count'], list.headers['x-cache-ttl'], list.headers['cache-control']],
      [200, '10', '0', 'no-cache']
    )
    matchStrictly(t, list.headers, {
      'cache-status': /^gitea; hit; detail=stale, /,
      'proxy-status': 'gitea; error=connection_refused'
    })
    matchStrictly(t, (await get('/api/v1/extensions/provider/aws')).json(), { version: '1.2.0' })
    t.equal((await get('/api/v1/extensions/provider/aws/versions')).json<Extension[]>().length, 4)
    for (
      const path of [
        'provider/unknown',
        'provider/unknown/versions',
        'provider/aws/9.9.9',
        'provider/aws/1.2.0',
        'taskserv/k3s/versions'
      ]
    ) {
      t.equal((await get(`/api/v1/extensions/${path}`)).statusCode, 503, path)
    }
    const health = async (status: string) => {
      for (;;) {
        const { statusCode, body } = await get('/health')
        const response = JSON.parse(body) as HealthResponse
        if (response.status === status) return { statusCode, ...response }
        await turn()
      }
    }
    matchStrictly(t, await health('degraded'), {
      statusCode: 200,
      backends: { gitea: { enabled: true, healthy: false, error: 'Connection refused' } }
    })
    t.equal((await get('/readyz')).statusCode, 200, 'cached data can be served')
    await gitea.start()
    matchStrictly(t, await health('healthy'), { backends: { gitea: { enabled: true, healthy: true } } })
    matchStrictly(t, (await get('/api/v1/extensions')).headers, {
      'x-cache-ttl': '300',
      'cache-status': /^extension-registry; /
    })
  }
)

await t.test(
  'an instance is healthy as soon as the upstream recovers, when the outage interrupted a ' +
    'crawl',
  async t => {
    const { gitea, get, clock } = await setUp(t, { config: { reconcile_seconds: 0 }, registry: { probeInterval: 20 } })
    await get('/api/v1/extensions')
    const health = async () => (await get('/health')).json<HealthResponse>()
    clock.forward(301)
    gitea.fault = ({ path }) => path.includes('/releases') || path.endsWith('/version') ? 'refuse-reset' : undefined
    await get('/api/v1/extensions')
    while ((await health()).backends.gitea.healthy) await turn()
    gitea.fault = () => 'refuse-reset'
    while ((await health()).backends.gitea.circuit !== 'open') await turn()
    gitea.fault = undefined
    // The clock does not move, so no listing expires.
    while ((await health()).status !== 'healthy') await turn()
    matchStrictly(t, (await get('/api/v1/extensions')).headers, { 'x-cache-hit': 'true', 'cache-control': /^public/ })
  }
)
