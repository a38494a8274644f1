import t from 'tap'
import { createBreaker } from '../../../backends/cached/breaker.ts'
import { registryError } from '../../../lib/errors.ts'
import { createClock } from '../../fakes/clock.ts'
import { matchStrictly } from '../../fakes/match.ts'

function setUp () {
  const clock = createClock()
  const breaker = createBreaker(clock.now)
  let requested = 0
  const send = async (outcome: () => Promise<string>, options?: Parameters<typeof breaker.run>[1]) =>
    await breaker.run(async () => {
      requested++
      return await outcome()
    }, options)
  return { clock, breaker, send, requested: () => requested }
}
const down = registryError('service_unavailable', 'Instance gitea is unavailable', {
  instance: 'gitea',
  details: 'Connection refused',
  proxyError: 'connection_refused'
})
const fails = async (): Promise<string> => {
  throw down
}
const works = async (): Promise<string> => 'result'

await t.test('three consecutive failures open the circuit, each failed test extends the pause, and a successful test ' +
  'closes the circuit', async t => {
  const { clock, breaker, send, requested } = setUp()
  for (let times = 0; times < 2; times++) await t.rejects(send(fails), down)
  t.equal(breaker.state, 'closed')
  await t.rejects(send(fails), down)
  t.equal(breaker.state, 'open')
  matchStrictly(t, breaker.blocked(), {
    code: 'service_unavailable',
    retryAfter: 1,
    instance: 'gitea',
    details: 'Connection refused',
    proxyError: 'connection_refused'
  })
  await t.rejects(send(works), { code: 'service_unavailable', retryAfter: 1 })
  t.equal(requested(), 3, 'no request is sent while the circuit is open')

  for (const seconds of [2, 4, 8, 16, 30, 30]) {
    clock.forward(100)
    t.equal(breaker.state, 'half-open')
    t.equal(breaker.blocked(), undefined)
    await t.rejects(send(fails), down)
    matchStrictly(t, breaker.blocked(), { retryAfter: seconds })
  }
  clock.forward(31)
  t.equal(await send(works), 'result')
  t.equal(breaker.state, 'closed')
  for (let times = 0; times < 3; times++) await t.rejects(send(fails), down)
  matchStrictly(t, breaker.blocked(), { retryAfter: 1 }, 'the first pause is one second again')
})

await t.test('a circuit stays closed while successes interrupt the failures', async t => {
  const { breaker, send } = setUp()
  for (let times = 0; times < 10; times++) {
    for (const outcome of [fails, fails, works]) await send(outcome).catch(() => {})
  }
  t.equal(breaker.state, 'closed')
})

await t.test('one request tests a half-open circuit, and other requests wait for its result', async t => {
  const { clock, breaker, send, requested } = setUp()
  for (let times = 0; times < 3; times++) await t.rejects(send(fails), down)
  clock.forward(2)
  const { promise, resolve } = Promise.withResolvers<string>()
  const test = send(async () => await promise)
  await new Promise(resolve => setImmediate(resolve))
  matchStrictly(t, breaker.blocked(), { code: 'service_unavailable', instance: 'gitea' })
  const second = send(works)
  await new Promise(resolve => setImmediate(resolve))
  t.equal(requested(), 4)
  resolve('back')
  t.strictSame(await Promise.all([test, second]), ['back', 'result'])
  t.equal(breaker.state, 'closed')
})

await t.test('a Retry-After opens the circuit at once; neither a success nor a probe ends the pause early', async t => {
  const { clock, breaker, send, requested } = setUp()
  const { promise, resolve } = Promise.withResolvers<string>()
  const underWay = send(async () => await promise)
  const limited = registryError('rate_limit', 'Slow down', { instance: 'gitea', retryAfter: 120 })
  await t.rejects(send(async () => { throw limited }), limited)
  resolve('late result')
  await underWay
  matchStrictly(t, breaker.blocked(), { code: 'rate_limit', retryAfter: 120 })
  clock.forward(60)
  await t.rejects(send(works, { probe: true }), { code: 'rate_limit', retryAfter: 60 })
  t.equal(requested(), 2)
  clock.forward(61)
  t.equal(breaker.blocked(), undefined)
  t.equal(await send(works), 'result')
})

await t.test('a Retry-After cannot stop the requests to an upstream for more than ten minutes', async t => {
  const { clock, breaker, send } = setUp()
  await t.rejects(send(async () => {
    throw registryError('service_unavailable', 'Gone fishing', { retryAfter: 86_400 })
  }))
  clock.forward(599)
  t.equal(breaker.state, 'open')
  clock.forward(2)
  t.equal(breaker.blocked(), undefined)
})

await t.test('a probe is sent while the circuit is open, and its success closes the circuit', async t => {
  const { breaker, send } = setUp()
  for (let times = 0; times < 3; times++) await t.rejects(send(fails), down)
  t.equal(await send(works, { probe: true }), 'result')
  t.equal(breaker.state, 'closed')
  t.equal(breaker.blocked(), undefined)
})

await t.test('forgiven failures, bugs and local connection limits do not open the circuit', async t => {
  const { breaker, send } = setUp()
  for (let times = 0; times < 9; times++) {
    await t.rejects(send(fails, { forgives: () => true }), down)
    await t.rejects(send(async () => {
      throw registryError('internal_error', 'A bug')
    }))
    await t.rejects(send(async () => {
      throw registryError('service_unavailable', 'Full', { proxyError: 'connection_limit_reached', retryAfter: 1 })
    }))
    await t.rejects(
      send(async () => {
        throw new TypeError('A bug')
      }),
      TypeError
    )
  }
  t.equal(breaker.state, 'closed')
})

await t.test('the circuit does not depend on the wall clock, which can jump', async t => {
  const { clock, breaker, send } = setUp()
  const now = Date.now
  t.teardown(() => { Date.now = now })
  for (let times = 0; times < 3; times++) await t.rejects(send(fails), down)
  Date.now = () => now() - 3_600_000
  clock.forward(2)
  t.equal(await send(works), 'result')
  for (let times = 0; times < 3; times++) await t.rejects(send(fails), down)
  Date.now = () => now() + 3_600_000
  t.equal(breaker.state, 'open')
})

await t.test('a probe does not wait for a slow test', async t => {
  const { clock, breaker, send } = setUp()
  for (let times = 0; times < 3; times++) await t.rejects(send(fails), down)
  clock.forward(2)
  const { promise, resolve } = Promise.withResolvers<string>()
  const test = send(async () => await promise)
  t.equal(await send(works, { probe: true }), 'result')
  await t.rejects(send(fails, { probe: true }), down)
  resolve('back')
  t.equal(await test, 'back')
  t.equal(breaker.state, 'closed', 'results of probes during a test are ignored')
})

await t.test('a forgiven failure without a response does not close the circuit, and an invalid response closes ' +
  'it', async t => {
  const { clock, breaker, send } = setUp()
  for (let times = 0; times < 3; times++) await t.rejects(send(fails), down)
  clock.forward(2)
  await t.rejects(send(fails, { forgives: () => true }), down)
  t.equal(breaker.state, 'open')
  clock.forward(3)
  const badly = registryError('service_unavailable', 'Not JSON', { proxyError: 'http_protocol_error' })
  await t.rejects(send(async () => { throw badly }, { forgives: () => true }), badly)
  t.equal(breaker.state, 'closed', 'an invalid response proves that the upstream is available')
})

const failsFor = (upstreamStatus: number) => async (): Promise<string> => {
  throw registryError('service_unavailable', 'Failed', { proxyError: 'destination_unavailable', upstreamStatus })
}
const aboutName = (extension: string) => ({ extension, forgives: () => true })

await t.test(
  'five different names that fail consecutively open the circuit, and only a success that is not shallow ' +
    'closes it',
  async t => {
    const { clock, breaker, send, requested } = setUp()
    for (const name of ['a', 'b', 'c', 'd', 'd', 'a']) await t.rejects(send(failsFor(500), aboutName(name)))
    t.equal(breaker.state, 'closed')
    t.equal(await send(works, { probe: true, shallow: true }), 'result')
    await t.rejects(send(failsFor(503), aboutName('e')))
    t.equal(breaker.state, 'open')
    matchStrictly(
      t,
      breaker.blocked(() => true),
      { code: 'service_unavailable' },
      'a request that could pass after other ' +
        'failures is refused'
    )
    t.equal(await send(works, { probe: true, shallow: true }), 'result')
    t.equal(breaker.state, 'open', 'a shallow probe does not close the circuit')
    const before = requested()
    await t.rejects(send(works, { shallow: true }))
    t.equal(requested(), before)
    clock.forward(2)
    t.equal(await send(works, { shallow: true }), 'result')
    t.equal(breaker.state, 'half-open')
    await t.rejects(send(failsFor(500), aboutName('f')))
    matchStrictly(t, breaker.blocked(), { retryAfter: 2 })
    clock.forward(3)
    t.equal(await send(works, aboutName('g')), 'result')
    t.equal(breaker.state, 'closed')
    t.equal(breaker.blocked(), undefined)
  }
)

await t.test('successes, refusals, invalid content, 4xx responses and failures without a name do not count as ' +
  'failing names', async t => {
  const { breaker, send } = setUp()
  const between = [works, async () => {
    throw registryError('auth_error', 'Refused', { proxyError: 'destination_unavailable', upstreamStatus: 403 })
  }, async () => {
    throw registryError('service_unavailable', 'Not JSON', { proxyError: 'http_protocol_error' })
  }]
  for (const outcome of between) {
    for (let name = 0; name < 12; name++) {
      await t.rejects(send(failsFor(500), aboutName(`n${name}`)))
      if (name % 3 === 0) await send(outcome, aboutName('other')).catch(() => {})
    }
    await send(works)
  }
  for (let name = 0; name < 12; name++) await t.rejects(send(failsFor(405), aboutName(`n${name}`)))
  for (let name = 0; name < 12; name++) await t.rejects(send(failsFor(500), { forgives: () => true }))
  t.equal(breaker.state, 'closed')
})

await t.test('a test that is refused for its own name closes the circuit, because the upstream responds', async t => {
  const { clock, breaker, send } = setUp()
  for (let times = 0; times < 3; times++) await t.rejects(send(fails), down)
  clock.forward(2)
  await t.rejects(send(async () => {
    throw registryError('auth_error', 'Refused', { proxyError: 'destination_unavailable' })
  }, { forgives: () => true }))
  t.equal(breaker.state, 'closed')
})

await t.test('a slow request tests the circuit as well, and other requests are not refused meanwhile', async t => {
  for (const [outcome, state] of [[works, 'closed'], [fails, 'open']] as const) {
    const { clock, breaker, send, requested } = setUp()
    for (let times = 0; times < 3; times++) await t.rejects(send(fails), down)
    clock.forward(2)
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const slow = send(async () => await promise.then(outcome), { slow: true })
    await new Promise(resolve => setImmediate(resolve))
    t.equal(breaker.blocked(), undefined)
    t.equal(breaker.state, 'half-open')
    resolve(undefined)
    if (outcome === works) t.equal(await slow, 'result')
    else await t.rejects(slow, down)
    t.equal(breaker.state, state)
    t.equal(requested(), 4, 'one request reached the upstream')
  }
})

await t.test('a slow request returns its result although another request opens the circuit meanwhile', async t => {
  const { clock, breaker, send } = setUp()
  for (let times = 0; times < 3; times++) await t.rejects(send(fails), down)
  clock.forward(2)
  const { promise, resolve } = Promise.withResolvers<undefined>()
  const slow = send(async () => await promise.then(works), { slow: true })
  await new Promise(resolve => setImmediate(resolve))
  await t.rejects(send(fails), down)
  resolve(undefined)
  t.equal(await slow, 'result')
  t.equal(breaker.state, 'open')
})
