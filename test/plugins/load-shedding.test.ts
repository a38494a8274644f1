import underPressure from '@fastify/under-pressure'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import registry from '../../app.ts'
import { createLoadShedding } from '../../plugins/load-shedding.ts'
import { startApp } from '../fakes/app.ts'
import { hasLine, matchStrictly } from '../fakes/match.ts'

const oci = { registry: 'examples/registry' }
const list = '/api/v1/extensions?limit=1'
const delay = 0.02

/** Blocks the event loop for this time. */
function block (milliseconds: number): void {
  const end = performance.now() + milliseconds
  while (performance.now() < end);
}

/** Blocks the event loop until the condition is true, at most 200 times; fails otherwise. */
async function overload (t: Test, until: () => Promise<boolean>): Promise<void> {
  for (let round = 0; round < 200; round++) {
    block(50)
    if (await until()) return
    await new Promise(resolve => { setImmediate(resolve) })
  }
  t.fail('never overloaded')
}

await t.test('a process with a late event loop refuses catalog requests, responds to probes, and recovers', async t => {
  const { app, get } = await startApp(t, { oci, server: { max_event_loop_delay_seconds: delay } })
  t.equal((await get(list)).statusCode, 200)
  let refused = await get(list)
  await overload(t, async () => {
    refused = await get(list)
    return refused.statusCode === 503
  })
  t.strictSame(refused.json(), { error: 'service_unavailable', message: 'The registry is overloaded' })
  matchStrictly(t, refused.headers, {
    'retry-after': /^\d+$/,
    'cache-control': 'no-store',
    'access-control-allow-origin': '*'
  })
  t.equal((await get('/api/v1/extensions/provider/aws/1.2.0')).statusCode, 503)
  for (
    const url of [
      '/health',
      '/api/v1/health',
      '/livez',
      '/readyz',
      '/metrics',
      '/api/v1/metrics',
      '/api/v1/cache/stats',
      '/docs',
      '/openapi.yaml'
    ]
  ) t.equal((await get(url)).statusCode, 200, url)
  hasLine(t, (await get('/metrics')).body, 'requests_shed_total{reason="event_loop"} 2')
  await new Promise<void>(resolve => {
    const look = setInterval(() => {
      void app.inject(list).then(({ statusCode }) => {
        if (statusCode !== 200) return
        clearInterval(look)
        resolve()
      })
    }, 50)
  })
  t.equal((await get(list)).statusCode, 200)
})

await t.test('a maximum delay of 0 refuses nothing', async t => {
  const { get } = await startApp(t, { oci, server: { max_event_loop_delay_seconds: 0 } })
  const watch = Fastify()
  t.teardown(async () => { await watch.close() })
  await watch.register(underPressure, { maxEventLoopDelay: delay * 1000, pressureHandler: () => {} })
  await watch.ready()
  await overload(t, async () => watch.isUnderPressure())
  t.equal((await get(list)).statusCode, 200)
})

await t.test('refused requests are counted', async t => {
  const reasons: string[] = []
  let late = false
  const shed = createLoadShedding({ isUnderPressure: () => late, observeShed: reason => { reasons.push(reason) } })
  t.equal(shed(), undefined)
  late = true
  matchStrictly(t, shed(), { code: 'service_unavailable', statusCode: 503 })
  t.strictSame(reasons, ['event_loop'])
})

await t.test('a registry works in a host that uses under-pressure, and next to a second registry', async t => {
  const host = Fastify()
  t.teardown(async () => { await host.close() })
  const pressed = { of: 'the host' }
  await host.register(underPressure, {
    maxEventLoopDelay: 0,
    maxHeapUsedBytes: 1,
    pressureHandler: (request) => {
      if (request.headers['x-press'] !== undefined) {
        throw Object.assign(new Error('pressed'), { statusCode: 503, pressed })
      }
    }
  })
  host.setErrorHandler(async (_error, _request, reply) => reply.code(418).send('the host'))
  await host.register(registry, { prefix: '/one', config: { oci } })
  await host.register(registry, { prefix: '/two', config: { oci } })
  for (const prefix of ['/one', '/two']) t.equal((await host.inject(`${prefix}${list}`)).statusCode, 200)
  t.equal(typeof host.memoryUsage().heapUsed, 'number')

  const bare = Fastify()
  t.teardown(async () => { await bare.close() })
  await bare.register(registry, { prefix: '/one', config: { oci } })
  await bare.register(underPressure)
  t.equal((await bare.inject(`/one${list}`)).statusCode, 200)
  t.notOk(Object.hasOwn(Object.getPrototypeOf(bare) as object, 'isUnderPressure'))
})

await t.test('a refusal by the load shedding of the host is reported as 503 in the envelope', async t => {
  const host = Fastify()
  t.teardown(async () => { await host.close() })
  await host.register(underPressure, { maxHeapUsedBytes: 1, sampleInterval: 10 })
  await host.register(registry, { prefix: '/one', config: { oci } })
  await host.ready()
  await overload(t, async () => host.isUnderPressure())
  const response = await host.inject(`/one${list}`)
  t.equal(response.statusCode, 503)
  matchStrictly(t, response.json(), { error: 'service_unavailable' })
  t.ok(response.headers['retry-after'])
})
