import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startApp } from '../fakes/app.ts'
import { createGiteaFake } from '../fakes/gitea.ts'
import { writeLayout } from '../fakes/layout.ts'
import { contentOf, createRegistryFake } from '../fakes/registry.ts'
import type { Loopback, LoopbackResponse } from '../fakes/loopback.ts'

const broken: LoopbackResponse = { status: 500, headers: { 'content-type': 'application/json' }, body: '{}' }
/** Matches the requests that do not concern a name: pings, lists of repositories. */
const general = /^\/v2\/(?:_catalog.*)?$|^\/api\/v1\/orgs\//

interface Upstream { kind: 'gitea' | 'oci', fake: Loopback, config: object }

const names = Array.from({ length: 12 }, (_, at) => `e${at}`)

async function upstreams (t: Test): Promise<Upstream[]> {
  const root = join(t.testdir({}), 'layouts')
  await writeLayout(
    root,
    names.map(name => ({
      repository: `provider/${name}`,
      tag: '1.0.0',
      layers: [{ content: name, title: `${name}.tar.gz` }]
    }))
  )
  const registry = await createRegistryFake(await contentOf(root))
  const gitea = await createGiteaFake({
    owner: { login: 'team' },
    repositories: names.map(name => ({
      name: `${name}_prov`,
      releases: [{ tag: '1.0.0', assets: [{ name: `${name}.tar.gz`, content: name }] }]
    }))
  })
  t.teardown(async () => {
    await Promise.all([registry.close(), gitea.close()])
  })
  return [{ kind: 'gitea', fake: gitea, config: { gitea: { url: gitea.url, organization: 'team' } } }, {
    kind: 'oci',
    fake: registry,
    config: { oci: { registry: registry.url } }
  }]
}

async function start (t: Test, { kind, config }: Upstream) {
  const { app, get, clock } = await startApp(t, { store: { enabled: false }, ...config }, { probeInterval: 3_600_000 })
  await app.health.firstRound
  const status = async (path: string) => (await get(`/api/v1/extensions${path}`)).statusCode
  const [instance] = app.catalog.instances
  const health = async () => (await get('/health')).json<{ backends: Record<string, object> }>().backends[kind]
  return { get, clock, status, health, instance, circuit: () => instance?.circuit }
}

await t.test('an upstream that responds 500 for one name after the other receives no further requests', async t => {
  for (const everything of [true, false]) {
    for (const upstream of await upstreams(t)) {
      const { kind, fake } = upstream
      const title = `${kind}, ${everything ? 'everything fails' : 'its ping and list work'}`
      const { status, clock, circuit } = await start(t, upstream)
      t.equal(await status(''), 200)
      fake.fault = ({ path }) => !everything && general.test(path) ? undefined : broken
      clock.forward(everything ? 301 : 60)
      fake.requests.length = 0
      for (let at = 0; at < 120; at++) {
        t.equal(await status(`/provider/unknown${at}`), 503, title)
        clock.forward(5 / 120)
      }
      t.ok(fake.requests.length <= 20, `${title}: ${fake.requests.length} requests instead of one for each name`)
      t.equal(circuit(), 'open', title)
    }
  }
})

await t.test('a circuit that failing names opened is reported by health, stays open while pings succeed, and is ' +
  'closed by a name', async t => {
  for (const upstream of await upstreams(t)) {
    const { fake, kind } = upstream
    const { status, clock, circuit, health, instance } = await start(t, upstream)
    t.equal(await status(''), 200)
    clock.forward(60)
    fake.fault = ({ path }) => general.test(path) ? undefined : broken
    for (let at = 0; at < 4; at++) await status(`/provider/unknown${at}`)
    t.equal(circuit(), 'closed', `${kind}: four names`)
    await status('/provider/unknown4')
    for (let probes = 0; probes < 3; probes++) await instance?.ping(AbortSignal.timeout(5000))
    t.strictSame(await health(), { enabled: true, healthy: true, circuit: 'open' })
    t.equal(await status('/provider/e1'), 200, 'known names get a response')
    clock.forward(1.5)
    await instance?.ping(AbortSignal.timeout(5000))
    t.equal(circuit(), 'half-open')
    fake.requests.length = 0
    t.equal(await status('/provider/unknown5'), 503)
    t.equal(circuit(), 'open')
    const tested = fake.requests.length
    t.equal(await status('/provider/unknown6'), 503)
    t.equal(fake.requests.length, tested, 'no request is sent while the circuit is open')
    fake.fault = undefined
    clock.forward(2.5)
    t.equal(await status('/provider/unknown7'), 404)
    t.strictSame(await health(), { enabled: true, healthy: true })
  }
})

await t.test('names of a recovered upstream are not refused during a slow crawl', async t => {
  for (const upstream of await upstreams(t)) {
    const { fake, kind } = upstream
    const { status, clock, circuit } = await start(t, upstream)
    t.equal(await status(''), 200)
    fake.fault = ({ path }) => general.test(path) ? undefined : broken
    clock.forward(60)
    for (let at = 0; at < 5; at++) await status(`/provider/unknown${at}`)
    t.equal(circuit(), 'open', kind)
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const { promise: crawling, resolve: crawls } = Promise.withResolvers<undefined>()
    fake.fault = ({ path }) => {
      if (!/\be0(?:_prov)?\//.test(path)) return undefined
      crawls(undefined)
      return promise
    }
    clock.forward(301)
    const list = status('')
    await crawling
    t.equal(await status('/provider/unknown5'), 404, kind)
    t.equal(circuit(), 'closed', kind)
    resolve(undefined)
    t.equal(await list, 200)
  }
})

await t.test('one name that fails repeatedly does not open the circuit, nor do failing names with successes in ' +
  'between', async t => {
  for (const upstream of await upstreams(t)) {
    const { fake, kind } = upstream
    const { status, clock, circuit } = await start(t, upstream)
    t.equal(await status(''), 200)
    clock.forward(60)
    fake.fault = ({ path }) => /bad/.test(path) ? broken : undefined
    for (let at = 0; at < 12; at++) t.equal(await status('/provider/bad'), 503)
    for (let at = 0; at < 12; at++) {
      t.equal(await status(`/provider/bad${at}`), 503)
      if (at % 3 === 2) t.equal(await status(`/provider/unknown${at}`), 404)
    }
    t.equal(circuit(), 'closed', kind)
  }
})

await t.test('refused, absent and malformed names count as responses and do not open the circuit', async t => {
  const responses: LoopbackResponse[] = [401, 403, 404].map(status => ({
    ...broken,
    status,
    body: '{"errors":[{"code":"DENIED","message":"denied"}]}'
  }))
  for (const upstream of await upstreams(t)) {
    const { fake, kind } = upstream
    for (const response of [...responses, { ...broken, status: 200, body: '{"a":' }]) {
      const { status, clock, circuit } = await start(t, upstream)
      t.equal(await status(''), 200)
      clock.forward(60)
      fake.fault = ({ path }) => /unknown/.test(path) ? response : undefined
      for (let at = 0; at < 12; at++) await status(`/provider/unknown${at}`)
      t.equal(circuit(), 'closed', `${kind} ${response.status}`)
      fake.fault = undefined
    }
  }
})

await t.test('files of different extensions that fail consecutively open the circuit, and files of one extension do ' +
  'not', async t => {
  for (const upstream of await upstreams(t)) {
    const { fake, kind } = upstream
    const { status, circuit } = await start(t, upstream)
    for (const name of names) t.equal(await status(`/provider/${name}/versions`), 200)
    fake.fault = ({ path }) => /\/blobs\/|\/attachments\//.test(path) ? broken : undefined
    for (let times = 0; times < 8; times++) t.equal(await status('/provider/e0/1.0.0'), 503)
    t.equal(circuit(), 'closed', `${kind}: one extension`)
    fake.requests.length = 0
    for (const name of names) t.equal(await status(`/provider/${name}/1.0.0`), 503)
    t.equal(circuit(), 'open', `${kind}: different extensions`)
    t.ok(
      fake.count(/\/blobs\/|\/attachments\//) < names.length,
      `${kind}: ${fake.count(/\/blobs\/|\/attachments\//)} requests`
    )
  }
})

await t.test('a failing token server and a rate limit open the circuit of the instance although each request has ' +
  'another name', async t => {
  const failures: Array<[title: string, circuit: string, response: LoopbackResponse]> = [
    ['the token server responds 500', 'open', broken],
    ['429 without Retry-After', 'open', { ...broken, status: 429 }],
    ['503 with Retry-After', 'open', { ...broken, status: 503, headers: { ...broken.headers, 'retry-after': '120' } }]
  ]
  for (const [title, expected, response] of failures) {
    const [, registry] = await upstreams(t)
    if (registry === undefined) throw new Error('no registry')
    const { fake } = registry
    const token = title.includes('token')
    if (token) Object.assign((fake as unknown as { options: object }).options, { auth: 'bearer' })
    const { status, clock, circuit, get } = await start(t, registry)
    t.equal(await status(''), 200)
    clock.forward(60)
    fake.fault = ({ path }) => /unknown/.test(path) ? response : undefined
    for (let at = 0; at < 6; at++) await status(`/provider/unknown${at}`)
    t.equal(circuit(), expected, title)
    if (response.status === 503) {
      t.equal((await get('/api/v1/extensions/provider/unknown')).headers['retry-after'], '120', 'the Retry-After of ' +
        'the upstream is passed on')
      clock.forward(119)
      t.equal(circuit(), 'open')
    }
  }
})
