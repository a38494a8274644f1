import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import Fastify from 'fastify'
import fp from 'fastify-plugin'
import t, { type Test } from 'tap'
import registry, { serverOptions } from '../../../app.ts'
import { parseConfig } from '../../../lib/config/parse.ts'
import { notFoundHandler } from '../../../plugins/errors.ts'
import type { Extension } from '../../../schemas/extension.ts'
import { startApp } from '../../fakes/app.ts'
import { artifacts } from '../../fakes/artifacts.ts'
import { createGiteaFake, provisioningContent } from '../../fakes/gitea.ts'
import { writeLayout } from '../../fakes/layout.ts'
import { createLoopback } from '../../fakes/loopback.ts'
import { hasLine, matchStrictly } from '../../fakes/match.ts'
import { contentOf, createRegistryFake, type RegistryFakeOptions } from '../../fakes/registry.ts'

async function fakeRegistry (t: Test, options: RegistryFakeOptions = {}, files: Record<string, string> = {}) {
  const folder = t.testdir(files)
  const root = join(folder, 'layouts')
  await writeLayout(
    root,
    artifacts.map(artifact => ({ ...artifact, repository: `provisioning/${artifact.repository}` }))
  )
  const fake = await createRegistryFake(await contentOf(root), options)
  t.teardown(fake.close)
  return { fake, folder }
}
const names = (extensions: Extension[]) =>
  extensions.map(({ type, name, version, source }) => `${source} ${type}/${name} ${version}`)

await t.test('a registry becomes a catalog; a second crawl requests only tags and their digests', async t => {
  const { fake } = await fakeRegistry(t)
  const { get, clock } = await startApp(t, {
    server: { public_url: 'https://registry.example.com' },
    oci: { registry: fake.url, namespace: 'provisioning', reconcile_seconds: 0 }
  })
  const list = await get('/api/v1/extensions')
  matchStrictly(t, [list.statusCode, list.headers['x-partial']], [200, undefined])
  t.strictSame(names(list.json<Extension[]>()), [
    'oci provider/aws 1.2.0',
    'oci provider/onlyrc 0.1.0-alpha.10',
    'oci taskserv/k3s 1.27.5+k3s1',
    'oci taskserv/kubernetes 1.28.0',
    'oci cluster/web 0.9.0'
  ])
  matchStrictly(t, list.json<Extension[]>()[0], {
    download_url: 'https://registry.example.com/api/v1/extensions/provider/aws/1.2.0',
    checksum: /^sha256:/
  })
  const file = await get('/api/v1/extensions/provider/aws/1.2.0')
  matchStrictly(t, [file.statusCode, file.body, file.headers['content-disposition']], [
    200,
    'provider/aws 1.2.0',
    /aws_prov\.tar\.gz/
  ])
  fake.requests.length = 0
  clock.forward(301)
  await get('/api/v1/extensions')
  await turn()
  t.equal(fake.requests.filter(({ method, path }) => method === 'GET' && path.includes('/manifests/')).length, 0)
  t.equal(fake.requests.filter(({ method }) => method === 'HEAD').length, 5)
})

await t.test('addresses of the registry itself use its public URL', async t => {
  const { fake } = await fakeRegistry(t)
  const { get } = await startApp(t, {
    oci: {
      registry: fake.url,
      namespace: 'provisioning',
      public_url: 'https://oci.example.com/',
      download_urls: 'upstream'
    }
  })
  const { download_url: url, checksum } = (await get('/api/v1/extensions/provider/aws')).json<Extension>()
  t.equal(url, `https://oci.example.com/v2/provisioning/provider/aws/blobs/${checksum ?? ''}`)
})

await t.test('a registry that does not list its repositories is healthy; lists are partial, and names are ' +
  'found', async t => {
  const { fake } = await fakeRegistry(t, { catalogRefused: true })
  const { get } = await startApp(t, {
    oci: { registry: fake.url, namespace: 'provisioning', repositories: ['taskserv/k3s'] }
  }, { probeInterval: 20 })
  const list = await get('/api/v1/extensions')
  matchStrictly(t, [list.statusCode, list.headers['x-partial'], names(list.json<Extension[]>())], [200, 'oci', [
    'oci taskserv/k3s 1.27.5+k3s1'
  ]])
  matchStrictly(t, (await get('/api/v1/extensions/provider/aws')).json(), { version: '1.2.0' })
  t.equal((await get('/api/v1/extensions/provider/aws/versions')).json<unknown[]>().length, 4)
  t.equal((await get('/api/v1/extensions/taskserv/kubernetes/1.27.4')).statusCode, 200)
  t.equal((await get('/api/v1/extensions/provider/nowhere')).statusCode, 404)
  for (;;) {
    const { status } = (await get('/health')).json<{ status: string }>()
    if (status === 'healthy') break
    await turn()
  }
})

await t.test('a Gitea and a registry form one catalog: duplicates are shadowed, and an outage does not change ' +
  'owners', async t => {
  const gitea = await createGiteaFake(provisioningContent())
  t.teardown(gitea.close)
  const { fake } = await fakeRegistry(t)
  const { get, clock } = await startApp(t, {
    gitea: { url: gitea.url, organization: 'provisioning', timeout_seconds: 1 },
    oci: { registry: fake.url, namespace: 'provisioning' }
  })
  const all = names((await get('/api/v1/extensions')).json<Extension[]>())
  t.ok(all.includes('gitea provider/aws 1.2.0'))
  t.notOk(all.includes('oci provider/aws 1.2.0'))
  t.ok(names((await get('/api/v1/extensions?source=oci')).json<Extension[]>()).includes('oci provider/aws 1.2.0'))
  hasLine(t, (await get('/metrics')).body, 'extensions_shadowed_total{backend="oci"} 5')
  await gitea.stop()
  clock.forward(301)
  const aws = await get('/api/v1/extensions/provider/aws')
  matchStrictly(t, [aws.statusCode, aws.json<Extension>().source, aws.headers['x-cache-ttl']], [200, 'gitea', '0'])
  t.equal((await get('/api/v1/extensions/provider/aws/9.9.9')).statusCode, 503)
  matchStrictly(t, (await get('/api/v1/extensions?source=oci')).headers, { 'x-partial': undefined })

  const cold = await startApp(t, {
    gitea: { url: gitea.url, organization: 'provisioning', timeout_seconds: 1 },
    oci: { registry: fake.url, namespace: 'provisioning' }
  })
  const list = await cold.get('/api/v1/extensions')
  matchStrictly(t, [list.statusCode, list.headers['x-partial']], [200, 'gitea'])
  t.equal((await cold.get('/api/v1/extensions/provider/aws')).statusCode, 503, 'no other instance responds for it')
})

await t.test('canary credentials of every kind are absent from log lines, metrics, errors and headers', async t => {
  const canary = /canary|Y2FuYXJ5/
  const kinds: Array<
    [kind: string, auth: NonNullable<RegistryFakeOptions['auth']>, config: (folder: string, host: string) => object]
  > = [
    ['a password', 'basic', folder => ({ username: 'canary-user', password_file: join(folder, 'password') })],
    [
      'a password for tokens',
      'bearer',
      folder => ({ username: 'canary-user', password_file: join(folder, 'password') })
    ],
    ['a token', 'bearer', () => ({ token: 'canary-token' })],
    ['a token in a file', 'bearer', folder => ({ token_file: join(folder, 'token') })],
    ["Docker's config.json", 'basic', folder => ({ docker_config: join(folder, 'config.json') })]
  ]
  for (const [kind, auth, config] of kinds) {
    const storage = await createLoopback(() => ({ status: 403, body: 'canary' }))
    t.teardown(storage.close)
    const { fake, folder } = await fakeRegistry(t, {
      auth,
      users: { 'canary-user': 'canary-password' },
      guests: false,
      tokens: ['canary-token'],
      tokenResponse: { access_token: 'canary-issued' }
    }, { password: 'canary-password\n', token: 'canary-token\n' })
    const host = new URL(fake.url).host
    await writeFile(
      join(folder, 'config.json'),
      JSON.stringify({ auths: { [host]: { auth: Buffer.from('canary-user:canary-password').toString('base64') } } })
    )
    const lines: string[] = []
    const parsed = parseConfig({
      log: { level: 'trace' },
      store: { enabled: false },
      oci: {
        registry: fake.url,
        namespace: 'provisioning',
        timeout_seconds: 1,
        redirect_hosts: [`127.0.0.1:${storage.port}`],
        ...config(folder, host)
      }
    })
    const app = Fastify({
      ...serverOptions(parsed),
      logger: {
        level: 'trace',
        stream: {
          write: (line: string) => {
            lines.push(line)
          }
        }
      }
    })
    t.teardown(async () => {
      await app.close()
    })
    app.setNotFoundHandler(notFoundHandler)
    await app.register(fp(registry), { config: parsed, probeInterval: 20 })
    await app.ready()
    const described: string[] = []
    const send = async (path: string) => {
      const { statusCode, headers, body } = await app.inject(path)
      described.push(`${path} ${statusCode} ${JSON.stringify(headers)} ${body}`)
      return statusCode
    }
    const everything = async () => {
      for (
        const path of [
          '/api/v1/extensions',
          '/api/v1/extensions/provider/aws',
          '/api/v1/extensions/provider/aws/1.2.0',
          '/api/v1/extensions/provider/new',
          '/health',
          '/metrics'
        ]
      ) await send(path)
    }
    t.equal(await send('/api/v1/extensions/provider/aws/1.2.0'), 200, kind)
    await everything()
    fake.options.storage = storage.url
    await everything()
    for (
      const fault of [
        'refuse-reset',
        'hang',
        {
          status: 401,
          headers: { 'www-authenticate': 'Bearer realm="http://canary:canary@127.0.0.1/",service="canary"' },
          body: 'canary'
        },
        { status: 500, body: 'canary' },
        { status: 200, headers: { 'content-type': 'application/json' }, body: 'canary' }
      ] as const
    ) {
      fake.fault = () => fault
      await send('/api/v1/extensions/provider/other')
      await everything()
    }
    t.ok(lines.some(line => line.includes('"err"')), 'failures are logged')
    t.notMatch(lines.filter(line => canary.test(line)).map(line => line.slice(0, 2000)).join('\n'), canary, kind)
    t.notMatch(described.filter(line => canary.test(line)).join('\n'), canary, kind)
  }
})
