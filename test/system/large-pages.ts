import t, { type Test } from 'tap'
import type { Extension, ExtensionVersion } from '../../schemas/extension.ts'
import { startApp } from '../fakes/app.ts'
import { createGiteaFake, type GiteaContent, type GiteaOptions } from '../fakes/gitea.ts'
import { matchStrictly } from '../fakes/match.ts'

const path = '/api/v1/extensions/provider/x'
const kilobytes = (count: number) => 'n'.repeat(count * 1000)
const versions = (count: number) => Array.from({ length: count }, (_, at) => `1.${at}.0`)

async function setUp (t: Test, content: GiteaContent, options: GiteaOptions = {}) {
  const gitea = await createGiteaFake(content, options)
  t.teardown(gitea.close)
  const started = await startApp(t, {
    gitea: { url: gitea.url, organization: 'org', timeout_seconds: 60 },
    server: { request_budget_seconds: 120 }
  })
  const shown = async () =>
    (await started.get(`${path}/versions`)).json<ExtensionVersion[]>().map(({ version }) => version)
  const releasePages = () =>
    gitea.requests.flatMap(({ path }) =>
      /\/x_prov\/releases\?/.test(path) ? [new URL(path, 'http://x').searchParams] : []
    ).map(query => `${query.get('limit')}:${query.get('page')}`)
  return { gitea, ...started, shown, releasePages }
}
const single = (releases: GiteaContent['repositories'][number]['releases'] & object): GiteaContent => ({
  owner: { login: 'org' },
  repositories: [{ name: 'x_prov', releases }]
})

await t.test('releases whose notes make a page too large are read in smaller pages', async t => {
  const { gitea, get, shown, releasePages } = await setUp(
    t,
    single(versions(50).map(tag => ({ tag, notes: kilobytes(345) })))
  )
  matchStrictly(t, (await get('/api/v1/extensions')).json(), [{ name: 'x', version: '1.49.0' }])
  t.strictSame(releasePages(), ['50:1', '1:2', '25:1', '25:2'])
  t.strictSame(await shown(), versions(50).reverse())
  matchStrictly(t, (await get('/api/v1/health')).json(), { backends: { gitea: { healthy: true } } })
  t.ok(gitea.count(/releases/) <= 8)
})

await t.test('only a page that is too large is read in parts', async t => {
  const { shown, releasePages, get } = await setUp(
    t,
    single(versions(130).map((tag, at) => ({ tag, ...(at < 20 && { notes: kilobytes(900) }) })))
  )
  await get('/api/v1/extensions')
  t.strictSame(releasePages(), ['50:1', '50:2', '50:3', '25:5', '25:6'])
  t.strictSame(await shown(), versions(130).reverse())
})

await t.test('a server that sends smaller pages than requested is read completely', async t => {
  const { shown } = await setUp(
    t,
    single(versions(33).map((tag, at) => ({ tag, notes: kilobytes(at < 8 ? 2500 : 1) }))),
    { maxResponseItems: 7 }
  )
  t.strictSame(await shown(), versions(33).reverse())
})

await t.test('a single release that is too large is skipped and reported', async t => {
  for (const large of [7, 11]) {
    const { app, get, shown } = await setUp(
      t,
      single(versions(12).map((tag, at) => ({ tag, ...(at === large && { notes: kilobytes(17_000) }) })))
    )
    t.strictSame(await shown(), versions(12).filter((_, at) => at !== large).reverse(), String(large))
    matchStrictly(t, (await get('/api/v1/extensions')).json(), [{ name: 'x' }])
    matchStrictly(t, app.catalog.skipped().items, [{
      kind: 'release',
      reason: 'too_large',
      type: 'provider',
      name: 'x',
      repository: 'x_prov'
    }])
  }
})

await t.test('an extension with only releases that are too large is not reported as absent', async t => {
  const { get } = await setUp(t, single([{ tag: '1.0.0', notes: kilobytes(17_000) }]))
  t.equal((await get(path)).statusCode, 503)
  t.equal((await get(`${path}/1.0.0`)).statusCode, 503)
})

await t.test('repositories whose descriptions make a page too large are listed in smaller pages', async t => {
  const names = Array.from({ length: 60 }, (_, at) => `n${String(at).padStart(2, '0')}`)
  const { get } = await setUp(t, {
    owner: { login: 'org' },
    repositories: names.map(name => ({
      name: `${name}_prov`,
      description: kilobytes(400),
      releases: [{ tag: '1.0.0' }]
    }))
  })
  const response = await get('/api/v1/extensions')
  t.strictSame(response.json<Extension[]>().map(({ name }) => name), names)
  t.equal(response.headers['x-partial'], undefined)
})

await t.test('release notes of more than the registry keeps are read as long as the rest is small', async t => {
  const { get } = await setUp(t, single(versions(200).map(tag => ({ tag, notes: kilobytes(345) }))))
  matchStrictly(t, (await get('/api/v1/extensions')).json(), [{ version: '1.199.0' }])
})

await t.test('all releases are read in pages of any size behind a proxy that drops the total and Link', async t => {
  for (const [count, size] of [[120, 1], [30, 700], [12, 4000]] as const) {
    const { gitea, shown } = await setUp(t, single(versions(count).map(tag => ({ tag, notes: kilobytes(size) }))))
    gitea.fault = async ({ path, headers }) => {
      if (!path.includes('/releases') || headers['x-again'] !== undefined) return undefined
      const response = await fetch(gitea.url + path, { headers: { 'x-again': '1' } })
      return { status: 200, headers: { 'content-type': 'application/json' }, body: await response.text() }
    }
    t.strictSame(await shown(), versions(count).reverse(), `${count} releases of ${size} kB`)
  }
})
