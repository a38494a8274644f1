import fc from 'fast-check'
import { deepEqual, equal, ok } from 'node:assert/strict'
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { createCache, loadedEntry, cacheKey, type LoadedEntry } from '../../plugins/cache/cache.ts'
import { isRegistryError, registryError } from '../../lib/errors.ts'
import { createClock } from '../fakes/clock.ts'
import {
  capacity,
  createModel,
  flightOf,
  flights,
  keys,
  patience,
  sectionOf,
  times,
  valueOf,
  type Model,
  type Outcome,
  type UpstreamRequest,
  type Reply
} from './cache-model.ts'
import { holds, share } from './run.ts'

const place = (key: number) => cacheKey<string>(sectionOf(key), `instance:${key}`)

/** Creates the real cache with loads that end on command, and with recorded replies. */
function createReal () {
  const clock = createClock()
  const cache = createCache({
    capacity,
    ttl_seconds: times.ttl,
    stale_if_error_seconds: times.stale,
    negative_ttl_seconds: times.negative,
    clock: clock.now,
    budget: patience * 1000,
    staleBudget: patience * 1000
  })
  const resting = new Set<number>()
  const running = new Map<number, (outcome: Outcome) => void>()
  const replies = new Map<number, Reply>()
  let loads = 0

  async function load (flight: number): Promise<LoadedEntry[]> {
    ok(!running.has(flight), `two concurrent loads of flight ${flight}`)
    const serial = loads++
    const outcome = await new Promise<Outcome>(resolve => { running.set(flight, resolve) })
    if (outcome === 'fail') throw registryError('service_unavailable', 'fail')
    if (outcome === 'crash') throw new Error('crash')
    return outcome.map(({ present, ttl }, at) =>
      loadedEntry(place(flight * 2 + at), present ? valueOf(flight * 2 + at, serial) : undefined, ttl)
    )
  }
  const loader = (key: number, more: Omit<UpstreamRequest, 'key'> = {}) => {
    const flight = flightOf(key)
    return {
      flight: `flight ${flight}`,
      load: async () => await load(flight),
      blocked: () => resting.has(flight) ? registryError('service_unavailable', 'resting') : undefined,
      ...more
    }
  }

  return {
    cache,
    clock,
    resting,
    running,
    replies,
    loader,
    loads: () => loads,
    send ({ key, ...more }: UpstreamRequest, id: number): void {
      const completed = cache.get(place(key), loader(key, more)).then(
        ({ error, ...rest }): Reply => error === undefined ? rest : { ...rest, error: error.message },
        (thrown: unknown): Reply => ({
          thrown: isRegistryError(thrown) || thrown instanceof Error ? thrown.message : String(thrown)
        })
      )
      void completed.then(reply => {
        replies.set(id, reply)
      })
    }
  }
}
type Real = ReturnType<typeof createReal>

let requested = 0
let commands = 0

/** Creates a command for both, after which the cache and the model must have the same statistics. */
function command (
  name: string,
  act: (model: Model, real: Real) => void | Promise<void>,
  check: (model: Readonly<Model>) => boolean = () => true
): fc.AsyncCommand<Model, Real> {
  return {
    check,
    async run (model, real) {
      commands++
      await act(model, real)
      await turn()
      equal(real.loads(), model.loads(), 'number of loads')
      const { metadata, versions } = real.cache.statistics()
      deepEqual({ metadata, versions }, model.statistics())
      ok(metadata.entries + versions.entries <= capacity, 'the capacity is not exceeded')
    },
    toString: () => name
  }
}

async function finish (model: Model, real: Real, flight: number, outcome: Outcome): Promise<void> {
  const expected = model.finish(flight, outcome)
  const end = real.running.get(flight)
  ok(end !== undefined, 'a load is in progress')
  real.running.delete(flight)
  end(outcome)
  await turn()
  for (const [id, reply] of expected) deepEqual(real.replies.get(id), reply)
}

const get = (operation: UpstreamRequest) =>
  command(`get ${JSON.stringify(operation)}`, async (model, real) => {
    const id = requested++
    const expected = model.get(operation, id)
    real.send(operation, id)
    await turn()
    deepEqual(real.replies.get(id), expected)
  })
const end = (flight: number, outcome: Outcome) =>
  command(`finish ${flight} ${JSON.stringify(outcome)}`, async (model, real) => {
    await finish(model, real, flight, outcome)
  }, model => model.isUnderWay(flight))
const forward = (seconds: number) =>
  command(`forward ${seconds}`, (model, real) => {
    model.forward(seconds)
    real.clock.forward(seconds)
  })
const rest = (flight: number, on: boolean) =>
  command(`rest ${flight} ${on}`, (model, real) => {
    model.rest(flight, on)
    if (on) real.resting.add(flight)
    else real.resting.delete(flight)
  })
const peek = (key: number) =>
  command(`peek ${key}`, (model, real) => {
    deepEqual(real.cache.read(place(key)), model.peek(key))
  })
const use = (key: number) =>
  command(`use ${key}`, (model, real) => {
    model.use(key)
    real.cache.use([{ key: place(key), loader: real.loader(key) }])
  })
const absentFor = (key: number) =>
  command(`absentFor ${key}`, (model, real) => {
    equal(real.cache.absentFor(place(key)), model.absentFor(key))
  })

const key = fc.constantFrom(...keys)
const flight = fc.constantFrom(...flights)
/** Times around every limit of the cache, and any other time. */
const seconds = fc.oneof(
  fc.constantFrom(1, 29, 30, 31, 60, 239, 240, 241, 299, 300, 301, 1000, 1299, 1300, 1301),
  fc.integer({ min: 0, max: 2000 })
)
const found = fc.record({ present: fc.boolean(), ttl: fc.constantFrom(times.ttl, 30, 1) }, {
  requiredKeys: ['present']
})
const outcome = fc.oneof(
  { weight: 5, arbitrary: fc.array(found, { minLength: 2, maxLength: 2 }) },
  { weight: 2, arbitrary: fc.constant('fail' as const) },
  { weight: 1, arbitrary: fc.constant('crash' as const) }
)
const call = fc.record(
  { key, maxAge: fc.constantFrom(-1, 0, 10, 30, 240), maxAbsence: fc.constantFrom(0, 10, 30) },
  { requiredKeys: ['key'] }
)
const anything = fc.commands<Model, Real, false>([
  call.map(get),
  call.map(get),
  key.map(key => get({ key })),
  fc.tuple(flight, outcome).map(([flight, outcome]) => end(flight, outcome)),
  fc.tuple(flight, outcome).map(([flight, outcome]) => end(flight, outcome)),
  seconds.map(forward),
  fc.tuple(flight, fc.boolean()).map(([flight, on]) => rest(flight, on)),
  key.map(peek), key.map(use), key.map(absentFor)
] as Array<fc.Arbitrary<fc.AsyncCommand<Model, Real>>>, { maxCommands: 120, size: 'max' })

await t.test('the cache behaves like its model for any sequence of commands', async t => {
  await holds(
    t,
    fc.asyncProperty(anything, async commands => {
      const model = createModel()
      const real = createReal()
      await fc.asyncModelRun(() => ({ model, real }), [
        ...commands,
        ...flights.map(flight => end(flight, 'fail')),
        ...keys.map(peek)
      ])
    }),
    { runs: share(1500) }
  )
  t.comment(`${commands} commands`)
  t.ok(commands > share(20_000), 'number of commands')
})
