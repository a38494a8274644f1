import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startApp } from '../../fakes/app.ts'
import { createGiteaFake, provisioningContent, type GiteaFake } from '../../fakes/gitea.ts'
import { matchStrictly } from '../../fakes/match.ts'

async function setUp (t: Test, config: object = {}, registry: object = {}) {
  const gitea = await createGiteaFake(provisioningContent())
  t.teardown(gitea.close)
  const started = await startApp(t, {
    gitea: { url: gitea.url, organization: 'provisioning', timeout_seconds: 0.3, ...config }
  }, registry)
  const list = async () => {
    const { statusCode, headers, body } = await started.get('/api/v1/extensions?limit=1000')
    return {
      statusCode,
      partial: headers['x-partial'],
      total: headers['x-total-count'],
      names: (JSON.parse(body) as Array<{ name: string }>).map?.(({ name }) => name)
    }
  }
  return { gitea, ...started, list }
}

/** Returns a fault that responds with the real listing after `change`. */
function changing (
  gitea: GiteaFake,
  change: (page: number, rows: unknown[], total: number) => { rows: unknown[], total: number }
): NonNullable<GiteaFake['fault']> {
  return async ({ path, headers }) => {
    if (!/\/orgs\/provisioning\/repos/.test(path) || headers['x-again'] !== undefined) return undefined
    const response = await fetch(gitea.url + path, { headers: { 'x-again': '1' } })
    const { rows, total } = change(
      Number(new URL(path, 'http://x').searchParams.get('page')),
      await response.json() as unknown[],
      Number(response.headers.get('x-total-count'))
    )
    return {
      status: 200,
      headers: {
        'content-type': 'application/json',
        link: response.headers.get('link') ?? '',
        'x-total-count': String(total)
      },
      body: JSON.stringify(rows)
    }
  }
}

await t.test('an extension that disappears from a complete listing is removed within the TTL, even without ' +
  'traffic', async t => {
  const { gitea, get, clock, list } = await setUp(t, { timeout_seconds: 5 }, { probeInterval: 5 })
  t.equal((await list()).total, '10')
  await get('/api/v1/extensions/taskserv/k3s/versions')
  gitea.remove('k3s_taskserv')
  gitea.withdraw('aws_prov', '1.2.0')
  const requested = gitea.count(/orgs\/provisioning\/repos.*page=1/)
  clock.forward(241)
  // The crawl in the background starts without a client request.
  while (
    gitea.count(/orgs\/provisioning\/repos\?limit=50/) < 1 ||
    gitea.count(/orgs\/provisioning\/repos.*page=1/) - requested < 2
  ) await turn()
  clock.forward(58)
  for (;;) {
    const response = await get('/api/v1/extensions/taskserv/k3s')
    if (response.statusCode === 404) break
    await turn()
  }
  t.equal((await list()).total, '9')
  matchStrictly(t, (await get('/api/v1/extensions/provider/aws')).json(), { version: '1.1.0' })
  t.equal((await get('/api/v1/extensions/taskserv/k3s/versions')).statusCode, 404)
})

await t.test('a version of a listing is among the versions at once, and can be downloaded', async t => {
  const { gitea, get, clock, list } = await setUp(t)
  await list()
  clock.forward(200)
  t.equal((await get('/api/v1/extensions/taskserv/k3s/versions')).json<unknown[]>().length, 1)
  gitea.publish('k3s_taskserv', { tag: '1.28.0', assets: [{ name: 'k3s_taskserv.tar.gz', content: 'new' }] })
  clock.forward(101)
  await list()
  matchStrictly(t, (await get('/api/v1/extensions/taskserv/k3s')).json(), { version: '1.28.0' })
  t.equal((await get('/api/v1/extensions/taskserv/k3s/1.28.0')).body, 'new')
  t.equal((await get('/api/v1/extensions/taskserv/k3s/versions')).json<unknown[]>().length, 2)
})

await t.test('a list that changes during a crawl is read once more; a list that keeps changing removes no ' +
  'extension', async t => {
  const { gitea, clock, list } = await setUp(t)
  matchStrictly(t, await list(), { partial: undefined, total: '10' })
  // A repository of the first page is deleted between the pages. Therefore one repository of the second page is missed.
  const shrunk = new Set([7])
  let crawls = 0
  gitea.fault = changing(
    gitea,
    (page, rows, total) =>
      page === 1
        ? (crawls++, { rows, total })
        : { rows: shrunk.has(7) && crawls === 1 ? rows.slice(1) : rows, total: crawls === 1 ? total - 1 : total }
  )
  clock.forward(301)
  matchStrictly(t, await list(), { partial: undefined, total: '10' })
  t.equal(crawls, 2)

  gitea.fault = changing(
    gitea,
    (page, rows, total) => page === 1 ? { rows: rows.slice(1), total } : { rows, total: total - 1 }
  )
  clock.forward(301)
  const unsteady = await list()
  matchStrictly(t, unsteady, { statusCode: 200, partial: 'gitea', total: '10' })
  t.ok(unsteady.names.includes('aws'), 'both crawls missed the first row')
  gitea.fault = undefined
  clock.forward(61)
  matchStrictly(t, await list(), { partial: undefined, total: '10' })
})

await t.test('a listing with a repeated page is rejected: known extensions stay and are marked stale', async t => {
  const { gitea, get, clock, list } = await setUp(t)
  await list()
  gitea.fault = async ({ path, headers }) => {
    if (!/\/orgs\/provisioning\/repos.*page=2/.test(path) || headers['x-again'] !== undefined) return undefined
    const response = await fetch(gitea.url + path.replace('page=2', 'page=1'), { headers: { 'x-again': '1' } })
    return {
      status: 200,
      headers: {
        'content-type': 'application/json',
        link: response.headers.get('link') ?? '',
        'x-total-count': response.headers.get('x-total-count') ?? ''
      },
      body: await response.text()
    }
  }
  clock.forward(301)
  matchStrictly(t, await list(), { statusCode: 200, total: '10' })
  matchStrictly(t, (await get('/api/v1/health')).json(), {
    backends: { gitea: { healthy: false, error: 'Response has a page twice' } }
  })
})

await t.test('a crawl of an upstream that stops responding ends after a few requests', async t => {
  const { gitea, list } = await setUp(t, { concurrency: 3 })
  gitea.fault = ({ path }) => path.includes('/releases') ? 'hang' : undefined
  const started = performance.now()
  await list()
  while (
    gitea.requests.some(({ path }) => path.includes('/releases')) && performance.now() - started < 1500
  ) { await turn() }
  const requested = gitea.count(/\/releases/)
  t.ok(requested >= 1 && requested <= 4, `${requested} of 11 repositories were requested`)
})

await t.test('an incomplete listing is read again after increasing delays', async t => {
  const { gitea, clock, list } = await setUp(t)
  gitea.fault = ({ path }) => path.includes('/aws_prov/releases') ? { status: 500, body: '' } : undefined
  const crawls = () => gitea.count(/orgs\/provisioning\/repos.*page=1/)
  await list()
  const first = crawls()
  clock.forward(31)
  await list()
  t.equal(crawls(), first + 1)
  clock.forward(31)
  await list()
  t.equal(crawls(), first + 1, 'the second delay is longer')
  clock.forward(30)
  await list()
  t.equal(crawls(), first + 2)
})
