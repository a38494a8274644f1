import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdir, rename, symlink, writeFile } from 'node:fs/promises'
import { connect, type AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import { createServer } from 'node:tls'
import t, { type Test } from 'tap'
import { startApp } from '../../fakes/app.ts'
import { createGiteaFake, provisioningContent } from '../../fakes/gitea.ts'
import { createLoopback } from '../../fakes/loopback.ts'
import { matchStrictly } from '../../fakes/match.ts'
import { run, start } from '../../fakes/process.ts'
import { createProxy } from '../../fakes/proxy.ts'

const pem = (name: string) => readFileSync(resolve(import.meta.dirname, '../../fixtures/tls', name))
const token = 'canary-token'

async function giteaFake (t: Test) {
  const gitea = await createGiteaFake(provisioningContent(), {
    tokens: { [token]: { scopes: ['all'] } },
    requireSignin: true
  })
  t.teardown(gitea.close)
  const env = {
    REGISTRY_GITEA_URL: gitea.url,
    REGISTRY_GITEA_ORGANIZATION: 'provisioning',
    REGISTRY_GITEA_TOKEN: token
  }
  return { gitea, env }
}

await t.test('requests to an upstream in a NO_PROXY network, and their token, bypass the proxy', async t => {
  const { gitea, env } = await giteaFake(t)
  const proxy = await createProxy(t, gitea.port)
  const folder = t.testdir({ layouts: {} })
  const read = async (more: Record<string, string>) => {
    const server = await start(t, {
      ...env,
      REGISTRY_OCI_REGISTRY: join(folder, 'layouts'),
      HTTP_PROXY: proxy.url,
      ...more
    })
    t.equal((await server.get('/api/v1/extensions/taskserv/kubernetes')).status, 200)
    const download = await server.get('/api/v1/extensions/taskserv/kubernetes/1.28.0')
    t.equal(download.status, 200)
    await download.arrayBuffer()
    server.kill('SIGTERM')
    return (await server.end).stdout
  }
  const lines = await read({ NO_PROXY: '10.0.0.0/8;127.0.0.0/8 fd00::/8,<local>,192.168.' })
  t.strictSame(proxy.requested, [])
  t.equal(gitea.requests.every(({ headers }) => headers.authorization === `token ${token}`), true)
  const warnings = lines.filter(line => line.includes('NO_PROXY')).map(line => JSON.parse(line) as unknown)
  matchStrictly(t, warnings, [{
    level: 40,
    variable: 'NO_PROXY',
    entries: ['<local>', '192.168.'],
    msg: 'NO_PROXY has entries that are not a host, an address or a network: they are ignored'
  }])
  t.equal(warnings.length, 1)
  await read({ NO_PROXY: '10.0.0.0/8' })
  t.ok(proxy.requested.length > 0, 'the proxy is used if NO_PROXY does not contain the network')
})

await t.test('a malformed proxy variable fails the start and --check-config with its name, if an upstream could use ' +
  'the proxy', async t => {
  const env = { REGISTRY_GITEA_URL: 'http://127.0.0.1:9', REGISTRY_GITEA_ORGANIZATION: 'infra' }
  const problem =
    'expected a network such as 10.0.0.0/8 or fd00::/8, or a host with a port from 1 to 65535 (in the environment)\n'
  const proxied = { ...env, HTTPS_PROXY: 'http://127.0.0.1:9' }
  t.strictSame(await run(t, { env: { ...proxied, NO_PROXY: 'a.test,10.0.0.0/33' } }).end, {
    code: 78,
    stdout: [],
    stderr: `NO_PROXY: entry 2: ${problem}`
  })
  t.strictSame(await run(t, { args: ['--check-config'], env: { ...proxied, no_proxy: 'host:99999' } }).end, {
    code: 78,
    stdout: [],
    stderr: `no_proxy: entry 1: ${problem}`
  })
  t.strictSame(
    await run(t, { args: ['--check-config'], env: { ...env, HTTPS_PROXY: 'socks5://user:canary@x.test' } }).end,
    {
      code: 78,
      stdout: [],
      stderr: 'HTTPS_PROXY: expected an http:// or https:// address of a proxy (in the environment)\n'
    }
  )
  matchStrictly(t, await run(t, { args: ['--check-config'], env: { ...env, NO_PROXY: '10.0.0.0/33' } }).end, {
    code: 0,
    stdout: ['OK']
  }, 'without a proxy')
  matchStrictly(
    t,
    await run(t, {
      args: ['--check-config'],
      env: { HTTPS_PROXY: 'http://127.0.0.1:9', NO_PROXY: '10.0.0.0/33', REGISTRY_OCI_REGISTRY: t.testdir({}) }
    }).end,
    { code: 0, stdout: ['OK'] },
    'without an upstream'
  )
})

await t.test('a replaced ca_file is trusted without a restart, and an invalid one leaves the previous certificates ' +
  'in use', async t => {
  const { gitea, env } = await giteaFake(t)
  const front = createServer({ key: pem('server.key'), cert: pem('server.pem') }, socket => {
    const inner = connect(gitea.port, '127.0.0.1')
    socket.pipe(inner).pipe(socket)
    for (const end of [socket, inner]) end.on('error', () => { socket.destroy(); inner.destroy() })
    socket.once('close', () => { inner.destroy() })
    inner.once('close', () => { socket.destroy() })
  })
  front.listen(0, '127.0.0.1')
  await once(front, 'listening')
  t.teardown(() => { front.close() })

  const folder = t.testdir({ layouts: {}, ca: {} })
  const directory = join(folder, 'ca')
  let generation = 0
  // Kubernetes updates a mounted ConfigMap in this way: it replaces a link to a folder.
  const put = async (content: string | Buffer) => {
    const name = `..${generation++}`
    await mkdir(join(directory, name))
    await writeFile(join(directory, name, 'ca.pem'), content)
    await symlink(name, join(directory, '..data_tmp'))
    await rename(join(directory, '..data_tmp'), join(directory, '..data'))
  }
  await put(pem('ca.pem'))
  await symlink('..data/ca.pem', join(directory, 'ca.pem'))
  const file = join(directory, 'ca.pem')
  const server = await start(t, {
    ...env,
    REGISTRY_GITEA_URL: `https://127.0.0.1:${(front.address() as AddressInfo).port}`,
    REGISTRY_GITEA_CA_FILE: file,
    REGISTRY_OCI_REGISTRY: join(folder, 'layouts'),
    REGISTRY_STORE_ENABLED: 'false'
  })
  const download = async (version: string) => {
    const { status, arrayBuffer } = await server.get(`/api/v1/extensions/taskserv/kubernetes/${version}`).then(
      response => ({ status: response.status, arrayBuffer: response.arrayBuffer() })
    )
    await arrayBuffer
    return status
  }
  t.equal(await download('1.28.0'), 200)

  await put('# no certificate\n')
  t.equal(await download('1.28.0'), 200)
  await server.line(
    new RegExp(
      `"level":50,.*"backend":"gitea","key":"ca_file","file":"${file}".*"msg":"ca_file of instance gitea cannot be ` +
        'used: expected PEM certificates, but the file has none; the certificates that were read before stay in use"'
    )
  )

  front.setSecureContext({ key: pem('other-server.key'), cert: pem('other-server.pem') })
  await put(pem('other-ca.pem'))
  t.equal(await download('1.28.0'), 200)
  await server.line(
    /"level":30,.*"msg":"ca_file of instance gitea has changed: new connections trust its certificates"/
  )
  server.kill('SIGTERM')
  const { code, stdout } = await server.end
  t.equal(code, 0)
  t.equal(stdout.filter(line => line.includes('"key":"ca_file"')).length, 2, 'one line per change')
  matchStrictly(
    t,
    await run(t, {
      args: ['--check-config'],
      env: { ...env, REGISTRY_GITEA_CA_FILE: join(directory, '..1', 'ca.pem') }
    }).end,
    {
      code: 78,
      stderr: `gitea[0].ca_file: file ${
        join(directory, '..1', 'ca.pem')
      }: expected PEM certificates, but the file has none (in REGISTRY_GITEA_CA_FILE)\n`
    }
  )
})

await t.test('an upstream that redirects http to https of the same host is unhealthy; the error names the key to ' +
  'change', async t => {
  const server = await createLoopback(({ headers, path }) => ({
    status: 301,
    headers: { location: `https://${(headers.host ?? '').split(':')[0]}${path}` },
    body: ''
  }))
  t.teardown(server.close)
  for (
    const [config, key] of [[{ gitea: { url: server.url, organization: 'infra' } }, 'gitea.url'], [{
      oci: { registry: server.url }
    }, 'oci.registry']] as const
  ) {
    const { app, get } = await startApp(t, config)
    await app.health.firstRound
    const advice = `Redirect from http to https: set ${key} to the https address`
    matchStrictly(t, (await get('/health')).json(), {
      status: 'degraded',
      backends: { [key.split('.')[0] ?? '']: { healthy: false, error: advice } }
    })
    matchStrictly(t, (await get('/api/v1/extensions')).json(), { error: 'service_unavailable', details: advice })
    t.notMatch((await get('/api/v1/extensions')).body, '127.0.0.1')
  }
})
