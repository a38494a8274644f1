import { mock } from 'node:test'
import rateLimit, { normalizeIP } from '@fastify/rate-limit'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import registry, { serverOptions } from '../../app.ts'
import { trustProxy } from '../../lib/server-options.ts'
import { clientKey } from '../../plugins/rate-limit.ts'
import { startApp, whole } from '../fakes/app.ts'
import { hasLine, matchStrictly } from '../fakes/match.ts'

const oci = { registry: 'examples/registry' }
const list = '/api/v1/extensions?limit=1'

/**
 * Mocks the clock for code without an injected clock. It starts at the real time, since the metrics library catches up
 * second by second after a jump.
 */
function stopTime (t: Test): void {
  mock.timers.enable({ apis: ['Date'], now: Date.now() })
  t.teardown(() => { mock.timers.reset() })
}

await t.test('the rate limit is off by default', async t => {
  const { get } = await startApp(t, { oci })
  const { headers } = await get(list)
  t.strictSame(Object.keys(headers).filter(name => /ratelimit/.test(name)), [])
})

await t.test('the rate limit reports the remaining requests, refuses more, and accepts them in the next ' +
  'window', async t => {
  stopTime(t)
  const { get } = await startApp(t, { oci, rate_limit: { max: 2, window_seconds: 30 } })
  const first = await get(list)
  t.equal(first.statusCode, 200)
  matchStrictly(t, first.headers, { 'ratelimit-policy': '"default";q=2;w=30', ratelimit: '"default";r=1;t=30' })
  mock.timers.tick(10_000)
  const second = await get('/api/v1/extensions/plugin/x')
  t.equal(second.statusCode, 400, 'an invalid request counts too')
  matchStrictly(t, second.headers, { 'ratelimit-policy': '"default";q=2;w=30', ratelimit: '"default";r=0;t=20' })
  mock.timers.tick(5_500)
  const third = await get(list)
  t.equal(third.statusCode, 429)
  t.strictSame(third.json(), { error: 'rate_limit', message: 'Too many requests: at most 2 in 30 seconds' })
  matchStrictly(t, third.headers, {
    'retry-after': '15',
    'ratelimit-policy': '"default";q=2;w=30',
    ratelimit: '"default";r=0;t=15',
    'cache-control': 'no-store'
  })
  t.equal(third.headers['x-ratelimit-limit'], undefined)
  hasLine(t, (await get('/metrics')).body, 'requests_shed_total{reason="rate_limit"} 1')
  mock.timers.tick(14_500)
  t.equal((await get(list)).statusCode, 200)
})

await t.test('the rate limit counts requests to the catalog only', async t => {
  const { app, get } = await startApp(t, { oci, rate_limit: { max: 1 } })
  t.equal((await get(list)).statusCode, 200)
  for (
    const url of [
      list,
      '/api/v1/extensions/search?q=aws',
      '/api/v1/extensions/provider/aws',
      '/api/v1/extensions/provider/aws/versions',
      '/api/v1/extensions/provider/aws/1.2.0',
      '/api/v1/extensions/provider/aws/latest'
    ]
  ) {
    t.equal((await get(url)).statusCode, 429, url)
  }
  t.equal((await app.inject({ method: 'HEAD', url: '/api/v1/extensions/provider/aws/1.2.0' })).statusCode, 429)
  for (
    const url of [
      '/health',
      '/api/v1/health',
      '/livez',
      '/readyz',
      '/metrics',
      '/api/v1/metrics',
      '/api/v1/cache/stats',
      '/docs',
      '/openapi.yaml',
      '/openapi.json'
    ]
  ) {
    for (const round of ['once', 'twice']) {
      const { statusCode, headers } = await get(url)
      t.equal(statusCode, 200, `${url} ${round}`)
      t.equal(headers.ratelimit, undefined, url)
    }
  }
  t.equal(
    (await app.inject({
      method: 'OPTIONS',
      url: list,
      headers: { origin: 'https://a.example', 'access-control-request-method': 'GET' }
    })).statusCode,
    204
  )
})

await t.test('clients are counted by IPv4 address or IPv6 network', async t => {
  const from = (ip: string, remoteAddress = '192.0.2.1') => clientKey({ ip, socket: { remoteAddress } }, normalizeIP)
  t.equal(from('203.0.113.7'), '203.0.113.7')
  t.equal(from('::ffff:203.0.113.7'), '203.0.113.7', 'the same client on a dual-stack socket')
  t.equal(from('2001:db8:1:2:3:4:5:6'), from('2001:DB8:1:2::1'))
  t.not(from('2001:db8:1:2::1'), from('2001:db8:1:3::1'))
  t.equal(from('fe80::1%eth0'), from('fe80::2'))
  for (const forged of ['', 'unknown', 'x'.repeat(10_000), '203.0.113.7:x']) {
    t.equal(from(forged), '192.0.2.1', 'a key is always an address, even if the proxy sends other text')
  }
  t.equal(
    clientKey({
      ip: undefined as unknown as string,
      socket: { remoteAddress: undefined } as unknown as FastifyInstance['server'] & { remoteAddress: undefined }
    }, normalizeIP),
    '',
    'a closed connection'
  )
})

await t.test('a client cannot choose its address: X-Forwarded-For needs a trusted proxy, for the limit and ' +
  'the log', async t => {
  const cases: Array<[what: string, server: object, peer: string, counted: string]> = [
    ['without a trusted proxy', {}, '10.0.0.9', '10.0.0.9'],
    [
      'the peer is not a trusted proxy',
      { trust_proxy: true, trusted_proxies: ['10.1.0.0/16', 'fd00::1'] },
      '10.0.0.9',
      '10.0.0.9'
    ],
    [
      'only the last address was added by the trusted peer',
      { trust_proxy: true, trusted_proxies: ['10.0.0.0/8'] },
      '10.0.0.9',
      '198.51.100.1'
    ],
    [
      'the same on a dual-stack socket',
      { trust_proxy: true, trusted_proxies: ['10.0.0.9'] },
      '::ffff:10.0.0.9',
      '198.51.100.1'
    ]
  ]
  for (const [what, server, peer, counted] of cases) {
    const lines: string[] = []
    const config = { server, oci, rate_limit: { max: 1 } }
    const app = Fastify({
      ...serverOptions(config),
      logger: {
        level: 'info',
        stream: {
          write: line => {
            lines.push(line)
          }
        }
      }
    })
    t.teardown(async () => {
      await app.close()
    })
    await app.register(whole, { config })
    const send = async (forged: string, url = list) =>
      await app.inject({
        url,
        remoteAddress: peer,
        headers: {
          'x-forwarded-for': `${forged}, 198.51.100.1`,
          'x-forwarded-host': 'evil.example',
          'x-forwarded-proto': 'gopher'
        }
      })
    t.equal((await send('203.0.113.1')).statusCode, 200, what)
    t.equal((await send('203.0.113.2')).statusCode, 429, `${what}: another forged address is the same client`)
    const logged = lines.map(line => JSON.parse(line) as { ip?: string, url?: string }).filter(({ url }) =>
      url === list
    )
    t.strictSame(logged.map(({ ip }) => ip?.replace('::ffff:', '')), [counted, counted], what)
  }
})

/** Items of `X-Forwarded-For` with the client address; undefined for an item without an address. */
const items: Array<[item: string, address: string | undefined]> = [
  ['203.0.113.1:1111', '203.0.113.1'],
  ['203.0.113.2:443', '203.0.113.2'],
  ['[2001:db8:1::1]:443', '2001:db8:1::1'],
  ['[2001:db8:2::1]', '2001:db8:2::1'],
  ['2001:db8:3::1', '2001:db8:3::1'],
  ['"203.0.113.3:80"', '203.0.113.3'],
  ['"[2001:db8:4::1]:80"', '2001:db8:4::1'],
  ['"203.0.113.4"', '203.0.113.4'],
  ['  203.0.113.5:80\t', '203.0.113.5'],
  ['::ffff:203.0.113.6', '::ffff:203.0.113.6'],
  ['[::ffff:203.0.113.7]:1', '::ffff:203.0.113.7'],
  ['unknown', undefined],
  ['_hidden', undefined],
  ['for=203.0.113.8', undefined],
  ['203.0.113.9:', undefined],
  ['203.0.113.9:port', undefined],
  ['203.0.113.9:123456', undefined],
  ['[203.0.113.9', undefined],
  ['2001:db8::1]:443', undefined],
  ['203.0.113.256:1', undefined],
  ['203.0.113.9;x', undefined],
  ['', undefined],
  ['""', undefined],
  ['<script>', undefined]
]

for (const [what, proxies, peer] of [
  ['every proxy is trusted', [], '10.0.0.9'],
  ['the proxy is trusted by its network', ['10.0.0.0/8'], '10.0.0.9'],
  ['the proxy is trusted by its address, on a dual-stack socket', ['10.0.0.9'], '::ffff:10.0.0.9']
] as const) {
  await t.test('an address in X-Forwarded-For may have a port, and each client is separate in the limit and the log; ' +
    what, async t => {
    const lines: string[] = []
    const config = { server: { trust_proxy: true, trusted_proxies: [...proxies] }, oci, rate_limit: { max: 1 } }
    const app = Fastify({
      ...serverOptions(config),
      logger: {
        level: 'info',
        stream: {
          write: line => {
            lines.push(line)
          }
        }
      }
    })
    t.teardown(async () => {
      await app.close()
    })
    await app.register(whole, { config })
    const send = async (forwarded: string | string[]) => {
      lines.length = 0
      const { statusCode } = await app.inject({
        url: list,
        remoteAddress: peer,
        headers: { 'x-forwarded-for': forwarded as string }
      })
      const logged = lines.map(line => JSON.parse(line) as { ip?: string, url?: string }).filter(({ url }) =>
        url === list
      )
      return [statusCode, ...logged.map(({ ip }) => ip)]
    }
    const seen = new Set<string>()
    for (const [item, address = peer] of items) {
      const status = seen.has(address) ? 429 : 200
      seen.add(address)
      t.strictSame(await send(item), [status, address], JSON.stringify(item))
    }
    for (const port of [1, 2, 65535]) {
      t.strictSame(await send(`203.0.113.1:${port}`), [429, '203.0.113.1'], 'another port is the same client')
    }
    t.strictSame(await send('[2001:db8:1::2]:9'), [429, '2001:db8:1::2'], 'another address of the same network')
    // Trusted hops may have ports as well.
    const hops = proxies.length === 0 || proxies[0] === '10.0.0.9'
      ? '10.0.0.9:5555'
      : '10.1.1.1:5555, 10.2.2.2, "10.3.3.3:1"'
    t.strictSame(await send(`198.51.100.7:4711, ${hops}`), [200, '198.51.100.7'], 'after hops with ports')
    t.strictSame(await send(['198.51.100.8:1', hops]), [200, '198.51.100.8'], 'in several headers')
    // With a list, the nearest hop outside it is the client; without a list, the client is the farthest address.
    t.strictSame(await send('198.51.100.9:1, 192.0.2.55:2, 10.0.0.9:3'), [
      200,
      proxies.length === 0 ? '198.51.100.9' : '192.0.2.55'
    ], 'beyond an untrusted hop')
    // Node.js accepts more texts for zones than the library that compares networks.
    for (const zone of ['eth0', 'eth-0', 'eth0.100', 'a:b']) {
      t.strictSame(
        (await send(`198.51.100.11:1, fe80::1%${zone}, 10.0.0.9:3`)).at(-1),
        proxies.length === 0 ? '198.51.100.11' : `fe80::1%${zone}`,
        `beyond a hop with the zone ${zone}`
      )
    }
    t.strictSame(
      await send('198.51.100.10, unknown'),
      proxies.length === 0 ? [200, '198.51.100.10'] : [429, peer],
      'beyond a hop without an address'
    )
  })
}

await t.test('trusted networks are compared in either form of an IPv4 address, and IPv6 with a port', async t => {
  const trusts = (proxies: string[], item: string) =>
    (trustProxy({ trust_proxy: true, trusted_proxies: proxies }) as (item: string) => boolean)(item)
  for (const item of ['10.0.0.9', '10.0.0.9:1', '::ffff:10.0.0.9', '[::ffff:10.0.0.9]:1']) {
    for (
      const proxies of [['10.0.0.0/8'], ['::ffff:10.0.0.0/104'], ['::ffff:10.0.0.9'], ['fd00::/8', '10.0.0.9/32']]
    ) { t.equal(trusts(proxies, item), true, `${String(proxies)} ${item}`) }
    for (const proxies of [['10.0.0.8'], ['fd00::/8'], ['::/0'], ['11.0.0.0/8']]) {
      t.equal(trusts(proxies, item), false, `${String(proxies)} ${item}`)
    }
  }
  t.equal(trusts(['fd00::/8'], '[fd12::1]:443'), true)
  t.equal(trusts(['fd00::/8'], 'fe80::1'), false)
  for (const item of ['fe80::1%eth0', 'fe80::1%eth-0', '[fe80::1%eth0.100]:443', 'fe80::1%a:b']) {
    t.equal(trusts(['fe80::/10'], item), true, `a zone is not compared: ${item}`)
    t.equal(trusts(['10.0.0.0/8', 'fd00::/8'], item), false, item)
  }
  t.equal(trusts(['0.0.0.0/0'], 'unknown'), false)
  t.equal(trusts(['0.0.0.0/0'], undefined as unknown as string), false, 'a closed socket')
  t.equal(trustProxy({}), false)
  t.equal(trustProxy({ trusted_proxies: ['10.0.0.0/8'] }), false)
  t.equal(trustProxy({ trust_proxy: true }), true)
})

await t.test('forwarded host and scheme never appear in a response', async t => {
  const config = { server: { trust_proxy: true, public_url: 'https://registry.example.com' }, oci }
  const app = Fastify({ ...serverOptions(config), logger: false })
  t.teardown(async () => { await app.close() })
  await app.register(whole, { config })
  const headers = {
    host: 'evil.example',
    'x-forwarded-host': 'evil.example',
    'x-forwarded-proto': 'gopher',
    'x-forwarded-prefix': '/evil.example',
    forwarded: 'host=evil.example;proto=gopher'
  }
  for (
    const url of [
      '/api/v1/extensions?limit=2',
      '/api/v1/extensions/provider/aws',
      '/api/v1/extensions/provider/aws/versions',
      '/api/v1/extensions/provider/aws/latest',
      '/api/v1/nowhere',
      '/%zz',
      '/health',
      '/openapi.json',
      '/docs'
    ]
  ) {
    const response = await app.inject({ url, headers })
    t.notMatch(`${JSON.stringify(response.headers)}${response.body}`, /evil\.example|gopher/, url)
  }
  t.equal(
    (await app.inject({ url: '/api/v1/extensions/provider/aws', headers })).json<{ download_url: string }>()
      .download_url,
    'https://registry.example.com/api/v1/extensions/provider/aws/1.2.0'
  )
})

await t.test('a host keeps its rate limit and its headers, and so does each registry in it', async t => {
  const host = Fastify()
  t.teardown(async () => { await host.close() })
  await host.register(rateLimit, { max: 5, keyGenerator: () => 'everybody' })
  host.get('/', async () => 'the host')
  await host.register(registry, { prefix: '/one', config: { oci, rate_limit: { max: 2 } } })
  await host.register(registry, { prefix: '/two', config: { oci, rate_limit: { max: 7 } } })
  t.equal((await host.inject('/')).headers['x-ratelimit-remaining'], '4')
  t.equal((await host.inject(`/one${list}`)).headers.ratelimit, '"default";r=1;t=60')
  t.equal((await host.inject(`/two${list}`)).headers.ratelimit, '"default";r=6;t=60')
  for (let left = 2; left > 0; left--) await host.inject(`/two${list}`)
  const refused = await host.inject(`/two${list}`)
  t.equal(refused.statusCode, 429, 'the limit of the host is reported as rate_limit')
  t.equal(refused.json<{ error: string }>().error, 'rate_limit')
})

/** Returns the rate limit headers of a response. */
const limitHeaders = (headers: object): Record<string, unknown> =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => name.includes('ratelimit')))

for (const [what, plugin] of [['encapsulated', registry], ['not encapsulated', whole]] as const) {
  await t.test(`the allow list and the limit of a host do not apply to the registry: ${what}`, async t => {
    const host = Fastify()
    t.teardown(async () => { await host.close() })
    await host.register(rateLimit, { global: false, max: 100, allowList: ['127.0.0.1'] })
    await host.register(plugin, { config: { oci, rate_limit: { max: 1 } } })
    const first = await host.inject(list)
    t.equal(first.statusCode, 200)
    t.strictSame(limitHeaders(first.headers), {
      'ratelimit-policy': '"default";q=1;w=60',
      ratelimit: '"default";r=0;t=60'
    })
    t.equal((await host.inject(list)).statusCode, 429)
  })

  await t.test(`the headers of the rate limit of a host remain on the responses of the registry: ${what}`, async t => {
    const host = Fastify()
    t.teardown(async () => { await host.close() })
    await host.register(rateLimit, { max: 5, enableDraftSpec: true })
    await host.register(plugin, { config: { oci, rate_limit: { max: 2 } } })
    t.strictSame(limitHeaders((await host.inject(list)).headers), {
      'ratelimit-limit': '5',
      'ratelimit-remaining': '4',
      'ratelimit-reset': '60',
      'ratelimit-policy': '"default";q=2;w=60',
      ratelimit: '"default";r=1;t=60'
    })
  })
}
