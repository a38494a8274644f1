import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { rename, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { FastifyBaseLogger } from 'fastify'
import t, { type Test } from 'tap'
import { isRegistryError } from '../../../lib/errors.ts'
import { createUpstream, type UpstreamOptions } from '../../../plugins/upstream/client.ts'
import { createLog } from '../../fakes/log.ts'
import { createLoopback } from '../../fakes/loopback.ts'
import { matchStrictly } from '../../fakes/match.ts'
import { createProxy } from '../../fakes/proxy.ts'

// Issued by a private authority for registry.test, localhost and 127.0.0.1; made with openssl, valid until 2126.
const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/tls/${name}`, import.meta.url))
const caFile = fixture('ca.pem')

/** Starts a server with one of the certificates. */
async function secureServer (t: Test, name = 'server') {
  const held: Array<() => void> = []
  const server = createServer(
    { key: readFileSync(fixture(`${name}.key`)), cert: readFileSync(fixture(`${name}.pem`)) },
    ({ url }, response) => {
      if (url !== '/slow') return response.end('over TLS')
      response.write('half ')
      held.push(() => {
        response.end('and half')
      })
    }
  )
  server.keepAliveTimeout = 0
  const sockets = new Set<Socket>()
  server.on('secureConnection', socket => {
    sockets.add(socket)
    socket.once('close', () => { sockets.delete(socket) })
  })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(async () => {
    server.closeAllConnections()
    await new Promise(resolve => server.close(resolve))
  })
  return {
    port: (server.address() as AddressInfo).port,
    /** Ends the responses that are half sent. */
    resume: () => { for (const end of held.splice(0)) end() },
    /** Resolves when the connections that are open now are closed. */
    closed: async () => { await Promise.all([...sockets].map(async socket => { await once(socket, 'close') })) }
  }
}

function upstream (
  t: Test,
  url: string,
  environment: Record<string, string>,
  options: Partial<UpstreamOptions> = {},
  log?: FastifyBaseLogger
) {
  const made = createUpstream({ userAgent: 'test', random: () => 0, environment, ...(log && { log }) }, {
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
  return {
    send: async (path = 'x') =>
      await made.request(made.address([path]), 1000).then(
        ({ status, body }) => `${status} ${body.toString()}`,
        (error: unknown) => {
          if (!isRegistryError(error)) throw error
          return `${error.code}: ${error.details ?? ''}`
        }
      ),
    /** Starts a response whose second half is sent on `resume`. */
    slow: async ({ resume }: { resume: () => void }) => {
      const { stream } = await made.stream(made.address(['slow']), { signal: AbortSignal.timeout(5000) })
      if (stream === undefined) throw new Error('no file')
      return { resume, text: text(stream) }
    },
    stream: async () => {
      const { stream } = await made.stream(made.address(['x']), { signal: AbortSignal.timeout(5000) })
      let text = ''
      for await (const chunk of stream ?? []) text += String(chunk)
      return text
    }
  }
}

await t.test('a certificate of a private authority is trusted with ca_file, and only with it', async t => {
  const { port } = await secureServer(t)
  const url = `https://127.0.0.1:${port}`
  t.equal(await upstream(t, url, {}).send(), 'service_unavailable: Certificate is not trusted')
  t.equal(await upstream(t, url, {}, { caFile }).send(), '200 over TLS')
  t.equal(await upstream(t, url, {}, { caFile }).stream(), 'over TLS')
  t.equal(
    await upstream(t, `https://127.0.0.2:${port}`, {}, { caFile }).send(),
    'service_unavailable: Connection refused'
  )
  t.equal(await upstream(t, url, {}, { verifySsl: false }).send(), '200 over TLS')
  t.throws(() => upstream(t, url, {}, { caFile: '/nowhere/ca.pem' }), {
    code: 'config_error',
    message: 'ca_file of instance oci cannot be used'
  })
})

await t.test('a certificate for another host is refused', async t => {
  const { port } = await secureServer(t)
  const proxy = await createProxy(t, port)
  t.equal(
    await upstream(t, 'https://other.test', { HTTPS_PROXY: proxy.url }, { caFile }).send(),
    'service_unavailable: Certificate is for another host'
  )
})

await t.test('a request with HTTPS_PROXY uses a tunnel, and the certificate is verified in it', async t => {
  const proxy = await createProxy(t, (await secureServer(t)).port)
  for (const name of ['HTTPS_PROXY', 'https_proxy']) {
    proxy.requested.length = 0
    t.equal(await upstream(t, 'https://registry.test', { [name]: proxy.url }, { caFile }).send(), '200 over TLS')
    t.strictSame(proxy.requested, ['CONNECT registry.test:443'], name)
  }
  t.equal(await upstream(t, 'https://registry.test', { HTTPS_PROXY: proxy.url }, { caFile }).stream(), 'over TLS')
  t.equal(
    await upstream(t, 'https://registry.test', { HTTPS_PROXY: proxy.url }).send(),
    'service_unavailable: Certificate is not trusted'
  )
  t.equal(
    await upstream(t, 'https://registry.test', { HTTPS_PROXY: proxy.url }, { verifySsl: false }).send(),
    '200 over TLS'
  )
})

await t.test('a request with HTTP_PROXY sends its address to the proxy', async t => {
  const server = await createLoopback(({ headers }) => ({ status: 200, body: `plain for ${headers.host ?? ''}` }))
  t.teardown(server.close)
  const proxy = await createProxy(t, server.port)
  t.equal(
    await upstream(t, 'http://registry.test:5000', { HTTP_PROXY: proxy.url }).send(),
    '200 plain for registry.test:5000'
  )
  t.equal(
    await upstream(t, 'http://registry.test:5000', { HTTP_PROXY: proxy.url }).stream(),
    'plain for registry.test:5000'
  )
  t.strictSame(proxy.requested, ['GET http://registry.test:5000/x', 'GET http://registry.test:5000/x'])
})

await t.test('hosts of NO_PROXY are requested directly, and each redirect is decided by its own host', async t => {
  const server = await createLoopback(({ path }) =>
    path === '/away'
      ? { status: 302, headers: { location: 'http://cdn.test/file' }, body: '' }
      : { status: 200, body: 'direct' }
  )
  t.teardown(server.close)
  const proxy = await createProxy(t, server.port)
  for (const value of ['127.0.0.1', '127.0.0.0-127.0.0.9', `127.0.0.1:${server.port}`, 'x.test, 127.0.0.1', '*']) {
    t.equal(await upstream(t, server.url, { HTTP_PROXY: proxy.url, NO_PROXY: value }).send(), '200 direct', value)
  }
  t.strictSame(proxy.requested, [])
  t.equal(
    await upstream(t, server.url, { HTTP_PROXY: proxy.url, NO_PROXY: '127.0.0.1' }, { redirectHosts: ['cdn.test'] })
      .send('away'),
    '200 direct'
  )
  t.strictSame(proxy.requested, ['GET http://cdn.test/file'])
  t.equal(
    await upstream(t, 'http://registry.test', { HTTP_PROXY: proxy.url.replace('http://', '') }).send(),
    '200 direct',
    'a proxy without scheme'
  )
  t.equal(await upstream(t, server.url, { HTTP_PROXY: '', HTTPS_PROXY: '  ' }).send(), '200 direct', 'empty is unset')
})

await t.test('the credentials of a proxy are sent to the proxy only, and are in no message', async t => {
  const server = await createLoopback(() => ({ status: 200, body: 'x' }))
  t.teardown(server.close)
  const proxy = await createProxy(t, server.port)
  const withUser = proxy.url.replace('://', '://user:canary-proxy@')
  t.equal(await upstream(t, 'http://registry.test', { HTTP_PROXY: withUser }).send(), '200 x')
  matchStrictly(t, proxy.authorizations, [/^Basic /])
  proxy.refuses = 407
  t.equal(
    await upstream(t, 'https://registry.test', { HTTPS_PROXY: withUser }).send(),
    'service_unavailable: Proxy refuses the connection'
  )
  for (const bad of ['http://[canary', 'http://user:canary@', 'socks5://user:canary@127.0.0.1:1']) {
    t.throws(() => upstream(t, 'https://registry.test', { HTTPS_PROXY: bad }), {
      name: 'ConfigError',
      message: 'HTTPS_PROXY: expected an http:// or https:// address of a proxy (in the environment)'
    }, bad)
  }
})

await t.test('a request to a host in a network of NO_PROXY does not reach the proxy, nor does its token, and each ' +
  'redirect is decided by its own host', async t => {
  const target = await createLoopback(() => ({ status: 200, body: 'target' }))
  t.teardown(target.close)
  const server = await createLoopback(({ path }) =>
    path === '/away'
      ? { status: 302, headers: { location: `http://localhost:${target.port}/file` }, body: '' }
      : { status: 200, body: 'direct' }
  )
  t.teardown(server.close)
  const proxy = await createProxy(t, target.port)
  const options = { redirectHosts: ['localhost'], authorization: async () => 'token canary' }
  for (const list of ['10.0.0.0/8;127.0.0.0/8', 'fd00::/8 127.0.0.0/8', '127.0.0.0/8']) {
    proxy.requested.length = 0
    const client = upstream(t, server.url, { HTTP_PROXY: proxy.url, NO_PROXY: list }, options)
    t.equal(await client.send(), '200 direct', list)
    t.equal(await client.stream(), 'direct', list)
    t.strictSame(proxy.requested, [], list)
    t.equal(await client.send('away'), '200 target', 'a name does not match a network')
    t.strictSame(proxy.requested, [`GET http://localhost:${target.port}/file`], list)
  }
  t.equal(
    await upstream(t, server.url, { HTTP_PROXY: proxy.url, NO_PROXY: '10.0.0.0/8' }, options).send(),
    '200 target',
    'another network'
  )
  t.equal(
    await upstream(t, `http://localhost:${server.port}`, { HTTP_PROXY: proxy.url, NO_PROXY: '127.0.0.0/8' }, options)
      .send(),
    '200 target',
    'names are not resolved'
  )
  t.throws(() => upstream(t, server.url, { HTTP_PROXY: proxy.url, NO_PROXY: '10.0.0.0/33' }), {
    name: 'ConfigError',
    key: 'NO_PROXY'
  })
  t.equal(
    await upstream(t, server.url, { NO_PROXY: '10.0.0.0/33' }).send(),
    '200 direct',
    'without a proxy the list is not parsed'
  )
})

await t.test('with a ca_file that is replaced', async t => {
  const pem = (name: string) => readFileSync(fixture(name), 'utf8')
  const ca = pem('ca.pem')
  const setUp = async (t: Test, content: string | Buffer) => {
    const file = join(t.testdir({}), 'ca.pem')
    await writeFile(file, content)
    const { log, lines } = createLog()
    const servers = { first: await secureServer(t), other: await secureServer(t, 'other-server') }
    const client = (port: number) => upstream(t, `https://127.0.0.1:${port}`, {}, { caFile: file }, log)
    return {
      file,
      messages: () => lines.splice(0).map(line => JSON.parse(line) as { msg: string, level: number, file: string }),
      first: client(servers.first.port),
      other: client(servers.other.port),
      servers
    }
  }
  const untrusted = 'service_unavailable: Certificate is not trusted'

  await t.test('new connections trust the new authorities, and idle connections are closed', async t => {
    const { file, messages, first, other, servers } = await setUp(t, ca)
    t.equal(await first.send(), '200 over TLS')
    t.equal(await other.send(), untrusted)
    t.strictSame(messages(), [], 'nothing has changed')
    const idle = servers.first.closed()
    await writeFile(`${file}.new`, pem('other-ca.pem'))
    await rename(`${file}.new`, file)
    t.equal(await other.send(), '200 over TLS')
    t.equal(await first.send(), untrusted, 'the idle connection is not reused')
    await idle
    matchStrictly(t, messages(), [
      {
        level: 30,
        key: 'ca_file',
        file,
        certificates: 1,
        msg: 'ca_file of instance oci has changed: new connections trust its certificates'
      },
      { level: 30 }
    ], 'once for each of the two instances')
    await writeFile(file, `# both of them\n${ca}\nCommentaire \u00e9\n${pem('other-ca.pem')}`)
    t.strictSame([await first.send(), await other.send(), await other.stream()], [
      '200 over TLS',
      '200 over TLS',
      'over TLS'
    ])
  })

  await t.test('a file that cannot be used is logged once per change, and the earlier authorities ' +
    'remain', async t => {
    const { file, messages, first } = await setUp(t, ca)
    const bad: Array<[what: string, content: string | Buffer, problem: string]> = [
      ['nothing', '', 'expected PEM certificates, but the file has none'],
      ['comments alone', '# nothing here\n', 'expected PEM certificates, but the file has none'],
      ['a key', pem('server.key'), 'expected PEM certificates, but the file has none'],
      ['half a certificate', ca.slice(0, ca.length / 2), 'expected whole PEM certificates, but one has no end'],
      [
        'half a certificate after a complete certificate',
        `${ca}${pem('other-ca.pem').slice(0, 200)}`,
        'expected whole PEM certificates, but one has no end'
      ],
      [
        'a certificate with invalid bytes after a complete certificate',
        `${ca}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`,
        'certificate 2 of 2 cannot be read'
      ],
      ['UTF-16', Buffer.from(`\uFEFF${ca}`, 'utf16le'), 'expected UTF-8, but the file is UTF-16'],
      ['a certificate in DER', new X509Certificate(ca).raw, 'expected']
    ]
    for (const [what, content, problem] of bad) {
      await writeFile(file, content)
      for (let time = 0; time < 2; time++) t.equal(await first.send(), '200 over TLS', what)
      const logged = messages()
      matchStrictly(t, logged, [{
        level: 50,
        key: 'ca_file',
        file,
        msg: new RegExp(
          `^ca_file of instance oci cannot be used: ${problem}.*; the certificates that were read before stay in use$`
        )
      }], what)
      t.equal(logged.length, 1, `${what}: once`)
    }
    await rm(file)
    for (let time = 0; time < 2; time++) t.equal(await first.send(), '200 over TLS')
    matchStrictly(t, messages().map(({ msg }) => msg), [/no such file or directory/])
    await writeFile(file, `\uFEFF${ca.replaceAll('\n', '\r\n')}`)
    t.equal(await first.send(), '200 over TLS')
    t.equal(messages().length, 1, 'the file can be used again')
  })

  await t.test('a download in progress finishes on its connection, which is closed afterwards', async t => {
    const { file, first, other, servers } = await setUp(t, ca)
    const { resume, text } = await first.slow(servers.first)
    await writeFile(file, pem('other-ca.pem'))
    t.equal(await first.send(), untrusted)
    t.equal(await other.send(), '200 over TLS')
    const closed = servers.first.closed()
    resume()
    t.equal(await text, 'half and half')
    await closed
  })

  await t.test('a file without a certificate at the start is a config_error', async t => {
    const file = join(t.testdir({ 'ca.pem': '# nothing\n' }), 'ca.pem')
    t.throws(() => upstream(t, 'https://127.0.0.1:1', {}, { caFile: file }), {
      code: 'config_error',
      message: 'ca_file of instance oci cannot be used'
    })
  })
})
