import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { Agent, createServer, get, type IncomingMessage } from 'node:http'
import { connect, createServer as createListener, type AddressInfo, type Server } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { createSearch } from '../../fakes/canary.ts'
import { createGiteaFake, provisioningContent } from '../../fakes/gitea.ts'
import { writeLayout } from '../../fakes/layout.ts'
import { createLoopback } from '../../fakes/loopback.ts'
import { matchStrictly } from '../../fakes/match.ts'
import { run, start } from '../../fakes/process.ts'

const root = resolve(import.meta.dirname, '../../..')

/** Listens on a free port of the loopback interface until the end of the test; returns the port. */
async function listen (t: Test, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  return (server.address() as AddressInfo).port
}

async function refused (port: number): Promise<void> {
  const socket = connect(port, '127.0.0.1')
  const error = await once(socket, 'connect').then(() => undefined, (error: NodeJS.ErrnoException) => error)
  socket.destroy()
  if (error?.code !== 'ECONNREFUSED') await refused(port)
}

await t.test('--help prints the options and exit codes', async t => {
  const { code, stdout, stderr } = await run(t, { args: ['--help'] }).end
  t.equal(code, 0)
  for (const word of ['--config', '--check-config', '--version', '--help', '64', '78']) t.match(stdout.join('\n'), word)
  t.equal(stderr, '')
})

await t.test('--version prints the version of the package', async t => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  matchStrictly(t, await run(t, { args: ['--version'] }).end, { code: 0, stdout: [version], stderr: '' })
})

await t.test('compiled code is stored in the cache directory of the user; without a writable directory the program ' +
  'starts', async t => {
  const home = t.testdir({ file: 'no folder', empty: {} })
  for (let time = 0; time < 2; time++) {
    matchStrictly(t, await run(t, { args: ['--version'], env: { XDG_CACHE_HOME: home, NODE_COMPILE_CACHE: '' } }).end, {
      code: 0,
      stderr: ''
    })
  }
  t.equal(readdirSync(join(home, 'extension-registry/compiled')).length, 1, 'one directory for this version of Node.js')
  const notKept = { XDG_CACHE_HOME: join(home, 'file'), NODE_COMPILE_CACHE: '' }
  matchStrictly(t, await run(t, { args: ['--version'], env: notKept }).end, { code: 0, stderr: '' })
  const empty = join(home, 'empty')
  matchStrictly(t, await run(t, { args: ['--version'], cwd: empty, env: { HOME: '', NODE_COMPILE_CACHE: '' } }).end, {
    code: 0,
    stderr: ''
  })
  t.strictSame(readdirSync(empty), [], 'nothing is written to the working directory if the home is unknown')
})

await t.test('an unknown option fails with one line and exit code 64', async t => {
  t.strictSame(await run(t, { args: ['--nonsense'] }).end, {
    code: 64,
    stdout: [],
    stderr: "Unknown option '--nonsense'; see --help\n"
  })
  t.strictSame(await run(t, { args: ['config.toml'] }).end, {
    code: 64,
    stdout: [],
    stderr: "Unexpected argument 'config.toml'; see --help\n"
  })
})

await t.test('--check-config exits with 0 for a valid configuration, with 78 and one line for an invalid ' +
  'one', async t => {
  const dir = t.testdir({
    'good.toml': '[oci]\nregistry = "layouts"\n',
    'bad.toml': '[oci]\nregistry = "layouts"\nnamespaces = "a"\n'
  })
  t.strictSame(await run(t, { args: ['--check-config', '--config', join(dir, 'good.toml')] }).end, {
    code: 0,
    stdout: ['OK'],
    stderr: ''
  })
  t.strictSame(await run(t, { args: ['--check-config'], env: { REGISTRY_CONFIG: join(dir, 'bad.toml') } }).end, {
    code: 78,
    stdout: [],
    stderr:
      'oci[0].namespaces: unknown key, expected one of name, registry, namespace, discovery, repositories, ' +
      'reconcile_seconds, crawl_repositories, platform, token, token_file, username, password_file, docker_config, ' +
      'public_url, download_urls, timeout_seconds, verify_ssl, ca_file, redirect_hosts, auth_hosts, concurrency, ' +
      'queue, priority, mapping ' +
      `(in ${join(dir, 'bad.toml')})\n`
  })
})

await t.test('the first log line without configuration reports that the embedded examples are served', async t => {
  const server = run(t)
  await server.line(/Server listening/)
  server.kill('SIGTERM')
  const { code, stdout } = await server.end
  t.equal(code, 0)
  t.match(stdout[0], '"msg":"no backend is configured by file or environment: serving the embedded examples"')
})

await t.test('routes respond as soon as the server listens, unknown routes with the common error body', async t => {
  const { get, kill, end } = await start(t)
  t.equal((await get('/livez')).status, 200)
  const unknown = await get('/nothing')
  t.equal(unknown.status, 404)
  t.strictSame(await unknown.json(), { error: 'not_found', message: 'Route GET /nothing not found' })
  kill('SIGINT')
  const { code, stdout } = await end
  t.equal(code, 0)
  t.notMatch(stdout.join('\n'), 'embedded examples')
})

await t.test('an unsupported method with a content type responds 405, with and without a body', async t => {
  const { port } = await start(t)
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
    for (const content of ['', 'Content-Length: 2\r\n', 'Content-Length: 0\r\n', 'Transfer-Encoding: chunked\r\n']) {
      const client = connect(port, '127.0.0.1')
      client.setTimeout(5000, () => {
        client.destroy()
      })
      client.write(
        `${method} /api/v1/extensions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: ` +
          `application/json\r\n${content}\r\n`
      )
      if (content.includes('2')) client.write('{}')
      if (content.includes('chunked')) client.write('2\r\n{}\r\n0\r\n\r\n')
      t.match(
        await text(client),
        new RegExp(
          `^HTTP/1.1 405 [^]*allow: GET, HEAD\\r\\n[^]*Method ${method} is not allowed for /api/v1/extensions`
        ),
        `${method} ${content}`
      )
    }
  }
})

const hasIpv6 = Object.values(networkInterfaces()).flat().some(address => address?.address === '::1')

await t.test('the server listens on an IPv6 address with or without brackets, and on IPv4 too for ::', {
  skip: !hasIpv6 && 'no IPv6 on this machine'
}, async t => {
  const env = { REGISTRY_OCI_REGISTRY: t.testdir({}) }
  for (
    const [host, at, requested] of [['[::]', '[::]', ['[::1]', '127.0.0.1']], ['::', '[::]', ['[::1]', '127.0.0.1']], [
      '[::1]',
      '[::1]',
      ['[::1]']
    ], ['localhost', '127.0.0.1', ['127.0.0.1']]] as const
  ) {
    matchStrictly(t, await run(t, { args: ['--check-config'], env: { ...env, REGISTRY_SERVER_HOST: host } }).end, {
      code: 0,
      stdout: ['OK'],
      stderr: ''
    }, host)
    const server = run(t, { env: { ...env, REGISTRY_SERVER_HOST: host } })
    const port =
      (await server.line(new RegExp(`"msg":"Server listening at http://${at.replaceAll(/[[\]]/g, '\\$&')}:(\\d+)"`)))[1]
    for (const name of requested) { t.equal((await fetch(`http://${name}:${port}/livez`)).status, 200, `${host} at ${name}`) }
    server.kill('SIGTERM')
    matchStrictly(t, await server.end, { code: 0 })
  }
})

await t.test('the server listens on 0.0.0.0 for :: if the machine has no IPv6', async t => {
  // A kernel without IPv6 rejects the socket; this module simulates the error.
  const refuse =
    'data:text/javascript,import net from "node:net"; const { listen } = net.Server.prototype; ' +
      'net.Server.prototype.listen = function (options, ...rest) { if (options.host !== "::") return ' +
      'listen.call(this, options, ...rest); process.nextTick(() => { this.emit("error", Object.assign(new ' +
      'Error("listen EAFNOSUPPORT"), { code: "EAFNOSUPPORT", errno: -97 })) }); return this }'
  const env = { REGISTRY_OCI_REGISTRY: t.testdir({}) }
  const server = run(t, { env: { ...env, REGISTRY_SERVER_HOST: '::' }, node: ['--import', refuse] })
  await server.line(/"level":40,.*"msg":"IPv6 is not available on this machine: listening on 0.0.0.0 instead"/)
  const port = (await server.line(/"msg":"Server listening at http:\/\/127\.0\.0\.1:(\d+)"/))[1]
  t.equal((await fetch(`http://127.0.0.1:${port}/livez`)).status, 200)
  server.kill('SIGTERM')
  matchStrictly(t, await server.end, { code: 0 })
})

await t.test('an occupied port fails the start with one line and exit code 1', async t => {
  const port = await listen(t, createListener())
  const { code, stderr } = await run(t, {
    env: { REGISTRY_OCI_REGISTRY: t.testdir({}), REGISTRY_SERVER_PORT: String(port) }
  }).end
  t.equal(code, 1)
  t.equal(stderr, `cannot listen on 127.0.0.1 port ${port}: address already in use\n`)
})

await t.test('SIGTERM ends readiness but not responses for shutdown_delay_seconds; a second signal ends the process ' +
  'at once', async t => {
  const { get, kill, line, end } = await start(t, { REGISTRY_SERVER_SHUTDOWN_DELAY_SECONDS: '300' })
  t.equal((await get('/readyz')).status, 200)
  kill('SIGTERM')
  await line(/"msg":"shutting down"/)
  t.equal((await get('/readyz')).status, 503)
  const alive = await get('/livez')
  t.equal(alive.status, 200)
  t.equal(alive.headers.get('connection'), 'close')
  kill('SIGTERM')
  matchStrictly(t, await end, { code: 1 })
})

await t.test('a request in progress completes after the server stops listening, and the process exits with ' +
  '0', async t => {
  const { port, kill, end } = await start(t)
  const socket = connect(port, '127.0.0.1').setEncoding('utf8')
  let received = ''
  socket.on('data', (text: string) => { received += text })
  // Both parts are sent together, so the first response confirms the receipt of half of the second request.
  socket.write('GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\n')
  await once(socket, 'data')
  t.match(received, /^HTTP\/1\.1 200 /)
  kill('SIGTERM')
  await refused(port)
  received = ''
  socket.write('\r\n')
  await once(socket, 'close')
  t.match(received, /^HTTP\/1\.1 200 .*connection: close/s)
  matchStrictly(t, await end, { code: 0 })
})

await t.test('shutdown waits for a download in progress, but not for its kept-alive connection', async t => {
  const size = 32 * 1024 * 1024
  const layouts = t.testdir({})
  await writeLayout(layouts, [{
    repository: 'provider/big',
    tag: '1.0.0',
    layers: [{ content: Buffer.alloc(size), title: 'big.tar.gz' }]
  }])
  const { port, kill, end } = await start(t, { REGISTRY_OCI_REGISTRY: layouts })
  const agent = new Agent({ keepAlive: true })
  t.teardown(() => { agent.destroy() })
  // The response is not read yet and exceeds the buffers, so it stays in progress.
  const [response] = await once(
    get({ port, host: '127.0.0.1', agent, path: '/api/v1/extensions/provider/big/1.0.0' }),
    'response'
  ) as [IncomingMessage]
  matchStrictly(t, response, { statusCode: 200, headers: { connection: 'keep-alive' } })
  kill('SIGTERM')
  await refused(port)
  const stopped = performance.now()
  let received = 0
  for await (const chunk of response) received += (chunk as Buffer).length
  t.equal(received, size)
  matchStrictly(t, await end, { code: 0 })
  t.ok(performance.now() - stopped < 20_000, 'well before the end of the grace period')
})

await t.test('shutdown does not wait for an open connection without a request', async t => {
  const { port, kill, end } = await start(t)
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  kill('SIGTERM')
  const signalled = performance.now()
  await once(socket.resume(), 'close')
  matchStrictly(t, await end, { code: 0 })
  t.ok(performance.now() - signalled < 20_000, 'well before the end of the grace period')
})

await t.test('with an upstream that does not respond', async t => {
  const silent = createServer()
  const env = {
    REGISTRY_GITEA_URL: `http://127.0.0.1:${await listen(t, silent)}`,
    REGISTRY_GITEA_ORGANIZATION: 'infra'
  }
  t.teardown(() => {
    silent.closeAllConnections()
  })

  await t.test('the server listens before the first health check of the upstream ends', async t => {
    const { get, kill, end } = await start(t, env)
    matchStrictly(t, await (await get('/health')).json(), {
      status: 'degraded',
      backends: { gitea: { healthy: false, error: 'Not checked yet' }, oci: { healthy: true } }
    })
    kill('SIGTERM')
    matchStrictly(t, await end, { code: 0 })
  })

  await t.test('SIGTERM before the server listens ends the process', async t => {
    const requested = once(silent, 'request')
    const { kill, end } = run(t, { env: { ...env, REGISTRY_SERVER_SHUTDOWN_DELAY_SECONDS: '300' } })
    await requested
    kill('SIGTERM')
    const { code, stdout } = await end
    t.equal(code, 0)
    t.notMatch(stdout.join('\n'), 'Server listening')
  })
})

await t.test('an uncaught error is logged without its additional properties, and the process exits with 1', async t => {
  const bomb =
    'data:text/javascript,process.stdin.once("data", () => { throw Object.assign(new Error("boom"), { options: { ' +
      'headers: { authorization: ["can", "ary"].join("") } } }) })'
  const { input, end } = await start(t, {}, ['--import', bomb])
  input('now\n')
  const { code, stdout } = await end
  t.equal(code, 1)
  t.match(stdout.at(-1), /"level":60,.*"message":"boom".*"msg":"unexpected error"/)
  t.notMatch(stdout.join('\n'), 'canary')
})

await t.test('secrets are not printed, for any response or failure of the upstreams', async t => {
  const secret = 'canary-process-token'
  const password = 'canary-process-password'
  const gitea = await createGiteaFake(provisioningContent(), {
    tokens: { [secret]: { scopes: ['all'] } },
    serveDirect: true
  })
  t.teardown(gitea.close)
  const oci = await createLoopback(() => ({
    status: 401,
    headers: { 'www-authenticate': 'Bearer realm="http://elsewhere.test/token?x=canary-signature",service="x"' },
    body: ''
  }))
  t.teardown(oci.close)
  const file = join(t.testdir({ password: `${password}\n` }), 'password')
  const server = await start(t, {
    REGISTRY_LOG_LEVEL: 'trace',
    REGISTRY_GITEA_URL: gitea.url,
    REGISTRY_GITEA_ORGANIZATION: 'provisioning',
    REGISTRY_GITEA_TOKEN: secret,
    REGISTRY_GITEA_TIMEOUT_SECONDS: '0.3',
    REGISTRY_GITEA_REDIRECT_HOSTS: new URL(gitea.storage?.url ?? '').host,
    REGISTRY_OCI_REGISTRY: oci.url,
    REGISTRY_OCI_USERNAME: 'robot',
    REGISTRY_OCI_PASSWORD_FILE: file,
    HTTPS_PROXY: 'http://proxy-user:canary-process-proxy@127.0.0.1:1'
  })
  const download = '/api/v1/extensions/taskserv/kubernetes/1.28.0'
  for (
    const path of ['/api/v1/extensions', download, '/api/v1/extensions?source=oci', '/health', '/metrics']
  ) { await (await server.get(path)).arrayBuffer() }
  for (
    const fault of ['refuse-reset', 'hang', 'truncate', { status: 500, body: '' }, {
      status: 302,
      headers: { location: 'http://x.test/?X-Amz-Signature=0' },
      body: ''
    }] as const
  ) {
    if (gitea.storage !== undefined) gitea.storage.fault = () => fault
    await (await server.get(download)).arrayBuffer().catch(() => {})
  }
  t.ok(gitea.requests.some(({ headers }) => headers.authorization === `token ${secret}`), 'the secret was used')
  server.kill('SIGTERM')
  const { code, stdout, stderr } = await server.end
  t.equal(code, 0)
  t.ok(stdout.length > 10, 'there are log lines')
  const found = createSearch([
    secret,
    password,
    `robot:${password}`,
    'canary-process-proxy',
    'canary-signature',
    'X-Amz-Signature'
  ])
  t.strictSame([...stdout, stderr].filter(found), [])
  for (const args of [['--check-config'], []]) {
    const refused = await run(t, {
      args,
      env: {
        REGISTRY_GITEA_URL: gitea.url,
        REGISTRY_GITEA_ORGANIZATION: 'provisioning',
        REGISTRY_GITEA_TOKEN: `${secret} with a blank`,
        REGISTRY_OCI_REGISTRY: `http://robot:${password}@x.test`
      }
    }).end
    t.equal(refused.code, 78)
    t.notOk(found(`${refused.stdout.join('')}${refused.stderr}`))
  }
})
