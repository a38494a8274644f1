import fc from 'fast-check'
import { equal, notEqual, ok } from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import Fastify, { type FastifyInstance, type LightMyRequestResponse } from 'fastify'
import fp from 'fastify-plugin'
import t, { type Test } from 'tap'
import registry, { serverOptions } from '../../../app.ts'
import { notFoundHandler } from '../../../plugins/errors.ts'
import { createClock } from '../../fakes/clock.ts'
import { createGiteaFake, provisioningContent } from '../../fakes/gitea.ts'
import type { FaultAction, LoopbackResponse } from '../../fakes/loopback.ts'
import { contentOf, createRegistryFake } from '../../fakes/registry.ts'
import { createJudge, routesOf, type Document } from '../../properties/openapi-answer.ts'
import { inputs, type Input } from '../../properties/openapi-input.ts'
import { holds, share, until } from '../../properties/run.ts'

/** Number of requests in a full run; fewer without `PROPERTIES=full`. */
const required = share(10_000)
const budget = 0.6
const timeout = 0.3
/** Maximum milliseconds of a response: several request budgets on a busy machine. */
const maximum = 6000

const owned = ['aws_prov', 'k3s_taskserv', 'web_cluster', 'onlyrc_prov', 'edge_cluster']
const content = provisioningContent()
content.repositories = content.repositories.filter(({ name }) => owned.includes(name))
const known = {
  name: ['aws', 'k3s', 'web', 'onlyrc', 'kubernetes', 'nothing'],
  version: ['latest', '1.2.0', 'v1.2.0', '1.27.5+k3s1', '0.9.0', '9.9.9'],
  q: ['aws', 'kubernetes', 'K', 'load balancer']
}

const html: LoopbackResponse = { status: 404, headers: { 'content-type': 'text/html' }, body: '<html>Not here</html>' }
const described = (status: number, body: string, headers = {}): LoopbackResponse => ({
  status,
  headers: { 'content-type': 'application/json', ...headers },
  body
})
/** Faults that do not prove an absence. */
const faults: FaultAction[] = [
  'refuse-reset',
  'hang',
  'stall',
  'truncate',
  'drip',
  html,
  { ...html, status: 200 },
  described(500, '{}'),
  described(502, 'x'),
  described(503, '{}', { 'retry-after': '3' }),
  described(429, '{}', { 'retry-after': '7' }),
  described(429, '{}'),
  described(401, '{}'),
  described(403, '{}'),
  described(200, '[{'),
  described(200, '"text"'),
  described(200, '{"ok":true}'),
  described(302, '', { location: 'http://169.254.169.254/' }),
  described(302, '', { location: '/user/login' }),
  described(200, '[]', { 'x-total-count': '99999999', link: '<https://x/?page=99999>; rel="last"' })
]
const places = [/./, /\/(?:repos|_catalog)\b/, /\/releases/, /\/(?:tags|manifests)\//, /\/(?:attachments|blobs)\//]

/** Operations with the same response to two requests, since it depends only on the catalog. */
const comparable = new Set([
  'listExtensions',
  'searchExtensions',
  'getExtension',
  'listExtensionVersions',
  'downloadExtension',
  'headExtension'
])

interface Switch {
  upstream: 0 | 1
  fault: number | undefined
  place: number
}
interface Step {
  switches: Switch[]
  forward: number
  inputs: Input[]
}

async function setUp (t: Test) {
  const gitea = await createGiteaFake(content)
  t.teardown(gitea.close)
  const oci = await createRegistryFake(await contentOf('examples/registry'), { flavour: 'zot' })
  t.teardown(oci.close)
  const config = {
    server: { request_budget_seconds: budget, public_url: 'https://registry.example.com' },
    gitea: { url: gitea.url, organization: 'provisioning', timeout_seconds: timeout },
    oci: [{ name: 'layouts', registry: 'examples/registry' }, {
      name: 'registry',
      registry: oci.url,
      timeout_seconds: timeout
    }]
  }
  async function start () {
    const clock = createClock()
    const app: FastifyInstance = Fastify({ ...serverOptions(), logger: { level: 'info', stream: { write: () => {} } } })
    app.setNotFoundHandler(notFoundHandler)
    app.addHook('onRequest', async (request, reply) => {
      reply.header('x-test-route', request.routeOptions.url ?? 'none')
    })
    await app.register(fp(registry), { config, clock: clock.now })
    await app.ready()
    return { app, clock }
  }
  const upstreams = [gitea, oci] as const
  const heal = () => {
    for (const upstream of upstreams) upstream.fault = undefined
  }
  return { start, heal, upstreams }
}

/**
 * Requests the list until the catalog is complete, and lets pauses expire. Returns undefined, or the last response if
 * the catalog stays incomplete.
 */
async function recovers (app: FastifyInstance, clock: ReturnType<typeof createClock>): Promise<string | undefined> {
  let last = ''
  for (let attempt = 0; attempt < 50; attempt++) {
    clock.forward(31)
    const { statusCode, headers } = await app.inject({ url: '/api/v1/extensions' })
    if (statusCode === 200 && headers['x-partial'] === undefined && headers['x-cache-ttl'] !== '0') return undefined
    last = `incomplete: ${statusCode} ${JSON.stringify(headers)}`
    await delay(50)
  }
  return last
}

await t.test('every operation responds to any request as documented, for any fault of its upstreams', async t => {
  const { start, heal, upstreams } = await setUp(t)
  const { app } = await start()
  const document = app.openapiDocument.json() as Document
  await app.close()
  const routes = routesOf(document)
  const judge = createJudge(document)
  const byRoute = new Map(routes.map(route => [`${route.method} ${route.path.replace(/\{(\w+)\}/g, ':$1')}`, route]))
  const counts = new Map(routes.map(({ operation }) => [operation.operationId, 0]))
  const statuses = new Map<number, number>()
  let slowest = 0
  /** Number of responses that were late without a fault, on a busy machine. */
  let slow = 0

  /**
   * Number of requests whose response was compared with the response to the same request without undeclared parameters.
   */
  let compared = 0

  /** Sends the request without the undeclared parameters, and compares: they may not change the response. */
  async function compare (
    app: FastifyInstance,
    { route, url, declaredUrl, headers }: Input,
    response: LightMyRequestResponse
  ): Promise<void> {
    if (url === declaredUrl || !comparable.has(route.operation.operationId)) return
    const plain = await app.inject({ url: declaredUrl, headers, method: route.method as 'GET' })
    // Either request may be late on a busy machine.
    if (plain.statusCode === 503 || response.statusCode === 503) return
    compared++
    const { headers: expected } = plain
    equal(response.statusCode, plain.statusCode, `undeclared parameters change the status: ${response.body}`)
    for (const name of ['link', 'x-total-count', 'content-disposition', 'content-range', 'repr-digest']) {
      equal(response.headers[name], expected[name], `undeclared parameters change ${name}`)
    }
    equal(
      String(response.headers.location).split('?', 1)[0],
      String(expected.location).split('?', 1)[0],
      'undeclared parameters change the target'
    )
    // The coding of a body may change once it has been compressed in the background.
    if (response.headers['content-encoding'] === expected['content-encoding']) {
      ok(response.rawPayload.equals(plain.rawPayload), `undeclared parameters change the body: ${response.body}`)
    }
  }

  async function send (app: FastifyInstance, input: Input, troubled: boolean): Promise<void> {
    const { route, kind, url, parameters, headers } = input
    const began = performance.now()
    const reply = await app.inject({ url, headers, method: route.method as 'GET' }).catch((error: unknown) =>
      error as Error
    )
    const took = performance.now() - began
    slowest = Math.max(slowest, took)
    const id = route.operation.operationId
    counts.set(id, (counts.get(id) ?? 0) + 1)
    const what = `${route.method} ${url}`
    ok(took < maximum, `${what}: ${took} ms`)
    if (reply instanceof Error) {
      // A download that fails after its headers cannot change its status.
      ok(troubled && id === 'downloadExtension', `${what}: ${reply.message}`)
      return
    }
    try {
      const { statusCode: status } = reply
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
      notEqual(status, 500)
      const late = status === 503 && id !== 'getReadiness' &&
        /timeout|^$/.test(String(reply.headers['proxy-status'] ?? ''))
      if (!troubled && late) slow++
      else {
        ok(
          troubled || ![401, 429, 503].includes(status),
          `${status} without a fault: ${reply.body} ${JSON.stringify(reply.headers)}`
        )
      }
      // An unencoded value may reach another operation, so the response is checked against the operation that handled
      // it.
      const template = reply.headers['x-test-route']
      if (template === 'none') return judge.checkUnknown(reply)
      const answering = template === undefined ? route : byRoute.get(`${route.method} ${String(template)}`)
      if (answering === undefined) return ok(kind === 'either', 'another route')
      judge.check(answering, reply)
      if (kind === 'valid') notEqual(status, 400, reply.body)
      if (kind === 'invalid') equal(status, 400)
      const { type, name, source } = parameters
      if (
        kind === 'valid' && (id === 'getExtension' || id === 'listExtensionVersions') && type === 'provider' &&
        name === 'aws' && source !== 'source=oci'
      ) notEqual(status, 404, 'an outage is not reported as 404')
      if (!troubled) await compare(app, input, reply)
    } catch (error) {
      throw new Error(`${what} ${JSON.stringify(headers)}: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error
      })
    }
  }

  const fault = fc.oneof({ weight: 2, arbitrary: fc.constant(undefined) }, {
    weight: 3,
    arbitrary: fc.nat(faults.length - 1)
  })
  const step: fc.Arbitrary<Step> = fc.record({
    switches: fc.oneof({ weight: 3, arbitrary: fc.constant<Switch[]>([]) }, {
      weight: 2,
      arbitrary: fc.array(
        fc.record({ upstream: fc.constantFrom(0 as const, 1 as const), fault, place: fc.nat(places.length - 1) }),
        { maxLength: 2 }
      )
    }),
    forward: fc.constantFrom(0, 0, 1, 31, 301, 90_000),
    inputs: fc.array(
      fc.oneof(
        ...routes.map(route => ({
          weight: 1 + (route.operation.parameters?.length ?? 0),
          arbitrary: inputs(route, known)
        }))
      ),
      { minLength: 55, maxLength: 75, size: 'max' }
    )
  })

  const steps = fc.array(step, { minLength: 5, maxLength: 8, size: 'max' })
  const requested = () => [...counts.values()].reduce((sum, count) => sum + count, 0)
  await holds(
    t,
    fc.asyncProperty(
      steps,
      until(() => requested() >= required, async steps => {
        heal()
        const { app, clock } = await start()
        try {
          equal(await recovers(app, clock), undefined)
          let troubled = false
          for (const { switches, forward, inputs } of steps) {
            for (const { upstream, fault, place } of switches) {
              const action = fault === undefined ? undefined : faults[fault]
              troubled ||= action !== undefined
              upstreams[upstream].fault = action === undefined
                ? undefined
                : ({ path }) => places[place]?.test(path) === true ? action : undefined
            }
            clock.forward(forward)
            await Promise.all(inputs.map(async input => {
              await send(app, input, troubled)
            }))
          }
          heal()
          equal(await recovers(app, clock), undefined)
        } finally {
          await app.close()
        }
      })
    ),
    { runs: share(60) }
  )

  const cases = requested()
  t.comment(
    `${cases} cases over ${routes.length} operations: ${[...counts].map(([id, count]) => `${id} ${count}`).join(', ')}`
  )
  t.comment(
    `statuses: ${
      [...statuses].sort(([a], [b]) => a - b).map(([status, count]) =>
        `${status} ${count}`
      ).join(', ')
    }; slowest ${Math.round(slowest)} ms, ${slow} late though nothing was wrong`
  )
  t.ok(cases >= required, `at least ${required} cases`)
  t.comment(`${compared} responses compared with those to the same requests without undeclared parameters`)
  t.ok(compared >= cases / 50, 'enough responses to undeclared parameters are compared')
  t.ok(slow <= cases / 20, 'few responses are late without a fault')
  t.ok([...counts.values()].every(count => count > 0), 'every operation is requested')
})
