import type { LookupAddress } from 'node:dns'
import type { FastifyBaseLogger } from 'fastify'
import t, { type Test } from 'tap'
import { isRegistryError } from '../../../lib/errors.ts'
import {
  createLookup,
  isPublic,
  namesHost,
  pathBelow,
  prohibited,
  type Guard,
  type Resolver
} from '../../../plugins/upstream/addresses.ts'
import { createUpstream, type UpstreamOptions } from '../../../plugins/upstream/client.ts'
import { createLog } from '../../fakes/log.ts'
import { createLoopback } from '../../fakes/loopback.ts'
import { matchStrictly } from '../../fakes/match.ts'
import { createProxy } from '../../fakes/proxy.ts'

const inner = [
  '0.0.0.0',
  '0.1.2.3',
  '10.0.0.1',
  '100.64.0.1',
  '100.127.255.255',
  '127.0.0.1',
  '127.1.2.3',
  '169.254.169.254',
  '172.16.0.1',
  '172.31.255.255',
  '192.0.0.1',
  '192.0.0.170',
  '192.0.2.1',
  '192.88.99.1',
  '192.168.1.1',
  '198.18.0.1',
  '198.19.255.255',
  '198.51.100.1',
  '203.0.113.1',
  '224.0.0.1',
  '239.255.255.255',
  '240.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '::7f00:1',
  '::127.0.0.1',
  '::8.8.8.8',
  '::ffff:169.254.169.254',
  '::ffff:a9fe:a9fe',
  '::ffff:8.8.8.8',
  '::ffff:0:8.8.8.8',
  '64:ff9b::a9fe:a9fe',
  '64:ff9b::8.8.8.8',
  '64:ff9b:1::a9fe:a9fe',
  '100::1',
  '2001::1',
  '2001:0:4136:e378:8000:63bf:3fff:fdd2',
  '2001:2::1',
  '2001:db8::1',
  '2001:20::1',
  '2002:a9fe:a9fe::1',
  '2002:808:808::1',
  '3fff::1',
  '5f00::1',
  'fc00::1',
  'fd00:ec2::254',
  'fe80::1',
  'fe80::1%1',
  'fec0::1',
  'ff02::1',
  '4000::1',
  'e000::1',
  '1::1'
]
const outer = [
  '1.1.1.1',
  '8.8.8.8',
  '100.63.255.255',
  '100.128.0.1',
  '140.82.121.34',
  '172.15.0.1',
  '172.32.0.1',
  '223.255.255.255',
  '2001:4860:4860::8888',
  '2606:4700::1111',
  '2a00:1450:4001:829::200e'
]

await t.test('only global unicast addresses in their canonical form are public', async t => {
  for (const address of inner) t.equal(isPublic(address), false, address)
  for (const address of outer) t.equal(isPublic(address), true, address)
  for (
    const text of [
      '',
      'localhost',
      '2852039166',
      '0x8080808',
      '010.8.8.8',
      '8.8.8',
      '8.8.8.8.',
      ' 8.8.8.8',
      '[2606:4700::1111]',
      '8.8.8.8/32',
      'a'.repeat(10_000)
    ]
  ) t.equal(isPublic(text), false, text.slice(0, 40))
})

const known = (addresses: string[]): Resolver => (_hostname, _options, callback) => {
  callback(null, addresses.map((address): LookupAddress => ({ address, family: address.includes(':') ? 6 : 4 })))
}
const look = async (addresses: string[], options: object) =>
  await new Promise(resolve => {
    createLookup(isPublic, known(addresses))('host.test', options, (error, address, family) => {
      resolve(error === null ? [address, family] : error.code)
    })
  })

await t.test('a lookup returns all public addresses or the first, and fails without any', async t => {
  const mixed = ['10.0.0.1', '8.8.8.8', '::1', '2606:4700::1111']
  t.strictSame(await look(mixed, { all: true }), [[{ address: '8.8.8.8', family: 4 }, {
    address: '2606:4700::1111',
    family: 6
  }], undefined])
  t.strictSame(await look(mixed, {}), ['8.8.8.8', 4])
  for (const options of [{}, { all: true }]) {
    t.equal(await look(['169.254.169.254', '::ffff:8.8.8.8'], options), prohibited)
  }
  const requested: unknown[] = []
  createLookup(isPublic, (hostname, options) => {
    requested.push(hostname, options)
  })('host.test', { family: 6, hints: 1 }, () => {})
  t.strictSame(requested, ['host.test', { family: 6, hints: 1, all: true }])
  const failing: Resolver = (_hostname, _options, callback) => {
    callback(Object.assign(new Error('no'), { code: 'ENOTFOUND' }), [])
  }
  createLookup(isPublic, failing)('host.test', {}, error => {
    matchStrictly(t, error, { code: 'ENOTFOUND' })
  })
})

await t.test(
  'configured hosts match in any case, and with the default port of the ' +
    'scheme',
  async t => {
    const names = (host: string, url: string) => namesHost([host], new URL(url))
    for (
      const [host, url] of [
        ['CDN.example.com', 'https://cdn.example.com:8443/'],
        ['cdn.example.com:443', 'https://cdn.example.com/'],
        ['[::1]:80', 'http://[::1]/'],
        ['10.0.0.1:81', 'http://10.1:81/']
      ] as const
    ) t.ok(names(host, url), `${host} ${url}`)
    for (
      const [host, url] of [
        ['cdn.example.com:443', 'https://cdn.example.com:444/'],
        ['example.com', 'https://cdn.example.com/'],
        ['cdn.example.com', 'https://cdn.example.com./'],
        ['cdn.example.com', 'https://cdn.example.com@other.example/'],
        ['', 'https://x/']
      ] as const
    ) t.notOk(names(host, url), `${host} ${url}`)
  }
)

await t.test('a name stays one segment of an address', async t => {
  const base = new URL('https://git.test/sub/')
  for (const parts of [['..'], ['.'], ['a', '..', 'b'], ['\ud800']]) {
    t.equal(pathBelow(base, parts), undefined, JSON.stringify(parts))
  }
  for (
    const name of [
      '%2e%2e',
      '%2E',
      '../x',
      '..\\x',
      '//evil.test',
      'https://evil.test',
      'evil:x',
      '?a',
      '#a',
      'a/b',
      '\r\n',
      '\0',
      '...',
      ' ..',
      '.. ',
      '..;',
      ''
    ]
  ) {
    const url = pathBelow(base, [name, 'last'])
    t.equal(url?.origin, base.origin)
    t.match(url?.pathname, /^\/sub\/[^/]*\/last$/, JSON.stringify(name))
    t.equal(decodeURIComponent(url?.pathname.slice(5, -5) ?? ''), name)
    t.equal(`${url?.search}${url?.hash}`, '')
  }
})

interface More {
  log?: FastifyBaseLogger
  guard?: Guard
  resolver?: Resolver
  environment?: Record<string, string>
}
function createSender (
  t: Test,
  url: string,
  { environment = {}, ...more }: More,
  options: Partial<UpstreamOptions> = {}
) {
  const made = createUpstream({ userAgent: 'test', random: () => 0, environment, ...more }, {
    instance: 'oci',
    url,
    timeout: 5,
    verifySsl: true,
    redirectHosts: [],
    concurrency: 8,
    ...options
  })
  t.teardown(() => {
    made.close()
  })
  const observed = (error: unknown) => {
    if (!isRegistryError(error)) throw error
    t.notMatch(`${error.message} ${error.details ?? ''}`, /\d+\.\d+|::|\.test|localhost/, 'no address in the error')
    return [error.code, error.details, error.proxyError]
  }
  return {
    send: async (target: string) => await made.request(new URL(target), 1000).then(({ status }) => status, observed),
    stream: async (target: string) =>
      await made.stream(new URL(target), { signal: AbortSignal.timeout(5000) }).then(({ status, stream }) => {
        stream?.destroy()
        return status
      }, observed),
    json: async (target: string) => await made.json(new URL(target)).then(({ kind }) => kind, observed)
  }
}
const refused = [
  'service_unavailable',
  'Host is on a private network and is not configured',
  'destination_ip_prohibited'
]
const elsewhere = ['service_unavailable', 'Redirect to a host that is not configured', 'destination_ip_prohibited']

await t.test('an inner address is refused in any notation, as a request and as a redirect', async t => {
  const target = await createLoopback(() => ({ status: 200, body: 'secret' }))
  t.teardown(target.close)
  let location = ''
  const own = await createLoopback(() => ({ status: 302, headers: { location }, body: '' }))
  t.teardown(own.close)
  const { port } = target
  const inside: Resolver = known(['127.0.0.1'])
  const { send, stream, json } = createSender(t, own.url, { resolver: inside })
  const hosts = [
    '2852039166',
    '0251.0376.0251.0376',
    '0xa9fea9fe',
    '0xa9.0xfe.0xa9.0xfe',
    '169.254.43518',
    '[::ffff:169.254.169.254]',
    '[64:ff9b::a9fe:a9fe]',
    '127.1',
    '2130706433',
    '0',
    '127.0.0.1.',
    '[::1]',
    '[::127.0.0.1]',
    '[::ffff:7f00:1]',
    'localhost',
    'localhost.',
    'LOCALHOST',
    'inner.test',
    'inner.test.',
    '①②⑦.⓪.⓪.①',
    'user:pw@127.0.0.1',
    `127.0.0.1:${own.port}@localhost`
  ]
  for (const host of hosts) {
    for (const to of [`http://${host}/`, `http://${host}:${port}/`]) {
      t.strictSame(await send(to), refused, to)
      t.strictSame(await stream(to), refused, to)
      location = Buffer.from(to).toString('latin1')
      t.strictSame(await send(`${own.url}/x`), elsewhere, `redirect to ${to}`)
      t.strictSame(await stream(`${own.url}/x`), elsewhere, `redirect to ${to}`)
    }
  }
  for (
    const to of [
      `//127.0.0.1:${port}/`,
      `\\\\127.0.0.1:${port}/`,
      `http:///127.0.0.1:${port}/`,
      'file:///etc/passwd',
      'data:text/plain,x',
      'gopher://127.0.0.1/',
      'http://[',
      '',
      own.url.replace('://', '://user:pw@')
    ]
  ) {
    location = to
    for (const way of [send, stream]) {
      t.strictSame(
        await way(`${own.url}/x`),
        to === '' ? ['service_unavailable', 'Too many redirects', 'http_protocol_error'] : elsewhere,
        to
      )
    }
    t.equal((await json(`${own.url}/x`))[0], 'service_unavailable', to)
  }
  t.equal(target.connections, 0)
  t.ok(own.requests.every(({ headers }) => headers.authorization === undefined))
})

await t.test('a redirect from http to https of the same host is reported with the key to configure', async t => {
  let location = ''
  const own = await createLoopback(() => ({ status: 301, headers: { location }, body: '' }))
  t.teardown(own.close)
  const { log, lines } = createLog()
  const client = createSender(t, own.url, { log }, { addressKey: 'oci.registry' })
  const advice = [
    'service_unavailable',
    'Redirect from http to https: set oci.registry to the https address',
    'destination_ip_prohibited'
  ]
  for (
    const to of [
      'https://127.0.0.1/x',
      `https://127.0.0.1:${own.port}/x?X-Amz-Signature=canary`,
      'https://127.0.0.1:8443'
    ]
  ) {
    location = to
    for (const way of [client.send, client.stream, client.json]) t.strictSame(await way(`${own.url}/x`), advice, to)
  }
  for (const to of ['https://www.other.test/x', 'http://127.0.0.1:1/x', 'https://localhost/x']) {
    location = to
    for (let time = 0; time < 2; time++) t.strictSame(await client.send(`${own.url}/x`), elsewhere, to)
  }
  const logged = lines.map(line => JSON.parse(line) as { origin: string, msg: string })
  t.strictSame(logged.map(({ origin }) => origin), [
    'https://127.0.0.1',
    `https://127.0.0.1:${own.port}`,
    'https://127.0.0.1:8443',
    'https://www.other.test',
    'http://127.0.0.1:1',
    'https://localhost'
  ], 'each redirect is logged once')
  matchStrictly(t, logged[0], {
    level: 40,
    backend: 'oci',
    msg: 'the upstream redirects to another scheme: the request failed; set oci.registry to the https address'
  })
  matchStrictly(t, logged[3], {
    msg:
      'the upstream redirects to a host that is not configured: the request failed; add the host to redirect_hosts ' +
      'if files are stored there, or set oci.registry to the address that the upstream redirects to'
  })
  t.notMatch(lines.join(), 'canary')
  for (let host = 0; host < 30; host++) {
    location = `https://h${host}.test/`
    t.strictSame(await client.send(`${own.url}/x`), elsewhere)
  }
  t.equal(lines.length, 20, 'the number of logged hosts is limited')
})

await t.test('hosts in the configuration may be on any network', async t => {
  const target = await createLoopback(() => ({ status: 200, body: 'x' }))
  t.teardown(target.close)
  const own = await createLoopback(() => ({
    status: 302,
    headers: { location: `http://cdn.test:${target.port}/` },
    body: ''
  }))
  t.teardown(own.close)
  const resolver = known(['127.0.0.1'])
  t.equal(
    await createSender(t, `http://own.test:${own.port}`, { resolver }, { redirectHosts: ['cdn.test'] }).send(
      `http://own.test:${own.port}/`
    ),
    200
  )
  t.equal(
    await createSender(t, own.url, { resolver }, { namedHosts: [`auth.test:${target.port}`] }).send(
      `http://auth.test:${target.port}/`
    ),
    200
  )
  t.equal(await createSender(t, own.url, { resolver }, { namedHosts: ['127.0.0.1'] }).send(target.url), 200)
  t.strictSame(
    await createSender(t, own.url, { resolver }, { namedHosts: ['auth.test:1'] }).send(
      `http://auth.test:${target.port}/`
    ),
    refused
  )
})

await t.test(
  'a DNS result that changes between two lookups bypasses nothing: each connection is checked with its ' +
    'own lookup',
  async t => {
    const target = await createLoopback(() => ({ status: 200, headers: { connection: 'close' }, body: 'x' }))
    t.teardown(target.close)
    // 127.0.0.1 represents the public internet, 127.0.0.2 an inner network; the same server listens on both.
    const responses: string[][] = []
    let lookups = 0
    const resolver: Resolver = (hostname, options, callback) => {
      lookups++
      known(responses.shift() ?? ['127.0.0.2'])(hostname, options, callback)
    }
    const { send, stream } = createSender(t, 'http://own.test', {
      resolver,
      guard: address => address === '127.0.0.1'
    })
    responses.push(['127.0.0.1'])
    t.equal(await send(`http://auth.test:${target.port}/`), 200)
    t.strictSame([lookups, target.connections], [1, 1], 'looked up once')
    t.strictSame(await send(`http://auth.test:${target.port}/`), refused)
    t.strictSame([lookups, target.connections], [2, 1], 'a refusal is not retried')
    responses.push(['127.0.0.2', '127.0.0.1'])
    t.equal(await stream(`http://auth.test:${target.port}/`), 200, 'connected to the permitted address')
    t.strictSame(await stream(`http://auth.test:${target.port}/`), refused)
    t.equal(target.connections, 2)
  }
)

await t.test('a proxy may be on an inner network, but inner addresses are refused through it', async t => {
  const server = await createLoopback(() => ({ status: 200, body: 'x' }))
  t.teardown(server.close)
  const proxy = await createProxy(t, server.port)
  const environment = { HTTP_PROXY: proxy.url.replace('127.0.0.1', 'localhost'), HTTPS_PROXY: proxy.url }
  const { send } = createSender(t, 'http://own.test', { environment, resolver: known([]) })
  t.equal(await send('http://auth.test/'), 200)
  t.strictSame(await send('http://169.254.169.254/'), refused)
  t.strictSame(proxy.requested, ['GET http://auth.test/'])
})
