import { execFile, execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import type { Extension } from '../../schemas/extension.ts'
import { conformance } from '../backends/conformance.ts'
import { startApp } from '../fakes/app.ts'
import { writeLayout } from '../fakes/layout.ts'
import { matchStrictly } from '../fakes/match.ts'
import { contentOf } from '../fakes/registry.ts'
import { createRegistryDriver } from '../fakes/registry-driver.ts'
import { createTokenServer } from '../fakes/token-server.ts'
import { startDockerRegistry } from '../real/docker-registry.ts'
import { everything } from '../real/everything.ts'
import { push, writeContent } from '../real/registry-content.ts'

const run = promisify(execFile)
const namespace = 'provisioning'
const users = { pusher: 'canary-password' }
const basic = `Basic ${Buffer.from('pusher:canary-password').toString('base64')}`
const fixture = (name: string) => new URL(`../fixtures/tls/${name}`, import.meta.url)

const folder = t.testdir({ password: 'canary-password\n' })
const root = join(folder, 'layouts')
await writeContent(root, namespace)
const content = await contentOf(root)
const login = { username: 'pusher', password_file: join(folder, 'password') }

/** Copies every tag to a registry with skopeo. */
async function copy (url: string, credentials: string[]): Promise<void> {
  for (const [repository, { tags }] of content) {
    for (const tag of tags.keys()) {
      await run('skopeo', [
        '--insecure-policy',
        'copy',
        '--quiet',
        '--all',
        '--preserve-digests',
        '--dest-tls-verify=false',
        ...credentials,
        `oci:${join(root, repository)}:${tag}`,
        `docker://${new URL(url).host}/${repository}:${tag}`
      ])
    }
  }
}

async function anonymous (t: Test) {
  const url = await startDockerRegistry(t, join(folder, 'anonymous'))
  await copy(url, [])
  return { registry: url }
}

async function withPassword (t: Test) {
  const htpasswd = join(folder, 'htpasswd')
  await writeFile(htpasswd, execFileSync('htpasswd', ['-Bbn', 'pusher', users.pusher]))
  const url = await startDockerRegistry(t, join(folder, 'password-registry'), {
    htpasswd: { realm: 'a realm', path: htpasswd }
  })
  await copy(url, ['--dest-creds', `pusher:${users.pusher}`])
  return { registry: url, ...login }
}

async function withToken (t: Test) {
  const [service, issuer] = ['a service', 'an issuer']
  const server = await createTokenServer({
    service,
    issuer,
    users,
    key: readFileSync(fixture('server.key'), 'utf8'),
    certificate: readFileSync(fixture('server.pem'), 'utf8')
  })
  t.teardown(server.close)
  const url = await startDockerRegistry(t, join(folder, 'token-registry'), {
    token: { realm: `${server.url}/token`, service, issuer, rootcertbundle: fixture('ca.pem').pathname }
  })
  const token = async (repository: string) => {
    const query = new URLSearchParams({ service, scope: `repository:${repository}:pull,push` })
    const response =
      await (await fetch(`${server.url}/token?${query.toString()}`, { headers: { authorization: basic } }))
        .json() as { token: string }
    return `Bearer ${response.token}`
  }
  await push(content, { url, authorization: token })
  return { registry: url, auth_hosts: [new URL(server.url).host], ...login }
}

const setUps = { anonymous, 'with a password': withPassword, 'with a token': withToken }
const configs: Record<string, object> = {}
for (const [name, setUp] of Object.entries(setUps)) configs[name] = await setUp(t)

for (const [name, config] of Object.entries(configs)) {
  await t.test(`a real docker-registry, ${name}`, async t => {
    await conformance(t, async t => ({ driver: createRegistryDriver(t, { namespace, ...config }) }))
  })
}

await t.test('three registries and a directory with the same content give identical responses', async t => {
  const expected = await everything(t, { namespace, registry: root })
  t.ok(Object.keys(expected).length > 50, 'more than 50 responses are compared')
  matchStrictly(t, expected['/taskserv/containerd/versions'], {
    status: 200,
    body: /"version":"1\.7\.0".*"version":"1\.7\.0\+build\.5"/
  })
  matchStrictly(t, expected['/taskserv/signed/versions'], { status: 200, body: /^\[\{"version":"1\.0\.0"[^{]*\}\]$/ })
  matchStrictly(t, expected['/taskserv/bare'], {
    status: 200,
    body: /"description":"".*"published_at":"1970-01-01T00:00:00Z"/
  })
  matchStrictly(t, expected['/taskserv/cilium'], {
    status: 200,
    body: /"version":"1\.16\.0".*"published_at":"2026-11-22T10:00:00Z"/
  })
  matchStrictly(t, expected['/cluster/multi'], { status: 200, body: /"description":"From an index"/ })
  matchStrictly(t, expected['/cluster/typed'], { status: 200, body: /"version":"2\.0\.0"/ })
  matchStrictly(t, expected['/provider/nightlyonly'], { status: 404 })
  matchStrictly(t, expected['/taskserv/chart'], { status: 200, body: /"version":"1\.2\.0\+build\.1"/ })
  matchStrictly(t, expected['/taskserv/chart/versions'], {
    status: 200,
    body: /^\[\{"version":"1\.2\.0\+build\.1"[^{]*\},\{"version":"1\.1\.0"[^{]*\},\{"version":"1\.0\.0"[^{]*\}\]$/
  })
  matchStrictly(t, expected['/taskserv/chart/1.1.0'], {
    status: 200,
    headers: { disposition: 'attachment; filename=chart-1.1.0.tar.gz' },
    body: 'chart 1.1.0'
  })
  matchStrictly(t, expected['/taskserv/chart/1.2.0%2Bbuild.1'], {
    status: 200,
    headers: { disposition: /filename="?chart-1\.2\.0\+build\.1\.tar\.gz/ },
    body: 'chart 1.2.0'
  })
  for (const version of ['1.0.0', '1.1.0']) {
    matchStrictly(t, expected[`/provider/directory/${version}`], {
      status: 200,
      headers: { disposition: 'attachment; filename=mydir.tar.gz' },
      body: `directory ${version}`
    })
  }
  for (const [name, config] of Object.entries(configs)) {
    t.strictSame(await everything(t, { namespace, ...config }), expected, name)
  }
})

await t.test('crawls of a real docker-registry read each repository in time', async t => {
  const registry = await startDockerRegistry(t, join(folder, 'crawled'))
  const names = Array.from({ length: 12 }, (_, number) => `n${String(number).padStart(2, '0')}`)
  const layouts = join(folder, 'crawled-layouts')
  await writeLayout(
    layouts,
    names.flatMap(name => ['1.0.0', '1.1.0'].map(tag => ({ repository: `${namespace}/provider/${name}`, tag })))
  )
  const all = await contentOf(layouts)
  await push(all, { url: registry })
  const { get, clock } = await startApp(t, { oci: { registry, namespace, crawl_repositories: 1 } })
  const requestCount = async () =>
    [...(await get('/metrics')).body.matchAll(/^upstream_requests_total\{backend="oci"[^}]*\} (\d+)$/gm)]
      .reduce((sum, [, value]) => sum + Number(value), 0)
  const list = async () => (await get('/api/v1/extensions?limit=1000')).json<Extension[]>()
  const versionOf = async (name: string) => (await list()).find(extension => extension.name === name)?.version
  const crawl = async () => { clock.forward(301); await list() }
  /** Pushes another artifact under a tag. */
  const publish = async (name: string, tag: string) => {
    const from = join(folder, `${name}-${tag}`)
    await writeLayout(from, [{ repository: `${namespace}/provider/${name}`, tag, artifactType: 'application/another' }])
    await push(await contentOf(from), { url: registry })
  }
  const unpublish = async (name: string, tag: string) => {
    const digest = all.get(`${namespace}/provider/${name}`)?.tags.get(tag)?.digest ?? ''
    const address = `${registry}/v2/${namespace}/provider/${name}/manifests/${digest}`
    t.equal((await fetch(address, { method: 'DELETE' })).status, 202)
  }
  t.equal((await list()).length, names.length)

  const before = await requestCount()
  for (let at = 0; at < 11; at++) await crawl()
  const perCrawl = (await requestCount() - before) / 11
  t.ok(perCrawl >= 3 && perCrawl <= 4, `the list, and the tags and a digest of one repository: ${perCrawl} requests`)

  await publish('n01', '2.0.0')
  await unpublish('n02', '1.1.0')
  await publish('n03', '2.0.0')
  await publish('n04', '2.0.0')
  t.equal((await get('/api/v1/extensions/provider/n03')).json<Extension>().version, '2.0.0', 'metadata at once')
  t.equal((await get('/api/v1/extensions/provider/n04/2.0.0')).statusCode, 200, 'a download at once')
  await crawl()
  t.strictSame([await versionOf('n03'), await versionOf('n04')], ['2.0.0', '2.0.0'], 'and then in the list')
  for (let at = 0; at < 12; at++) await crawl()
  t.strictSame([await versionOf('n01'), await versionOf('n02')], ['2.0.0', '1.0.0'], 'the others in time')
})
