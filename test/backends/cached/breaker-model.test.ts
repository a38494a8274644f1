import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { createBreaker, type Circuit, type RunOptions } from '../../../backends/cached/breaker.ts'
import { isRegistryError, registryError, type RegistryError } from '../../../lib/errors.ts'
import { createClock } from '../../fakes/clock.ts'
import { holds } from '../../properties/run.ts'
import { matchStrictly } from '../../fakes/match.ts'

const failures = {
  unreachable: () => registryError('service_unavailable', 'Refused', { proxyError: 'connection_refused' }),
  broken: () => registryError('service_unavailable', 'Failed', { upstreamStatus: 500 }),
  limited: () => registryError('rate_limit', 'Slow down', { upstreamStatus: 429, retryAfter: 7 }),
  denied: () => registryError('auth_error', 'Denied', { upstreamStatus: 403 }),
  bug: () => registryError('internal_error', 'A bug')
}
type Outcome = 'success' | keyof typeof failures
const often: Outcome[] = ['success', 'unreachable', 'broken']
const outcomes = fc.constantFrom<Outcome>(...often, ...often, 'limited', 'denied', 'bug')
const names = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f')
const seconds = fc.constantFrom(0.5, 1, 2, 5, 31, 601)

/** Returns the registry's error of a run; undefined after a success. */
async function errorOf (run: Promise<void>): Promise<RegistryError | undefined> {
  try {
    await run
  } catch (error) {
    if (isRegistryError(error)) return error
    throw error
  }
}

interface Attempt { outcome: Outcome, name: string, forgiven: boolean, probe: boolean, wait: number }
const attempts = fc.array(fc.record<Attempt>({
  outcome: outcomes,
  name: names,
  forgiven: fc.boolean(),
  probe: fc.oneof({ weight: 5, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
  wait: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, { weight: 2, arbitrary: seconds })
}), { maxLength: 60, size: 'max' })

/** Predicts the effect of requests that are sent one after the other. Times are in seconds. */
function createModel () {
  let [inARow, pause, openUntil, pausedUntil] = [0, 0, 0, 0]
  let isOpen = false
  const failing = new Set<string>()

  function succeed (): void {
    [inARow, pause, openUntil] = [0, 0, 0]
    isOpen = false
  }

  function fail (now: number, opens: boolean): void {
    inARow++
    if (!isOpen && !opens && inARow < 3) return
    isOpen = true
    if (now < openUntil) return
    pause = pause === 0 ? 1 : Math.min(30, pause * 2)
    openUntil = now + pause
  }

  function count (now: number, { outcome, name, forgiven }: Attempt): void {
    const isForgivenRefusal = outcome === 'denied' && forgiven
    if (outcome === 'success' || (isForgivenRefusal && !isOpen)) failing.clear()
    if (outcome === 'success') return succeed()
    if (outcome === 'bug' || isForgivenRefusal) return isOpen ? succeed() : undefined
    if (!isOpen && forgiven && outcome === 'broken') failing.add(name)
    const opens = !isOpen && forgiven && failing.size >= 5
    if (!isOpen && forgiven && !opens) return
    if (opens) failing.clear()
    if (outcome === 'limited') pausedUntil = Math.max(pausedUntil, now + 7)
    fail(now, opens)
  }

  const state = (now: number): Circuit =>
    now < Math.max(openUntil, pausedUntil) ? 'open' : isOpen ? 'half-open' : 'closed'
  const refuses = (now: number, probe: boolean): boolean => now < pausedUntil || (!probe && now < openUntil)
  return { state, refuses, count }
}

await t.test('sequential requests are sent and counted as a simple model predicts', async t => {
  await holds(t, fc.asyncProperty(attempts, async attempts => {
    const clock = createClock()
    const [breaker, model] = [createBreaker(clock.now), createModel()]
    for (const attempt of attempts) {
      const { outcome, name, forgiven, probe, wait } = attempt
      clock.forward(wait)
      const now = clock.now() / 1000
      const refuses = model.refuses(now, probe)
      let sent = false
      const request = async () => {
        sent = true
        if (outcome !== 'success') throw failures[outcome]()
      }
      await errorOf(breaker.run(request, { extension: name, forgives: () => forgiven, probe }))
      assert.equal(sent, !refuses, JSON.stringify(attempt))
      if (sent) model.count(now, attempt)
      assert.equal(breaker.state, model.state(now), JSON.stringify(attempt))
    }
  }), { runs: 500 })
})

type Step = { send: RunOptions } | { settle: number, outcome: Outcome } | { forward: number }
const options = fc.record<RunOptions>({
  probe: fc.boolean(),
  shallow: fc.boolean(),
  slow: fc.boolean(),
  extension: names,
  forgives: fc.constantFrom(() => true, () => false)
})
const steps = fc.array(fc.oneof<Array<fc.Arbitrary<Step>>>(
  fc.record({ send: options }),
  fc.record({ settle: fc.nat(9), outcome: outcomes }),
  fc.record({ forward: seconds })
), { maxLength: 60, size: 'max' })

await t.test('concurrent requests: refused ones are not sent, all end, and a success closes the circuit', async t => {
  await holds(t, fc.asyncProperty(steps, async steps => {
    const clock = createClock()
    const breaker = createBreaker(clock.now)
    const inProgress: Array<(outcome: Outcome) => void> = []
    const violations: unknown[] = []
    let [started, ended] = [0, 0]

    function send (options: RunOptions): void {
      const ordinary = options.probe !== true && options.slow !== true
      started++
      const run = breaker.run(async () => {
        if (ordinary) assert.notEqual(breaker.state, 'open', 'sent while the circuit is open')
        const { promise, resolve } = Promise.withResolvers<Outcome>()
        inProgress.push(resolve)
        const outcome = await promise
        if (outcome !== 'success') throw failures[outcome]()
      }, options)
      void errorOf(run).catch((error: unknown) => { violations.push(error) }).finally(() => { ended++ })
    }
    const settled = async () => await new Promise(resolve => setImmediate(resolve))

    for (const step of steps) {
      if ('send' in step) send(step.send)
      else if ('forward' in step) clock.forward(step.forward)
      else inProgress.splice(step.settle % (inProgress.length + 1), 1)[0]?.(step.outcome)
      await settled()
    }
    for (; inProgress.length > 0; await settled()) inProgress.shift()?.('unreachable')
    assert.deepEqual(violations, [])
    assert.equal(ended, started, 'requests without an end')
    clock.forward(601)
    assert.equal(breaker.blocked(), undefined)
    await breaker.run(async () => {})
    assert.equal(breaker.state, 'closed')
  }), { runs: 300 })
})

await t.test('a test request that another one has overtaken does not change the state', async t => {
  for (const outcome of ['success', 'unreachable'] as const) {
    const clock = createClock()
    const breaker = createBreaker(clock.now)
    function send () {
      const { promise, resolve } = Promise.withResolvers<Outcome>()
      const run = errorOf(breaker.run(async () => {
        const outcome = await promise
        if (outcome !== 'success') throw failures[outcome]()
      }))
      return async (outcome: Outcome): Promise<void> => {
        resolve(outcome)
        await run
      }
    }
    const late = send()
    for (let times = 0; times < 3; times++) await send()('unreachable')
    clock.forward(1)
    const overtaken = send()
    await late('unreachable')
    matchStrictly(t, breaker.blocked(), { retryAfter: 2 })
    clock.forward(2)
    const test = send()
    await overtaken(outcome)
    t.equal(breaker.state, 'half-open')
    await test('success')
    t.equal(breaker.state, 'closed')
  }
})

await t.test('a shallow success closes a circuit that consecutive failures opened', async t => {
  const clock = createClock()
  const breaker = createBreaker(clock.now)
  for (let times = 0; times < 3; times++) await errorOf(breaker.run(async () => { throw failures.unreachable() }))
  clock.forward(1)
  await breaker.run(async () => {}, { shallow: true })
  t.equal(breaker.state, 'closed')
})
