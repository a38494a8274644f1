import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { isRegistryError } from '../../plugins/errors.ts'
import { createUpstream, type UpstreamOptions } from '../../plugins/upstream-client.ts'
import { createLoopback } from '../fakes/loopback.ts'
import { createProxy } from '../fakes/proxy.ts'

// Of an authority of our own for registry.test, localhost and 127.0.0.1; made with openssl, good until 2126.
const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/tls/${name}`, import.meta.url))
const caFile = fixture('ca.pem')

async function secureServer (t: Test): Promise<number> {
  const server = createServer({ key: readFileSync(fixture('server.key')), cert: readFileSync(fixture('server.pem')) }, (_message, response) => { response.end('over TLS') })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(async () => {
    server.closeAllConnections()
    await new Promise(resolve => server.close(resolve))
  })
  return (server.address() as AddressInfo).port
}

function upstream (t: Test, url: string, environment: Record<string, string>, options: Partial<UpstreamOptions> = {}) {
  const made = createUpstream({ userAgent: 'test', random: () => 0, environment }, { instance: 'oci', url, timeout: 5, verifySsl: true, redirectHosts: [], concurrency: 8, ...options })
  t.teardown(() => { made.close() })
  return {
    ask: async (path = 'x') => await made.ask(made.address([path]), 1000).then(({ status, body }) => `${status} ${body.toString()}`, (error: unknown) => {
      if (!isRegistryError(error)) throw error
      return `${error.code}: ${error.details ?? ''}`
    }),
    stream: async () => {
      const { stream } = await made.stream(made.address(['x']), { signal: AbortSignal.timeout(5000) })
      let text = ''
      for await (const chunk of stream ?? []) text += String(chunk)
      return text
    }
  }
}

await t.test('a certificate of a private authority is trusted with ca_file, and only with it', async t => {
  const port = await secureServer(t)
  const url = `https://127.0.0.1:${port}`
  t.equal(await upstream(t, url, {}).ask(), 'service_unavailable: Certificate is not trusted')
  t.equal(await upstream(t, url, {}, { caFile }).ask(), '200 over TLS')
  t.equal(await upstream(t, url, {}, { caFile }).stream(), 'over TLS')
  t.equal(await upstream(t, `https://127.0.0.2:${port}`, {}, { caFile }).ask(), 'service_unavailable: Connection refused')
  t.equal(await upstream(t, url, {}, { verifySsl: false }).ask(), '200 over TLS')
  t.throws(() => upstream(t, url, {}, { caFile: '/nowhere/ca.pem' }), { code: 'config_error', message: 'ca_file of instance oci cannot be used' })
})

await t.test('a certificate for another host is refused', async t => {
  const port = await secureServer(t)
  const proxy = await createProxy(t, port)
  t.equal(await upstream(t, 'https://other.test', { HTTPS_PROXY: proxy.url }, { caFile }).ask(), 'service_unavailable: Certificate is for another host')
})

await t.test('HTTPS_PROXY is asked for a tunnel, in which the certificate still counts', async t => {
  const proxy = await createProxy(t, await secureServer(t))
  for (const name of ['HTTPS_PROXY', 'https_proxy']) {
    proxy.asked.length = 0
    t.equal(await upstream(t, 'https://registry.test', { [name]: proxy.url }, { caFile }).ask(), '200 over TLS')
    t.strictSame(proxy.asked, ['CONNECT registry.test:443'], name)
  }
  t.equal(await upstream(t, 'https://registry.test', { HTTPS_PROXY: proxy.url }, { caFile }).stream(), 'over TLS')
  t.equal(await upstream(t, 'https://registry.test', { HTTPS_PROXY: proxy.url }).ask(), 'service_unavailable: Certificate is not trusted')
  t.equal(await upstream(t, 'https://registry.test', { HTTPS_PROXY: proxy.url }, { verifySsl: false }).ask(), '200 over TLS')
})

await t.test('HTTP_PROXY is asked for the address', async t => {
  const server = await createLoopback(({ headers }) => ({ status: 200, body: `plain for ${headers.host ?? ''}` }))
  t.teardown(server.close)
  const proxy = await createProxy(t, server.port)
  t.equal(await upstream(t, 'http://registry.test:5000', { HTTP_PROXY: proxy.url }).ask(), '200 plain for registry.test:5000')
  t.equal(await upstream(t, 'http://registry.test:5000', { HTTP_PROXY: proxy.url }).stream(), 'plain for registry.test:5000')
  t.strictSame(proxy.asked, ['GET http://registry.test:5000/x', 'GET http://registry.test:5000/x'])
})

await t.test('hosts of NO_PROXY are asked directly, each redirect by its own host', async t => {
  const server = await createLoopback(({ path }) => path === '/away' ? { status: 302, headers: { location: 'http://cdn.test/file' }, body: '' } : { status: 200, body: 'direct' })
  t.teardown(server.close)
  const proxy = await createProxy(t, server.port)
  for (const value of ['127.0.0.1', '127.0.0.0-127.0.0.9', `127.0.0.1:${server.port}`, 'x.test, 127.0.0.1', '*']) {
    t.equal(await upstream(t, server.url, { HTTP_PROXY: proxy.url, NO_PROXY: value }).ask(), '200 direct', value)
  }
  t.strictSame(proxy.asked, [])
  t.equal(await upstream(t, server.url, { HTTP_PROXY: proxy.url, NO_PROXY: '127.0.0.1' }, { redirectHosts: ['cdn.test'] }).ask('away'), '200 direct')
  t.strictSame(proxy.asked, ['GET http://cdn.test/file'])
  t.equal(await upstream(t, 'http://registry.test', { HTTP_PROXY: proxy.url.replace('http://', '') }).ask(), '200 direct', 'a proxy without scheme')
  t.equal(await upstream(t, server.url, { HTTP_PROXY: '', HTTPS_PROXY: '  ' }).ask(), '200 direct', 'empty is unset')
})

await t.test("a proxy's credentials go to the proxy alone, and into no message", async t => {
  const server = await createLoopback(() => ({ status: 200, body: 'x' }))
  t.teardown(server.close)
  const proxy = await createProxy(t, server.port)
  const withUser = proxy.url.replace('://', '://user:canary-proxy@')
  t.equal(await upstream(t, 'http://registry.test', { HTTP_PROXY: withUser }).ask(), '200 x')
  t.match(proxy.authorizations, [/^Basic /])
  proxy.refuses = 407
  t.equal(await upstream(t, 'https://registry.test', { HTTPS_PROXY: withUser }).ask(), 'service_unavailable: Proxy refuses the connection')
  for (const bad of ['http://[canary', 'http://user:canary@', 'socks5://user:canary@127.0.0.1:1']) {
    try {
      upstream(t, 'https://registry.test', { HTTPS_PROXY: bad })
      t.fail('accepted')
    } catch (error) {
      t.match(error, { code: 'config_error', message: 'The proxy of instance oci cannot be used' }, bad)
      t.notMatch(error instanceof Error ? `${error.message} ${String(error.cause)} ${error.stack ?? ''}` : '', /canary/)
    }
  }
})
