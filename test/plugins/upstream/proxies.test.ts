import t from 'tap'
import { ConfigError } from '../../../lib/config/parse.ts'
import { readProxies } from '../../../plugins/upstream/proxies.ts'
import { matchStrictly } from '../../fakes/match.ts'

const proxy = { HTTPS_PROXY: 'http://proxy.test:3128' }
const direct = (list: string, url: string): boolean => readProxies({ ...proxy, NO_PROXY: list }).isDirect(new URL(url))

await t.test('an entry of NO_PROXY excludes the same hosts as in curl', async t => {
  const entries: Array<[entry: string, excluded: string[], proxied: string[]]> = [
    ['corp.example', [
      'https://corp.example',
      'https://a.corp.example',
      'https://a.b.corp.example:8443',
      'https://CORP.example.'
    ], ['https://notcorp.example', 'https://corp.example.org', 'https://example']],
    ['.corp.example', ['https://corp.example', 'https://a.corp.example'], ['https://notcorp.example']],
    ['*.corp.example', ['https://corp.example', 'https://a.corp.example'], ['https://notcorp.example']],
    ['Corp.Example.', ['https://corp.example', 'https://a.corp.example.'], []],
    ['localhost', ['http://localhost:3000', 'http://a.localhost'], ['http://127.0.0.1']],
    ['my_host', ['http://my_host'], ['http://my-host']],
    ['bücher.example', ['https://bücher.example', 'https://xn--bcher-kva.example'], ['https://bucher.example']],
    ['corp.example:8080', ['http://corp.example:8080', 'http://a.corp.example:8080'], [
      'http://corp.example',
      'https://corp.example:443'
    ]],
    ['corp.example:443', ['https://corp.example', 'http://corp.example:443'], [
      'http://corp.example',
      'https://corp.example:444'
    ]],
    ['*.corp.example:80', ['http://a.corp.example'], ['https://a.corp.example']],
    ['10.0.0.0/8', ['http://10.0.0.1', 'http://10.255.255.255:3000', 'http://[::ffff:10.1.2.3]'], [
      'http://11.0.0.1',
      'http://gitea.test',
      'http://[fd00::1]'
    ]],
    ['10.1.2.3/8', ['http://10.9.9.9'], []],
    ['10.1.2.128/25', ['http://10.1.2.128', 'http://10.1.2.255'], ['http://10.1.2.127', 'http://10.1.3.0']],
    ['10.1.2.3/32', ['http://10.1.2.3', 'http://0xa.1.2.3', 'http://10.66051'], ['http://10.1.2.4']],
    ['0.0.0.0/0', ['http://1.2.3.4'], ['http://[2001:db8::1]', 'http://gitea.test']],
    ['fd00::/8', ['http://[fd00::1]', 'http://[fdff::1]:3000'], [
      'http://[fe00::1]',
      'http://10.0.0.1',
      'http://fd00.test'
    ]],
    ['FD00::/8', ['http://[fd12::1]'], []],
    ['[fd00::]/8', ['http://[fd00::1]'], ['http://[fc00::1]']],
    ['::/0', ['http://[2001:db8::1]'], ['http://1.2.3.4']],
    ['10.1.2.3', ['http://10.1.2.3', 'http://10.1.2.3:9'], ['http://10.1.2.4', 'http://110.1.2.3']],
    ['10.1.2.3:80', ['http://10.1.2.3'], ['https://10.1.2.3']],
    ['::1', ['http://[::1]', 'http://[0:0:0:0:0:0:0:1]:80'], ['http://[::2]']],
    ['0:0::0:1', ['http://[::1]'], []],
    ['[::1]', ['http://[::1]:3000'], ['http://[::2]']],
    ['[::1]:3000', ['http://[::1]:3000'], ['http://[::1]', 'http://[::1]:3001']],
    ['127.0.0.1-127.0.0.9', ['http://127.0.0.1', 'http://127.0.0.9'], [
      'http://127.0.0.10',
      'http://127.0.1.5',
      'http://[::1]'
    ]],
    ['*', ['http://anything.test', 'https://[::1]:1'], []]
  ]
  for (const [entry, excluded, proxied] of entries) {
    for (const url of excluded) t.equal(direct(entry, url), true, `${entry} excludes ${url}`)
    for (const url of proxied) t.equal(direct(entry, url), false, `${entry} does not exclude ${url}`)
    t.strictSame(readProxies({ ...proxy, NO_PROXY: entry }).ignored.entries, [], entry)
  }
})

await t.test('entries of NO_PROXY are separated by commas, blanks or semicolons', async t => {
  for (
    const list of [
      'a.test,10.0.0.0/8',
      'a.test 10.0.0.0/8',
      'a.test;10.0.0.0/8',
      ' ,; a.test , ;\t10.0.0.0/8\n',
      'a.test\r\n10.0.0.0/8',
      'x.test, *'
    ]
  ) {
    t.equal(direct(list, 'http://10.1.1.1'), true, JSON.stringify(list))
    t.equal(direct(list, 'http://a.test'), true, JSON.stringify(list))
  }
  for (const list of ['', ' ', ',;, ']) t.equal(direct(list, 'http://a.test'), false, JSON.stringify(list))
})

await t.test('no_proxy overrides NO_PROXY unless it is empty', async t => {
  const isDirect = (environment: Record<string, string>) =>
    readProxies({ ...proxy, ...environment }).isDirect(new URL('http://a.test'))
  t.equal(isDirect({ no_proxy: 'a.test', NO_PROXY: 'b.test' }), true)
  t.equal(isDirect({ no_proxy: 'b.test', NO_PROXY: 'a.test' }), false)
  t.equal(isDirect({ no_proxy: ' ', NO_PROXY: 'a.test' }), true)
  t.equal(readProxies({ ...proxy, no_proxy: 'x' }).ignored.variable, 'no_proxy')
})

await t.test('a malformed network or port in NO_PROXY is refused with a line that names the variable but not its ' +
  'value', async t => {
  for (
    const entry of [
      '10.0.0.0/33',
      '10.0.0/8',
      '10.0.0/x',
      '10.0.0.0/',
      '10.0.0.0/-1',
      '10.0.0.0/8/8',
      '10.0.0.0/255.0.0.0',
      '10.0.0.256/8',
      '10.0.0.x/8',
      'fd00::/129',
      'fd00::/x',
      'fd00:::/8',
      '[fd00::/8',
      'fe80::1%eth0/64',
      '10.0.0.0/8:80',
      'corp.example/24',
      'host:99999',
      'host:abc',
      'host:0',
      'host:',
      'host:-1',
      'host:+80',
      '.corp.example:x',
      '10.0.0.1:x',
      '[::1]:x',
      '[::1]:65536',
      '10.0.0.9-10.0.0.1'
    ]
  ) {
    for (const variable of ['NO_PROXY', 'no_proxy']) {
      try {
        readProxies({ ...proxy, [variable]: `a.test,${entry}` })
        t.fail(entry)
      } catch (error) {
        t.ok(error instanceof ConfigError, entry)
        matchStrictly(t, error, {
          exitCode: 78,
          message:
            `${variable}: entry 2: expected a network such as 10.0.0.0/8 or fd00::/8, or a host with a port from 1 ` +
              'to 65535 (in the environment)'
        }, entry)
      }
    }
    t.doesNotThrow(() => readProxies({ NO_PROXY: entry }), `${entry} without a proxy`)
    t.doesNotThrow(() => readProxies({ HTTP_PROXY: ' ', NO_PROXY: entry }), `${entry} with an empty proxy`)
  }
})

await t.test('any other entry of NO_PROXY that is not a host is ignored and listed', async t => {
  const entries = [
    '<local>',
    '10.0.0',
    '192.168.',
    '192.168.*',
    '010.0.0.1',
    '*corp.example',
    '*.',
    '..corp.example',
    'a..b',
    '-a.test',
    'http://a.test',
    'a.test/path',
    '[',
    '[x]',
    '::1:x:y',
    'fe80::1%eth0',
    ':8080',
    'a!b',
    'x'.repeat(64)
  ]
  const { ignored, isDirect } = readProxies({ ...proxy, NO_PROXY: ['good.test', ...entries].join() })
  t.strictSame(ignored, { variable: 'NO_PROXY', entries })
  t.equal(isDirect(new URL('http://good.test')), true)
  for (const url of ['http://a.test', 'http://192.168.0.1', 'http://corp.example']) {
    t.equal(isDirect(new URL(url)), false, url)
  }
})

await t.test('entries of NO_PROXY that are not a host are listed by number if they may contain an address with a ' +
  'password', async t => {
  for (
    const list of [
      '<local>,a.test,http://user:canary@proxy.test',
      'http://user:canary,a.test,word@proxy.test',
      'user@x,a.test,http://canary!',
      '"canary,a.test,$2"@proxy.test'
    ]
  ) {
    t.strictSame(readProxies({ ...proxy, NO_PROXY: list }).ignored.entries, ['entry 1', 'entry 3'], list)
  }
})

await t.test('an invalid proxy is refused with a line that names the variable but not its value', async t => {
  for (const bad of ['http://[canary', 'http://user:canary@', 'socks5://user:canary@127.0.0.1:1']) {
    t.throws(() => readProxies({ https_proxy: bad }), {
      name: 'ConfigError',
      message: 'https_proxy: expected an http:// or https:// address of a proxy (in the environment)'
    }, bad)
  }
  t.throws(() => readProxies(proxy, '22.20.0'), {
    name: 'ConfigError',
    message: 'HTTPS_PROXY: expected Node.js 22.21, 24.5 or later, which proxies need (in the environment)'
  })
  t.doesNotThrow(() => readProxies({}, '22.20.0'))
})
