import dns from 'node:dns'
import { once } from 'node:events'
import { connect as netConnect } from 'node:net'
import { text } from 'node:stream/consumers'
import { setImmediate as turn } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import registry, { serverOptions } from '../../app.ts'
import { unknownRoutes } from '../../plugins/errors.ts'
import { whole } from '../fakes/app.ts'
import { matchStrictly } from '../fakes/match.ts'

// A busy machine delays the event loop.
const config = { oci: { registry: 'examples/registry' }, server: { max_event_loop_delay_seconds: 0 } }

/** Starts a server; returns its log lines and a function that sends raw bytes. */
async function start (t: Test, register: (app: FastifyInstance) => Promise<unknown>) {
  const lines: Array<{ msg: string, status?: number, reqId?: string, method?: string, url?: string }> = []
  const app = Fastify({
    ...serverOptions(config),
    logger: {
      level: 'info',
      stream: {
        write: line => {
          lines.push(JSON.parse(line) as typeof lines[number])
        }
      }
    }
  })
  t.teardown(async () => {
    await app.close()
  })
  await register(app)
  const port = Number(new URL(await app.listen({ host: '127.0.0.1', port: 0 })).port)
  const send = async (bytes: string): Promise<string> => {
    const client = netConnect(port, '127.0.0.1')
    client.setTimeout(5000, () => { client.destroy(new Error('the connection stays open')) })
    client.write(bytes)
    return await text(client)
  }
  return { app, lines, send, port }
}

const alone = async (app: FastifyInstance) => {
  await app.register(whole, { config })
  await app.register(unknownRoutes)
}
const embedded = async (app: FastifyInstance) => await app.register(registry, { prefix: '/registry', config })

/** Checks a refused request: its status, its body, and that the connection is closed afterwards. */
function checkRefusal (
  t: Test,
  response: string,
  status: number,
  body: { error: string, message: string },
  where: string,
  method = 'GET'
): void {
  const [head = '', payload = ''] = response.split('\r\n\r\n')
  t.match(head, new RegExp(`^HTTP/1\\.1 ${status} \\w`), where)
  if (method === 'HEAD') t.equal(payload, '', where)
  else t.strictSame(payload === '' ? undefined : JSON.parse(payload), body, where)
  for (
    const header of [
      'content-type: application/json; charset=utf-8',
      'cache-control: no-store',
      'x-content-type-options: nosniff',
      'referrer-policy: no-referrer',
      'connection: close'
    ]
  ) {
    t.match(head.toLowerCase(), header, `${where}: ${header}`)
  }
  for (
    const header of [
      /^x-request-id: [\w-]+\r?$/im,
      /^date: \w{3}, \d\d /im,
      /^content-security-policy: default-src 'none'/im,
      /^content-length: [1-9]/im
    ]
  ) t.match(head, header, where)
}

for (const [what, register, path] of [['alone', alone, '/livez'], ['embedded', embedded, '/registry/livez']] as const) {
  await t.test(`a request without a valid Host header is refused with 400 in the envelope; ${what}`, async t => {
    const { send, lines } = await start(t, register)
    const cases: Array<[headers: string, message: string]> = [
      ['', 'Missing Host header'],
      ['X-Host: a\r\n', 'Missing Host header'],
      ['Host: a\r\nHost: a\r\n', 'More than one Host header'],
      ['Host: a\r\nhOST: b\r\n', 'More than one Host header'],
      ['Host: a b\r\n', 'Invalid Host header'],
      ['Host: user@a\r\n', 'Invalid Host header'],
      ['Host: http://a/\r\n', 'Invalid Host header']
    ]
    for (const [headers, message] of cases) {
      for (const method of ['GET', 'HEAD', 'POST', 'OPTIONS']) {
        checkRefusal(
          t,
          await send(`${method} ${path} HTTP/1.1\r\n${headers}\r\n`),
          400,
          { error: 'invalid_request', message },
          `${method} ${headers}`,
          method
        )
      }
    }
    matchStrictly(t, lines.findLast(({ msg }) => msg === 'request'), {
      msg: 'request',
      status: 400,
      method: 'OPTIONS',
      url: path,
      reqId: /^[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-z]+$/
    })
    checkRefusal(t, await send(`POST ${path} HTTP/1.1\r\nContent-Length: 100000\r\n\r\n${'x'.repeat(100_000)}`), 400, {
      error: 'invalid_request',
      message: 'Missing Host header'
    }, 'with a body')
    checkRefusal(t, await send(`GET ${path} HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n`), 400, {
      error: 'invalid_request',
      message: 'More than one Host header'
    }, 'HTTP/1.0')
  })

  await t.test(`HTTP/1.0 without Host, an empty Host and any other valid Host get a response; ${what}`, async t => {
    const { send } = await start(t, register)
    t.match(await send(`GET ${path} HTTP/1.0\r\n\r\n`), /^HTTP\/1\.1 200 /)
    for (
      const host of ['', 'localhost', 'LOCALHOST:8082', '[::1]:80', '127.0.0.1', 'a_b.example', 'registry.example.com.']
    ) {
      t.match(
        await send(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`),
        /^HTTP\/1\.1 200 /,
        host
      )
    }
  })

  await t.test(`an unknown Expect is refused with 417, and 100-continue is accepted; ${what}`, async t => {
    const { send, lines } = await start(t, register)
    const refused = { error: 'invalid_request', message: 'Unknown expectation: only 100-continue is supported' }
    for (const expect of ['x', '200-ok', 'x=y; z']) {
      for (const method of ['GET', 'HEAD', 'POST']) {
        checkRefusal(
          t,
          await send(`${method} ${path} HTTP/1.1\r\nHost: a\r\nExpect: ${expect}\r\n\r\n`),
          417,
          refused,
          `${method} ${expect}`,
          method
        )
      }
    }
    checkRefusal(
      t,
      await send(
        `POST ${path} HTTP/1.1\r\nHost: a\r\nExpect: x\r\nX-Request-Id: mine\r\nContent-Length: 100000\r\n\r\n${
          'x'.repeat(100_000)
        }`
      ),
      417,
      refused,
      'with a body'
    )
    matchStrictly(t, lines.findLast(({ msg }) => msg === 'request'), {
      msg: 'request',
      status: 417,
      reqId: 'mine',
      method: 'POST',
      url: path
    })
    t.match(
      await send(`GET ${path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n`),
      /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 /
    )
    t.match(
      await send(
        `POST ${path} HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}`
      ),
      /HTTP\/1\.1 405 [^]*method_not_allowed/
    )
  })

  await t.test('headers that are too large are refused with 431, and bytes that are not HTTP with 400; ' +
    what, async t => {
    const { send, lines } = await start(t, register)
    checkRefusal(t, await send(`GET ${path} HTTP/1.1\r\nHost: a\r\nX-Long: ${'x'.repeat(20_000)}\r\n\r\n`), 431, {
      error: 'invalid_request',
      message: 'Request headers are too large'
    }, 'one header')
    matchStrictly(t, lines.findLast(({ msg }) => msg === 'request'), { msg: 'request', status: 431, reqId: String })
    checkRefusal(
      t,
      await send(`GET ${path} HTTP/1.1\r\nHost: a\r\n${'X-Many: 1234567890\r\n'.repeat(1000)}\r\n`),
      431,
      { error: 'invalid_request', message: 'Request headers are too large' },
      'many headers'
    )
    checkRefusal(t, await send(`GET ${path}?${'x'.repeat(20_000)} HTTP/1.1\r\nHost: a\r\n\r\n`), 431, {
      error: 'invalid_request',
      message: 'Request headers are too large'
    }, 'a long target')
    for (
      const bytes of [
        'nonsense\r\n\r\n',
        'GET / HTTP/3.7\r\n\r\n',
        '\x16\x03\x01\x02\0\x01\0\r\n\r\n',
        `GET ${path} HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n`
      ]
    ) {
      checkRefusal(
        t,
        await send(bytes),
        400,
        { error: 'invalid_request', message: 'Malformed request' },
        JSON.stringify(bytes)
      )
    }
  })

  await t.test('CONNECT is refused in the envelope, and a request for an upgrade gets the ordinary response; ' +
    what, async t => {
    const { send, lines, app } = await start(t, register)
    for (const target of ['example.com:443', path, '*']) {
      const response = await send(`CONNECT ${target} HTTP/1.1\r\nHost: example.com:443\r\n\r\n`)
      checkRefusal(t, response, 405, {
        error: 'method_not_allowed',
        message: 'Method CONNECT is not allowed: use GET or HEAD'
      }, target)
      t.match(response, /^allow: GET, HEAD\r$/im)
    }
    matchStrictly(t, lines.findLast(({ msg }) => msg === 'request'), {
      msg: 'request',
      status: 405,
      method: 'CONNECT',
      url: '*'
    })
    for (const protocol of ['websocket', 'h2c', 'TLS/1.0']) {
      t.match(
        await send(`GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: ${protocol}\r\n\r\n`),
        /^HTTP\/1\.1 200 [^]*"ok"/,
        protocol
      )
    }
    app.server.on('connect', (_request, socket) => {
      socket.end('tunnel')
    })
    t.equal(
      await send('CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n'),
      'tunnel',
      'a connect listener of the host takes precedence'
    )
  })
}

await t.test('a refusal without a request has the CORS headers of the registry', async t => {
  const { send } = await start(t, alone)
  for (
    const bytes of [
      `GET /livez HTTP/1.1\r\nHost: a\r\nX-Long: ${'x'.repeat(20_000)}\r\n\r\n`,
      'nonsense\r\n\r\n',
      'GET /%zz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'
    ]
  ) {
    t.match(await send(bytes), /^access-control-allow-origin: \*\r$/im, bytes.slice(0, 20))
  }
})

await t.test('CONNECT after a request whose response is in progress neither writes into it nor replaces ' +
  'it', async t => {
  const { send } = await start(t, async app => {
    app.get('/begun', (request, reply) => {
      reply.hijack()
      reply.raw.writeHead(200, { 'content-length': 1000 })
      reply.raw.write('x'.repeat(10))
      request.raw.socket.once('close', () => { reply.raw.destroy() })
    })
    app.get('/waits', (request, reply) => {
      reply.hijack()
      request.raw.socket.once('close', () => { reply.raw.destroy() })
    })
  })
  const connect = 'CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n'
  for (const path of ['/begun', '/waits']) {
    const response = await send(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n${connect}`).catch((error: unknown) =>
      String(error)
    )
    t.notMatch(response, /405|method_not_allowed/, path)
  }
  const { port } = await start(t, async app => { app.get('/ended', async () => 'ended') })
  const client = netConnect(port, '127.0.0.1')
  client.write('GET /ended HTTP/1.1\r\nHost: a\r\n\r\n')
  await once(client, 'readable')
  client.write(connect)
  t.match(
    await text(client),
    /^HTTP\/1\.1 200 [^]*ended(?=HTTP\/1\.1 405 )/,
    'after a complete response CONNECT gets its own response'
  )
})

await t.test('malformed bytes after a request whose response has begun do not write into that response', async t => {
  const { send } = await start(t, async app => {
    app.get('/slow', (request, reply) => {
      reply.hijack()
      reply.raw.writeHead(200, { 'content-length': 100 })
      reply.raw.write('x'.repeat(10))
      request.raw.socket.once('close', () => { reply.raw.destroy() })
    })
  })
  const response = await send('GET /slow HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n').catch((error: unknown) =>
    String(error)
  )
  t.notMatch(response, 'Malformed request')
})

await t.test('a server on localhost listens on each address of that name, with the same responses', async t => {
  const addresses = ['127.0.0.1', '127.0.0.2']
  const { lookup } = dns
  const fake = (host: string, options: { all?: boolean }, done: (error: null, found: unknown) => void) => {
    if (host === 'localhost' && options.all === true) done(null, addresses.map(address => ({ address, family: 4 })))
    else lookup(host, options, done as never)
  }
  t.teardown(t.intercept(dns, 'lookup', { value: fake, configurable: true, writable: true }).restore)
  const app = Fastify({ ...serverOptions(config), logger: false })
  app.get('/slow', async () => 'slow')
  const { port } = new URL(await app.listen({ host: 'localhost', port: 0 }))
  const send = async (address: string, bytes: string): Promise<string> => {
    const client = netConnect(Number(port), address)
    client.write(bytes)
    return await text(client)
  }
  for (const address of addresses) {
    for (let left = 100; left > 0; left--) {
      const isUp = await send(address, 'GET /slow HTTP/1.0\r\n\r\n').then(() => true, () => false)
      if (isUp) break
      await turn()
    }
    t.match(
      await send(address, 'GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'),
      /^HTTP\/1\.1 200 [^]*slow$/,
      address
    )
    checkRefusal(t, await send(address, 'GET /slow HTTP/1.1\r\n\r\n'), 400, {
      error: 'invalid_request',
      message: 'Missing Host header'
    }, address)
    checkRefusal(t, await send(address, 'nonsense\r\n\r\n'), 400, {
      error: 'invalid_request',
      message: 'Malformed request'
    }, address)
  }
  await app.close()
  for (const address of addresses) {
    await t.rejects(send(address, 'GET /slow HTTP/1.1\r\nHost: a\r\n\r\n'), { code: 'ECONNREFUSED' }, address)
  }
})

await t.test('an http2 server with serverFactory is refused', async t => {
  t.throws(() => Fastify({ ...serverOptions(), http2: true } as never), /set serverFactory to undefined/)
})
