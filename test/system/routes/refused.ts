import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Extension } from '../../../schemas/extension.ts'
import { startApp } from '../../fakes/app.ts'
import { createGiteaFake, type GiteaContent } from '../../fakes/gitea.ts'
import { writeLayout } from '../../fakes/layout.ts'
import { hasLine, matchStrictly } from '../../fakes/match.ts'
import { contentOf, createRegistryFake, type RegistryFakeOptions } from '../../fakes/registry.ts'

/**
 * Returns a pattern that denies every scope except those of these repositories, as in registries that hide the
 * existence of repositories.
 */
const only = (...repositories: string[]) => new RegExp(`^(?!repository:(?:${repositories.join('|')}):)repository:`)

interface Line {
  level: number
  msg: string
  repository?: string
  backend?: string
  refused?: number
}

/**
 * Starts the registry with an OCI registry that requires a token, as `first`, and layouts with twins of lower trust, as
 * `second`.
 */
async function setUp (t: Test, options: RegistryFakeOptions, config: object) {
  const folder = t.testdir({})
  const repositories = ['provider/aws', 'provider/secret', 'taskserv/k3s', 'taskserv/hidden']
  await writeLayout(join(folder, 'registry'), repositories.map(repository => ({ repository, tag: '1.0.0' })))
  await writeLayout(
    join(folder, 'twins'),
    ['provider/secret', 'provider/other', 'taskserv/hidden'].map(repository => ({ repository, tag: '9.0.0' }))
  )
  const fake = await createRegistryFake(await contentOf(join(folder, 'registry')), { auth: 'bearer', ...options })
  t.teardown(fake.close)
  const started = async (more: object = {}) => {
    const { app, get, clock, lines } = await startApp(t, {
      // Each crawl reads every repository, so that it sees a refusal at once.
      oci: [
        { name: 'first', registry: fake.url, reconcile_seconds: 0, ...config },
        { name: 'second', registry: join(folder, 'twins') }
      ],
      ...more
    })
    await app.health.firstRound
    const names = async (query = '') => {
      const { statusCode, headers, body } = await get(`/api/v1/extensions${query}`)
      const items = (JSON.parse(body) as Extension[]).map(({ type, name, version }) => `${type}/${name} ${version}`)
      return {
        statusCode,
        headers,
        items,
        partial: headers['x-partial'],
        stale: /detail=stale/.test(String(headers['cache-status']))
      }
    }
    const status = async (path: string) => (await get(`/api/v1/extensions/${path}`)).statusCode
    const crawl = async () => {
      clock.forward(301)
      await names()
      return await names()
    }
    const first = async () =>
      (await get('/health')).json<{ backends: { oci: { instances: { first: object } } } }>().backends.oci.instances
        .first
    const logged = () =>
      lines.splice(0).map(line => JSON.parse(line) as Line).filter(({ backend, level, msg }) =>
        backend === 'first' && level >= 30 && msg !== 'backend is healthy'
      )
    return { app, get, clock, names, status, crawl, first, logged, lines, skipped: () => app.catalog.skipped() }
  }
  return { fake, folder, start: started }
}

const mostly: [RegistryFakeOptions, object] = [
  { denied: only('provider/aws', 'taskserv/k3s') },
  { discovery: 'list', repositories: ['provider/aws', 'provider/secret', 'taskserv/k3s'] }
]
const healthy = { enabled: true, healthy: true }

await t.test('a refused repository of the configuration fails only itself, and is reported by name', async t => {
  const { fake, start } = await setUp(t, ...mostly)
  const { names, status, first, logged, skipped, clock, crawl } = await start()
  matchStrictly(t, await names(), {
    statusCode: 200,
    partial: undefined,
    stale: false,
    items: ['provider/aws 1.0.0', 'provider/other 9.0.0', 'taskserv/hidden 9.0.0', 'taskserv/k3s 1.0.0'],
    headers: { 'cache-control': /^public/ }
  }, 'the twin is not listed')
  t.strictSame(await first(), healthy)
  fake.requests.length = 0
  for (let times = 0; times < 2; times++) {
    for (const path of ['provider/secret', 'provider/secret/versions', 'provider/secret/1.0.0']) {
      t.equal(await status(path), 401, path)
    }
    for (const path of ['provider/nowhere', 'provider/nowhere/versions', 'provider/nowhere/1.0.0']) {
      t.equal(await status(path), 404, path)
    }
    for (const path of ['provider/aws', 'provider/other']) t.equal(await status(path), 200, path)
    clock.forward(60)
  }
  t.equal(fake.count(/nowhere|other/), 0, 'only configured repositories are requested')
  await crawl()
  matchStrictly(t, skipped(), {
    items: [{
      instance: 'first',
      kind: 'repository',
      reason: 'refused',
      type: 'provider',
      name: 'secret',
      repository: 'provider/secret',
      since: /Z$/
    }],
    counts: [{ instance: 'first', kind: 'repository', reason: 'refused', count: 1 }]
  })
  matchStrictly(t, logged(), [
    { level: 40, repository: 'provider/secret', msg: /^the upstream refuses a configured repository \(401 or 403\)/ },
    { level: 30, msg: 'skipped 1 repository: 1 refused' }
  ], 'once, not at each crawl')
})

await t.test(
  'a repository that is refused after it was read is served as stale, and keeps its owner after a ' +
    'restart',
  async t => {
    const { fake, folder, start } = await setUp(t, { denied: undefined }, mostly[1])
    const { app, names, status, first, logged, skipped, crawl, get } = await start({
      cache: { directory: join(folder, 'snapshots') }
    })
    await names()
    t.equal(await status('provider/secret/versions'), 200)
    fake.options.denied = mostly[0].denied
    fake.revoke()
    matchStrictly(t, await crawl(), {
      partial: undefined,
      stale: true,
      items: [
        'provider/aws 1.0.0',
        'provider/other 9.0.0',
        'provider/secret 1.0.0',
        'taskserv/hidden 9.0.0',
        'taskserv/k3s 1.0.0'
      ]
    })
    t.strictSame(await first(), healthy)
    for (const path of ['provider/secret', 'provider/secret/versions']) {
      const { statusCode, headers, body } = await get(`/api/v1/extensions/${path}`)
      matchStrictly(t, [statusCode, headers['x-cache-ttl'], headers['cache-status'], body], [
        200,
        '0',
        /first; hit; detail=stale/,
        /1\.0\.0/
      ], path)
    }
    matchStrictly(
      t,
      (await get('/api/v1/extensions/provider/aws')).headers,
      { 'cache-control': /^public/ },
      'another extension is fresh'
    )
    t.equal(await status('provider/nowhere'), 404)
    matchStrictly(t, logged().map(({ msg, repository }) => repository ?? msg), [
      'provider/secret',
      'skipped 1 repository: 1 refused'
    ])
    fake.options.denied = undefined
    fake.revoke()
    matchStrictly(t, await crawl(), { stale: false, partial: undefined })
    matchStrictly(t, logged(), [{ level: 30, repository: 'provider/secret', msg: 'a repository is accessible again' }, {
      level: 30,
      msg: 'nothing is skipped any more'
    }])
    t.strictSame(skipped(), { items: [], counts: [] }, 'removed when a complete crawl no longer finds it')

    fake.options.denied = only('provider/aws')
    fake.revoke()
    const config = { cache: { directory: join(folder, 'cold') } }
    const before = await start(config)
    matchStrictly(t, (await before.names()).items, [
      'provider/aws 1.0.0',
      'provider/other 9.0.0',
      'taskserv/hidden 9.0.0'
    ])
    await before.app.close()
    await app.close()
    await fake.stop()
    const after = await start(config)
    matchStrictly(t, await after.names(), {
      partial: undefined,
      stale: true,
      items: ['provider/aws 1.0.0', 'provider/other 9.0.0', 'taskserv/hidden 9.0.0']
    })
    t.equal(await after.status('provider/secret'), 503, 'no twin replaces it')
    await fake.start()
  }
)

await t.test('a refusal of the only repository fails only it while the registry accepts the credentials', async t => {
  const { fake, start } = await setUp(t, { denied: /^repository:/ }, {
    discovery: 'list',
    repositories: ['provider/secret']
  })
  const { names, status, first, crawl } = await start()
  matchStrictly(t, await names(), { partial: undefined, items: ['provider/other 9.0.0', 'taskserv/hidden 9.0.0'] })
  t.strictSame(await first(), healthy)
  t.equal(await status('provider/secret'), 401)
  fake.options.guests = false
  fake.revoke()
  matchStrictly(t, await crawl(), { partial: undefined, stale: true })
  matchStrictly(t, await first(), { healthy: false, error: 'Authentication failed' }, 'refused by the registry itself')
})

await t.test('a token server that issues no token for one repository refuses that repository only', async t => {
  const { fake, start } = await setUp(t, {}, { ...mostly[1] })
  fake.fault = ({ path }) =>
    /^\/token\?.*secret/.test(path)
      ? {
          status: 403,
          headers: { 'content-type': 'application/json' },
          body: '{"errors":[{"code":"DENIED","message":"denied"}]}'
        }
      : undefined
  const { names, status, first, skipped } = await start()
  matchStrictly(t, await names(), {
    partial: undefined,
    stale: false,
    items: ['provider/aws 1.0.0', 'provider/other 9.0.0', 'taskserv/hidden 9.0.0', 'taskserv/k3s 1.0.0']
  })
  t.strictSame(await first(), healthy)
  t.equal(await status('provider/secret'), 401)
  matchStrictly(t, skipped().items, [{ repository: 'provider/secret', reason: 'refused' }])
})

await t.test(
  'credentials that are refused for all of several repositories are a failure of the ' +
    'instance',
  async t => {
    const { start } = await setUp(t, { denied: /^repository:/ }, {
      discovery: 'list',
      repositories: ['provider/secret', 'provider/aws']
    })
    const { names, status, first, skipped } = await start()
    matchStrictly(t, await names(), { partial: 'first' })
    matchStrictly(t, await first(), { healthy: false, error: 'Authentication failed' })
    t.equal(await status('provider/secret'), 401)
    t.strictSame(skipped(), { items: [], counts: [] })
  }
)

await t.test('refused repositories that the crawl discovered are counted but never named', async t => {
  const { fake, start } = await setUp(t, { denied: only('provider/aws', 'taskserv/k3s') }, {})
  const { app, get, names, first, skipped, crawl, logged, lines, status } = await start()
  matchStrictly(t, await names(), {
    partial: undefined,
    stale: false,
    items: ['provider/aws 1.0.0', 'provider/other 9.0.0', 'taskserv/k3s 1.0.0']
  })
  t.strictSame(await first(), healthy)
  await crawl()
  t.strictSame(skipped(), {
    items: [],
    counts: [{ instance: 'first', kind: 'repository', reason: 'refused', count: 2 }]
  })
  const shown = [...lines, (await get('/metrics')).body, (await get('/health')).body, JSON.stringify(skipped())].join(
    '\n'
  )
  t.notMatch(shown, /secret|hidden/, 'in no log line of any level, metric or report')
  hasLine(t, shown, 'extensions_skipped_total{backend="first",reason="refused"} 2')
  matchStrictly(t, logged(), [{ level: 40, refused: 2, msg: /^the upstream refuses repositories that it lists/ }, {
    level: 30,
    msg: 'skipped 2 repositories: 2 refused'
  }])
  t.equal(await status('provider/secret'), 401, 'no twin replaces it')
  fake.options.denied = only('provider/aws', 'taskserv/k3s', 'provider/secret')
  fake.revoke()
  await crawl()
  matchStrictly(t, logged(), [{ level: 30, refused: 1 }, { level: 30, msg: 'skipped 1 repository: 1 refused' }])
  fake.content.delete('taskserv/hidden')
  await crawl()
  matchStrictly(t, (await names()).items, [
    'provider/aws 1.0.0',
    'provider/other 9.0.0',
    'provider/secret 1.0.0',
    'taskserv/hidden 9.0.0',
    'taskserv/k3s 1.0.0'
  ])
  t.strictSame(app.catalog.skipped().counts, [])
})

await t.test(
  'a registry that denies unknown repositories responds 404 for a name that its complete list ' +
    'lacks',
  async t => {
    const { fake, start } = await setUp(t, { denied: only('provider/aws', 'taskserv/k3s', 'provider/new') }, {})
    const { names, status, clock } = await start()
    await names()
    for (const seconds of [0, 60, 301]) {
      clock.forward(seconds)
      for (const path of ['provider/nowhere', 'provider/nowhere/versions', 'provider/nowhere/1.0.0']) {
        t.equal(await status(path), 404, `${path} after ${seconds} s`)
      }
    }
    const requested = fake.count(/_catalog/)
    for (let name = 0; name < 50; name++) t.equal(await status(`provider/nowhere${name}`), 404)
    t.ok(fake.count(/_catalog/) - requested <= 1, 'the list is not requested again for each name')
    t.equal(await status('provider/secret'), 401)

    clock.forward(31)
    const content = fake.content.get('provider/aws')
    if (content !== undefined) fake.content.set('provider/new', content)
    t.equal(await status('provider/new'), 200, 'a repository that was published a moment ago')
    clock.forward(31)
    fake.options.catalogRefused = true
    t.equal(await status('provider/nowhere'), 401, 'without the list an absence is not proven')
  }
)

await t.test('a failing list of repositories is not requested again for each denied name', async t => {
  const { fake, start } = await setUp(t, { denied: only('provider/aws', 'taskserv/k3s') }, {})
  const { names, status, clock } = await start()
  await names()
  clock.forward(60)
  fake.fault = ({ path }) => path.includes('_catalog') ? { status: 500, body: '' } : undefined
  fake.requests.length = 0
  for (let name = 0; name < 20; name++) t.equal(await status(`provider/nowhere${name}`), 401)
  t.ok(fake.count(/_catalog/) <= 3, `${fake.count(/_catalog/)} requests, retries included`)
  fake.fault = undefined
  clock.forward(11)
  t.equal(await status('provider/nowhere'), 404)
})

await t.test('a name outside the configuration is reported as 404 during an outage', async t => {
  const { fake, start } = await setUp(t, ...mostly)
  const { names, status, clock, app } = await start()
  await names()
  await fake.stop()
  clock.forward(301)
  t.equal(await status('provider/nowhere'), 404, 'the name cannot belong to a configured repository')
  t.equal(await status('taskserv/k3s'), 200)
  const circuit = () => app.catalog.instances.find(({ name }) => name === 'first')?.circuit
  for (let times = 0; times < 5; times++) await status('provider/secret')
  t.equal(circuit(), 'open')
  clock.forward(2)
  t.equal(await status('provider/elsewhere'), 404)
  t.equal(circuit(), 'half-open', 'the name does not test the circuit')
  await fake.start()
})

await t.test(
  'the second repository of an extension is used if the first one is refused, in lists and ' +
    'by name',
  async t => {
    const { fake, start } = await setUp(t, { denied: only('aws_prov', 'taskserv/k3s') }, {
      discovery: 'list',
      repositories: ['provider/aws', 'aws_prov', 'taskserv/k3s']
    })
    const content = fake.content.get('provider/aws')
    if (content !== undefined) fake.content.set('aws_prov', content)
    const { names, status, skipped } = await start()
    matchStrictly(t, await names(), {
      partial: undefined,
      stale: false,
      items: [
        'provider/aws 1.0.0',
        'provider/other 9.0.0',
        'provider/secret 9.0.0',
        'taskserv/hidden 9.0.0',
        'taskserv/k3s 1.0.0'
      ]
    })
    t.equal(await status('provider/aws/versions'), 200)
    matchStrictly(t, skipped().items, [{ repository: 'provider/aws', reason: 'refused' }])
  }
)

await t.test('a Gitea repository with refused releases fails only itself, and is never named', async t => {
  const content: GiteaContent = {
    owner: { login: 'team' },
    repositories: ['aws_prov', 'secret_prov', 'k3s_taskserv'].map(name => ({ name, releases: [{ tag: '1.0.0' }] }))
  }
  for (
    const response of [{ status: 403, message: 'user should have specific read permission' }, {
      status: 404,
      message: 'not found'
    }]
  ) {
    const gitea = await createGiteaFake(content)
    t.teardown(gitea.close)
    gitea.fault = ({ path }) =>
      path.includes('/secret_prov/releases')
        ? {
            status: response.status,
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify({ message: response.message })
          }
        : undefined
    const { app, get, lines, clock } = await startApp(t, { gitea: { url: gitea.url, organization: 'team' } })
    await app.health.firstRound
    const list = async () => {
      const { headers, body } = await get('/api/v1/extensions')
      return [headers['x-partial'], (JSON.parse(body) as Extension[]).map(({ name }) => name)]
    }
    t.strictSame(await list(), [undefined, ['aws', 'k3s']], String(response.status))
    matchStrictly(t, (await get('/health')).json(), { status: 'healthy' })
    t.strictSame(app.catalog.skipped(), {
      items: [],
      counts: [{ instance: 'gitea', kind: 'repository', reason: 'refused', count: 1 }]
    })
    t.notMatch([...lines, (await get('/metrics')).body].join('\n'), /secret/)
    t.equal((await get('/api/v1/extensions/provider/secret')).statusCode, 401)
    t.equal((await get('/api/v1/extensions/provider/nowhere')).statusCode, 404)
    gitea.fault = undefined
    clock.forward(301)
    await list()
    t.strictSame(await list(), [undefined, ['aws', 'secret', 'k3s']])
    t.strictSame(app.catalog.skipped().counts, [])
  }
})

await t.test('a Gitea token that may not read any releases is a failure of the instance', async t => {
  const gitea = await createGiteaFake({
    owner: { login: 'team' },
    repositories: ['aws_prov', 'gcp_prov'].map(name => ({ name, releases: [{ tag: '1.0.0' }] }))
  })
  t.teardown(gitea.close)
  gitea.fault = ({ path }) =>
    path.includes('/releases')
      ? { status: 403, headers: { 'content-type': 'application/json' }, body: '{}' }
      : undefined
  const { app, get } = await startApp(t, { gitea: { url: gitea.url, organization: 'team' } })
  await app.health.firstRound
  t.equal((await get('/api/v1/extensions')).statusCode, 401)
  matchStrictly(t, (await get('/health')).json(), {
    status: 'degraded',
    backends: { gitea: { healthy: false, error: 'Authentication failed' } }
  })
})
