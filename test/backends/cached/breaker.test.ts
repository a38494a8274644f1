import t from 'tap'
import { createBreaker } from '../../../backends/cached/breaker.ts'
import { registryError } from '../../../lib/errors.ts'
import { createClock } from '../../fakes/clock.ts'

function setUp () {
  const clock = createClock()
  const breaker = createBreaker(clock.now)
  let asked = 0
  const ask = async (outcome: () => Promise<string>, options?: Parameters<typeof breaker.run>[1]) =>
    await breaker.run(async () => {
      asked++
      return await outcome()
    }, options)
  return { clock, breaker, ask, asked: () => asked }
}
const down = registryError('service_unavailable', 'Instance gitea is unavailable', {
  instance: 'gitea',
  details: 'Connection refused',
  proxyError: 'connection_refused'
})
const fails = async (): Promise<string> => {
  throw down
}
const works = async (): Promise<string> => 'answer'

await t.test('three failures in a row open it, for longer after each test that fails; a test that succeeds closes ' +
  'it', async t => {
  const { clock, breaker, ask, asked } = setUp()
  for (let times = 0; times < 2; times++) await t.rejects(ask(fails), down)
  t.equal(breaker.state, 'closed')
  await t.rejects(ask(fails), down)
  t.equal(breaker.state, 'open')
  t.match(breaker.blocked(), {
    code: 'service_unavailable',
    retryAfter: 1,
    instance: 'gitea',
    details: 'Connection refused',
    proxyError: 'connection_refused'
  })
  await t.rejects(ask(works), { code: 'service_unavailable', retryAfter: 1 })
  t.equal(asked(), 3, 'nothing is asked meanwhile')

  for (const seconds of [2, 4, 8, 16, 30, 30]) {
    clock.forward(100)
    t.equal(breaker.state, 'half-open')
    t.equal(breaker.blocked(), undefined)
    await t.rejects(ask(fails), down)
    t.match(breaker.blocked(), { retryAfter: seconds })
  }
  clock.forward(31)
  t.equal(await ask(works), 'answer')
  t.equal(breaker.state, 'closed')
  for (let times = 0; times < 3; times++) await t.rejects(ask(fails), down)
  t.match(breaker.blocked(), { retryAfter: 1 }, 'it begins anew')
})

await t.test('a success between failures keeps it closed', async t => {
  const { breaker, ask } = setUp()
  for (let times = 0; times < 10; times++) {
    for (const outcome of [fails, fails, works]) await ask(outcome).catch(() => {})
  }
  t.equal(breaker.state, 'closed')
})

await t.test('one question tests it, and nobody else asks meanwhile', async t => {
  const { clock, breaker, ask, asked } = setUp()
  for (let times = 0; times < 3; times++) await t.rejects(ask(fails), down)
  clock.forward(2)
  const { promise, resolve } = Promise.withResolvers<string>()
  const test = ask(async () => await promise)
  await new Promise(resolve => setImmediate(resolve))
  t.match(breaker.blocked(), { code: 'service_unavailable', instance: 'gitea' })
  const second = ask(works)
  await new Promise(resolve => setImmediate(resolve))
  t.equal(asked(), 4)
  resolve('back')
  t.strictSame(await Promise.all([test, second]), ['back', 'answer'])
  t.equal(breaker.state, 'closed')
})

await t.test('a Retry-After opens it at once, and no success ends that early, nor a probe', async t => {
  const { clock, breaker, ask, asked } = setUp()
  const { promise, resolve } = Promise.withResolvers<string>()
  const underWay = ask(async () => await promise)
  const limited = registryError('rate_limit', 'Slow down', { instance: 'gitea', retryAfter: 120 })
  await t.rejects(ask(async () => { throw limited }), limited)
  resolve('late answer')
  await underWay
  t.match(breaker.blocked(), { code: 'rate_limit', retryAfter: 120 })
  clock.forward(60)
  await t.rejects(ask(works, { probe: true }), { code: 'rate_limit', retryAfter: 60 })
  t.equal(asked(), 2)
  clock.forward(61)
  t.equal(breaker.blocked(), undefined)
  t.equal(await ask(works), 'answer')
})

await t.test('an upstream cannot silence itself for more than ten minutes', async t => {
  const { clock, breaker, ask } = setUp()
  await t.rejects(ask(async () => {
    throw registryError('service_unavailable', 'Gone fishing', { retryAfter: 86_400 })
  }))
  clock.forward(599)
  t.equal(breaker.state, 'open')
  clock.forward(2)
  t.equal(breaker.blocked(), undefined)
})

await t.test('a probe asks although it is open, and closes it when it succeeds', async t => {
  const { breaker, ask } = setUp()
  for (let times = 0; times < 3; times++) await t.rejects(ask(fails), down)
  t.equal(await ask(works, { probe: true }), 'answer')
  t.equal(breaker.state, 'closed')
  t.equal(breaker.blocked(), undefined)
})

await t.test('what is forgiven, a bug, and a bound of its own open nothing', async t => {
  const { breaker, ask } = setUp()
  for (let times = 0; times < 9; times++) {
    await t.rejects(ask(fails, { forgives: () => true }), down)
    await t.rejects(ask(async () => {
      throw registryError('internal_error', 'A bug')
    }))
    await t.rejects(ask(async () => {
      throw registryError('service_unavailable', 'Full', { proxyError: 'connection_limit_reached', retryAfter: 1 })
    }))
    await t.rejects(
      ask(async () => {
        throw new TypeError('A bug')
      }),
      TypeError
    )
  }
  t.equal(breaker.state, 'closed')
})

await t.test('it does not follow the wall clock, which jumps', async t => {
  const { clock, breaker, ask } = setUp()
  const now = Date.now
  t.teardown(() => { Date.now = now })
  for (let times = 0; times < 3; times++) await t.rejects(ask(fails), down)
  Date.now = () => now() - 3_600_000
  clock.forward(2)
  t.equal(await ask(works), 'answer')
  for (let times = 0; times < 3; times++) await t.rejects(ask(fails), down)
  Date.now = () => now() + 3_600_000
  t.equal(breaker.state, 'open')
})

await t.test('a probe does not wait for a test that takes its time', async t => {
  const { clock, breaker, ask } = setUp()
  for (let times = 0; times < 3; times++) await t.rejects(ask(fails), down)
  clock.forward(2)
  const { promise, resolve } = Promise.withResolvers<string>()
  const test = ask(async () => await promise)
  t.equal(await ask(works, { probe: true }), 'answer')
  await t.rejects(ask(fails, { probe: true }), down)
  resolve('back')
  t.equal(await test, 'back')
  t.equal(breaker.state, 'closed', 'what probes said meanwhile counts for nothing')
})

await t.test('a test that proves nothing, for its client has gone, closes nothing', async t => {
  const { clock, breaker, ask } = setUp()
  for (let times = 0; times < 3; times++) await t.rejects(ask(fails), down)
  clock.forward(2)
  await t.rejects(ask(fails, { forgives: () => true }), down)
  t.equal(breaker.state, 'open')
  clock.forward(3)
  const badly = registryError('service_unavailable', 'Not JSON', { proxyError: 'http_protocol_error' })
  await t.rejects(ask(async () => { throw badly }, { forgives: () => true }), badly)
  t.equal(breaker.state, 'closed', 'who answers badly is there')
})

const failsFor = (upstreamStatus: number) => async (): Promise<string> => {
  throw registryError('service_unavailable', 'Failed', { proxyError: 'destination_unavailable', upstreamStatus })
}
const aboutName = (extension: string) => ({ extension, forgives: () => true })

await t.test('five different names that fail in a row open it, and only a success that proves more than presence ' +
  'closes it', async t => {
  const { clock, breaker, ask, asked } = setUp()
  for (const name of ['a', 'b', 'c', 'd', 'd', 'a']) await t.rejects(ask(failsFor(500), aboutName(name)))
  t.equal(breaker.state, 'closed')
  t.equal(await ask(works, { probe: true, shallow: true }), 'answer')
  await t.rejects(ask(failsFor(503), aboutName('e')))
  t.equal(breaker.state, 'open')
  t.match(breaker.blocked(() => true), { code: 'service_unavailable' }, 'no name passes, whatever failed')
  t.equal(await ask(works, { probe: true, shallow: true }), 'answer')
  t.equal(breaker.state, 'open', 'a probe that succeeds does not close it')
  const before = asked()
  await t.rejects(ask(works, { shallow: true }))
  t.equal(asked(), before)
  clock.forward(2)
  t.equal(await ask(works, { shallow: true }), 'answer')
  t.equal(breaker.state, 'half-open')
  await t.rejects(ask(failsFor(500), aboutName('f')))
  t.match(breaker.blocked(), { retryAfter: 2 })
  clock.forward(3)
  t.equal(await ask(works, aboutName('g')), 'answer')
  t.equal(breaker.state, 'closed')
  t.equal(breaker.blocked(), undefined)
})

await t.test('a success, a refusal or content of no use in between, a 4xx, and a name that is not told, count as no ' +
  'failing names', async t => {
  const { breaker, ask } = setUp()
  const between = [works, async () => {
    throw registryError('auth_error', 'Refused', { proxyError: 'destination_unavailable', upstreamStatus: 403 })
  }, async () => {
    throw registryError('service_unavailable', 'Not JSON', { proxyError: 'http_protocol_error' })
  }]
  for (const outcome of between) {
    for (let name = 0; name < 12; name++) {
      await t.rejects(ask(failsFor(500), aboutName(`n${name}`)))
      if (name % 3 === 0) await ask(outcome, aboutName('other')).catch(() => {})
    }
    await ask(works)
  }
  for (let name = 0; name < 12; name++) await t.rejects(ask(failsFor(405), aboutName(`n${name}`)))
  for (let name = 0; name < 12; name++) await t.rejects(ask(failsFor(500), { forgives: () => true }))
  t.equal(breaker.state, 'closed')
})

await t.test('a test that is refused for its own name closes it: the upstream answers', async t => {
  const { clock, breaker, ask } = setUp()
  for (let times = 0; times < 3; times++) await t.rejects(ask(fails), down)
  clock.forward(2)
  await t.rejects(ask(async () => {
    throw registryError('auth_error', 'Refused', { proxyError: 'destination_unavailable' })
  }, { forgives: () => true }))
  t.equal(breaker.state, 'closed')
})

await t.test('a slow question tests it too, and no other one is refused meanwhile', async t => {
  for (const [outcome, state] of [[works, 'closed'], [fails, 'open']] as const) {
    const { clock, breaker, ask, asked } = setUp()
    for (let times = 0; times < 3; times++) await t.rejects(ask(fails), down)
    clock.forward(2)
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const slow = ask(async () => await promise.then(outcome), { slow: true })
    await new Promise(resolve => setImmediate(resolve))
    t.equal(breaker.blocked(), undefined)
    t.equal(breaker.state, 'half-open')
    resolve(undefined)
    if (outcome === works) t.equal(await slow, 'answer')
    else await t.rejects(slow, down)
    t.equal(breaker.state, state)
    t.equal(asked(), 4, 'once')
  }
})

await t.test('a slow question has its answer although another one opens the circuit meanwhile', async t => {
  const { clock, breaker, ask } = setUp()
  for (let times = 0; times < 3; times++) await t.rejects(ask(fails), down)
  clock.forward(2)
  const { promise, resolve } = Promise.withResolvers<undefined>()
  const slow = ask(async () => await promise.then(works), { slow: true })
  await new Promise(resolve => setImmediate(resolve))
  await t.rejects(ask(fails), down)
  resolve(undefined)
  t.equal(await slow, 'answer')
  t.equal(breaker.state, 'open')
})
