import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startApp } from '../../fakes/app.ts'
import { createGiteaFake, provisioningContent, type GiteaFake } from '../../fakes/gitea.ts'
import { matchStrictly } from '../../fakes/match.ts'

const paths = ['', '?limit=3', '/search?q=aws', '/provider/aws', '/provider/aws/versions', '/taskserv/k3s']

/** Starts a registry, requests all paths once, and closes it. */
async function former (t: Test, gitea: GiteaFake, directory: string, config: object = {}) {
  const { app, get } = await startApp(t, configuration(gitea, directory, config))
  const bodies = await Promise.all(paths.map(async path => (await get(`/api/v1/extensions${path}`)).body))
  await app.close()
  return bodies
}
const configuration = (gitea: GiteaFake, directory: string, config: object = {}) =>
  ({ cache: { directory }, gitea: { url: gitea.url, organization: 'provisioning', timeout_seconds: 1, ...config } })

async function setUp (t: Test) {
  const gitea = await createGiteaFake(provisioningContent())
  t.teardown(gitea.close)
  const directory = join(t.testdir({}), 'catalog')
  return { gitea, directory, before: await former(t, gitea, directory) }
}

await t.test('a restart during an outage serves the data of the former process, marked as stale', async t => {
  const { gitea, directory, before } = await setUp(t)
  await gitea.stop()
  const { get } = await startApp(t, configuration(gitea, directory))
  t.equal((await get('/readyz')).statusCode, 200)
  for (const [at, path] of paths.entries()) {
    const response = await get(`/api/v1/extensions${path}`)
    matchStrictly(t, [response.statusCode, response.headers['cache-control']], [200, 'no-cache'], path)
    t.match(response.headers['cache-status'], /^gitea; hit; detail=stale, /, path)
    t.equal(response.body, before[at], path)
  }
  t.equal((await get('/api/v1/extensions/provider/nowhere')).statusCode, 503, 'an absence is not proven')
  t.equal((await get('/api/v1/extensions/provider/aws/9.9.9')).statusCode, 503)
  matchStrictly(t, (await get('/api/v1/health')).json(), { status: 'degraded' })
})

await t.test('a restart with a healthy upstream is fresh after its first request', async t => {
  const { gitea, directory } = await setUp(t)
  const { get } = await startApp(t, configuration(gitea, directory, { timeout_seconds: 5 }))
  const response = await get('/api/v1/extensions')
  t.match(response.headers['cache-status'], /^extension-registry; fwd=miss/)
})

await t.test('a snapshot is not used with another configuration, or with credentials that may have fewer ' +
  'rights', async t => {
  const { gitea, directory } = await setUp(t)
  await gitea.stop()
  for (
    const config of [{ organization: 'another' }, { include_private: false }, { token: 'canary-token' }, {
      public_url: 'https://git.example.com'
    }]
  ) {
    const { get } = await startApp(t, configuration(gitea, directory, config))
    t.equal((await get('/api/v1/extensions')).statusCode, 503, JSON.stringify(config))
  }
  const { get } = await startApp(
    t,
    configuration(gitea, directory, { timeout_seconds: 2, concurrency: 3, priority: 1 })
  )
  t.equal((await get('/api/v1/extensions')).statusCode, 200, 'options that do not change the content are ignored')
})

await t.test('a damaged snapshot is ignored and replaced', async t => {
  const { gitea, directory, before } = await setUp(t)
  const file = join(directory, 'gitea.ndjson')
  const whole = await readFile(file, 'utf8')
  await writeFile(file, whole.replace('Kubernetes', 'Kubernotes'))
  const { app, get } = await startApp(t, configuration(gitea, directory))
  t.equal((await get('/api/v1/extensions')).body, before[0])
  await app.close()
  t.match(await readFile(file, 'utf8'), 'Kubernetes')
})

await t.test('a directory that cannot be written causes only a log line and a metric', async t => {
  const { gitea, directory } = await setUp(t)
  const { get } = await startApp(t, configuration(gitea, join(directory, 'gitea.ndjson', 'x')), { saveInterval: 5 })
  for (let times = 0; times < 200; times++) {
    t.equal((await get('/api/v1/extensions')).statusCode, 200)
    await turn()
    if (/catalog_saves_total\{backend="gitea",result="failed"\} [1-9]/.test((await get('/metrics')).body)) return
  }
  t.fail('the failure is never counted')
})

await t.test('a snapshot does not contain secrets', async t => {
  const token = 'canary-0123456789'
  const gitea = await createGiteaFake(provisioningContent(), {
    tokens: { [token]: { scopes: ['read:organization', 'read:repository'] } }
  })
  t.teardown(gitea.close)
  const directory = join(t.testdir({}), 'catalog')
  await former(t, gitea, directory, { token })
  const kept = await readFile(join(directory, 'gitea.ndjson'), 'utf8')
  t.match(kept, 'secret', 'private repositories are included')
  t.notMatch(kept, token)
})

await t.test('a repository that cannot be read for a long time does not age the others in a snapshot', async t => {
  const { gitea, directory } = await setUp(t)
  gitea.fault = ({ path }) => path.includes('/aws_prov/releases') ? { status: 500, body: '' } : undefined
  const { app, get, clock } = await startApp(t, configuration(gitea, directory))
  while (!/status 500/.test((await get('/api/v1/health')).body)) await turn()
  clock.forward(3600)
  matchStrictly(t, (await get('/api/v1/extensions')).headers, { age: /^[1-9]\d{3,}$/ })
  await app.close()
  const [listing] = (await readFile(join(directory, 'gitea.ndjson'), 'utf8')).split('\n').map(line =>
    JSON.parse(line || '{}') as {
      kind?: string,
      type?: string,
      at?: number,
      kept?: Array<{ name: string, at: number }>
    }
  ).filter(({ kind, type }) => kind === 'listing' && type === 'provider')
  matchStrictly(t, listing?.kept, [{ name: 'aws' }])
  t.ok((listing?.at ?? 0) - (listing?.kept?.[0]?.at ?? Infinity) > 3_000_000, 'each entry has its own age')
})
