import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { HealthResponse } from '../../schemas/health.ts'
import { readFileSync } from 'node:fs'
import { startApp } from '../fakes/app.ts'
import { createGiteaFake, provisioningContent, type GiteaFake } from '../fakes/gitea.ts'
import { writeLayout } from '../fakes/layout.ts'
import { hasLine, matchStrictly } from '../fakes/match.ts'

async function layouts (t: Test) {
  const root = join(t.testdir({}), 'layouts')
  await writeLayout(root, [{ repository: 'provider/aws', tag: '1.0.0' }, { repository: 'taskserv/k3s', tag: '1.0.0' }])
  return root
}

await t.test('an instance is unhealthy before its first probe, and its health is correct afterwards', async t => {
  const { app, get } = await startApp(t, { oci: { registry: await layouts(t) } })
  await app.health.firstRound
  const response = await get('/health')
  matchStrictly(t, [response.statusCode, response.headers['cache-control']], [200, 'no-store'])
  matchStrictly(t, response.json(), {
    status: 'healthy',
    version: /^\d+\.\d+\.\d+/,
    backends: { gitea: { enabled: false, healthy: false }, oci: { enabled: true, healthy: true } }
  })
  t.ok(Number.isInteger(response.json<HealthResponse>().uptime))
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  t.equal(response.json<HealthResponse>().version, version)
  t.strictSame(
    Object.keys(response.json<HealthResponse>().backends.oci).sort(),
    ['enabled', 'healthy'],
    'no error if healthy'
  )
  t.strictSame((await get('/api/v1/health')).json<HealthResponse>().backends, response.json<HealthResponse>().backends)

  const gitea = await createGiteaFake(provisioningContent())
  t.teardown(gitea.close)
  gitea.fault = () => 'hang'
  const early = await startApp(t, { gitea: { url: gitea.url, organization: 'provisioning' } }, { probeTimeout: 50 })
  matchStrictly(t, (await early.get('/health')).json(), {
    status: 'degraded',
    backends: { gitea: { enabled: true, healthy: false, error: 'Not checked yet' } }
  })
  t.equal((await early.get('/readyz')).statusCode, 503, 'data is not loaded yet')
  await early.app.health.firstRound
  matchStrictly(t, (await early.get('/health')).json(), {
    status: 'degraded',
    backends: { gitea: { healthy: false, error: 'Connection timeout' } }
  })
  t.equal((await early.get('/livez')).statusCode, 200)
})

await t.test('an instance that hangs does not delay the probes of other instances', async t => {
  const fakes = [await createGiteaFake(provisioningContent()), await createGiteaFake(provisioningContent())]
  for (const fake of fakes) t.teardown(fake.close)
  const [hanging, good] = fakes as [GiteaFake, GiteaFake]
  hanging.fault = () => 'hang'
  const instance = (name: string, { url }: GiteaFake) => ({ name, url, organization: 'provisioning' })
  await startApp(t, { gitea: [instance('hanging', hanging), instance('good', good)] }, {
    probeInterval: 20,
    probeTimeout: 600_000
  })
  t.ok(await good.arrived(/limit=1\b/, 5))
  t.equal(hanging.count(/limit=1\b/), 1)
})

await t.test('several instances of a kind are reported separately', async t => {
  const root = await layouts(t)
  const { app, get } = await startApp(t, {
    oci: [{ name: 'good', registry: root }, { name: 'bad', registry: join(root, 'nowhere') }]
  })
  await app.health.firstRound
  t.strictSame((await get('/health')).json<HealthResponse>().backends.oci, {
    enabled: true,
    healthy: false,
    error: 'bad: Directory does not exist',
    instances: {
      good: { enabled: true, healthy: true },
      bad: { enabled: true, healthy: false, error: 'Directory does not exist' }
    }
  })
})

await t.test('draining ends readiness, but not liveness', async t => {
  const { app, get } = await startApp(t, { oci: { registry: await layouts(t) } })
  await app.health.firstRound
  matchStrictly(t, [(await get('/readyz')).statusCode, (await get('/readyz')).json()], [200, { status: 'ok' }])
  app.health.drain()
  matchStrictly(t, [(await get('/readyz')).statusCode, (await get('/readyz')).json()], [503, {
    error: 'service_unavailable'
  }])
  t.equal((await get('/livez')).statusCode, 200)
  t.equal((await get('/api/v1/extensions')).statusCode, 200, 'requests are still accepted')
})

await t.test('the documented metrics exist from the start, at both paths', async t => {
  const { app, get } = await startApp(t, { oci: { registry: await layouts(t) } })
  const first = await get('/metrics')
  t.match(first.headers['content-type'], /^text\/plain; version=0\.0\.4/)
  for (
    const name of [
      'http_requests_total',
      'http_request_duration_seconds_bucket',
      'http_request_duration_seconds_sum',
      'http_request_duration_seconds_count',
      'cache_hits_total',
      'cache_misses_total',
      'extensions_total'
    ]
  ) {
    t.match(first.body, new RegExp(`^${name}(?:\\{[^}]*\\})? \\d`, 'm'), name)
  }
  await get('/api/v1/extensions')
  await get('/api/v1/extensions/provider/secret-name')
  await get('/secret-path')
  const { body } = await get('/api/v1/metrics')
  hasLine(t, body, 'http_requests_total{method="GET",route="/api/v1/extensions",status="200"} 1')
  hasLine(t, body, 'http_requests_total{method="GET",route="/api/v1/extensions/:type/:name",status="404"} 1')
  hasLine(t, body, 'http_requests_total{method="GET",route="unknown",status="404"} 1')
  hasLine(t, body, 'extensions_total{type="provider",source="oci"} 1')
  hasLine(t, body, 'extensions_total{type="cluster",source="oci"} 0')
  t.notMatch(body, /secret/, 'paths are not labels')
  const { hits, misses } = app.cache.statistics().list
  hasLine(t, body, `cache_hits_total{section="list"} ${hits}`)
  hasLine(t, body, `cache_misses_total{section="list"} ${misses}`)
  t.ok(hits > 0 && misses > 0)
  for (const name of ['process_cpu_seconds_total', 'nodejs_eventloop_lag_seconds', 'process_resident_memory_bytes']) {
    t.match(body, new RegExp(`^${name} \\d`, 'm'), name)
  }
})

await t.test('upstream requests, skipped items and circuit states are counted', async t => {
  const gitea = await createGiteaFake(provisioningContent())
  t.teardown(gitea.close)
  const { get, clock } = await startApp(t, {
    gitea: { url: gitea.url, organization: 'provisioning', timeout_seconds: 1 }
  })
  await get('/api/v1/extensions')
  clock.forward(301)
  await get('/api/v1/extensions')
  const counted = () => `upstream_requests_total{backend="gitea",status="200"} ${gitea.requests.length}`
  // A request is counted when its response has arrived, and the refresh runs in the background.
  let body
  do ({ body } = await get('/metrics'))
  while (!body.split('\n').includes(counted()))
  hasLine(t, body, 'extensions_skipped_total{backend="gitea",reason="not_semver"} 2', 'each item is counted once')
  t.match(body, /^backend_circuit\{backend="gitea",state="closed"\} 1$/m)
  await gitea.stop()
  clock.forward(31)
  for (let times = 0; times < 3; times++) {
    t.equal((await get(`/api/v1/extensions/provider/nowhere${times}`)).statusCode, 503)
  }
  t.match((await get('/metrics')).body, /^backend_circuit\{backend="gitea",state="open"\} 1$/m)
  matchStrictly(t, (await get('/health')).json<HealthResponse>().backends.gitea, { circuit: 'open' })
  const refused = await get('/api/v1/extensions/provider/nowhere')
  matchStrictly(t, refused.headers, { 'proxy-status': 'gitea; error=connection_refused', 'retry-after': /^\d+$/ })
})

await t.test('cache statistics count the entries of each section', async t => {
  const { get } = await startApp(t, { oci: { registry: await layouts(t) } })
  await get('/api/v1/extensions')
  await get('/api/v1/extensions/provider/aws/versions')
  const response = await get('/api/v1/cache/stats')
  t.strictSame(response.json(), {
    list_entries: 3,
    metadata_entries: 1,
    version_entries: 1,
    total_entries: 5,
    store_entries: 0,
    store_bytes: 0
  })
})

await t.test('the OpenAPI document and its page are served', async t => {
  const { get } = await startApp(t, { oci: { registry: await layouts(t) } })
  matchStrictly(t, (await get('/openapi.json')).json(), { openapi: '3.1.0', info: { version: '1.0.0' } })
  t.match((await get('/openapi.yaml')).body, /^openapi: 3\.1\.0\n/)
  t.match((await get('/openapi.yaml')).headers['content-type'], /yaml/)
  const page = (await get('/docs')).body
  t.match(page, /Extension registry/)
  const links = [...page.matchAll(/(?:href|src)="([^"]+)"/g)].map(([, link = '']) => link)
  t.ok(links.length > 4)
  for (const link of links) t.equal((await get(new URL(link, 'http://host/docs').pathname)).statusCode, 200, link)
})
