import t from 'tap'
import {
  createCache,
  loadedEntry,
  cacheKey,
  type CacheOptions,
  type LoadedEntry
} from '../../../plugins/cache/cache.ts'
import { registryError } from '../../../lib/errors.ts'
import { createClock } from '../../fakes/clock.ts'
import { matchStrictly } from '../../fakes/match.ts'

function setUp (options: Partial<CacheOptions> = {}) {
  const clock = createClock()
  const cache = createCache({
    capacity: 100,
    ttl_seconds: 300,
    stale_if_error_seconds: 1000,
    negative_ttl_seconds: 30,
    clock: clock.now,
    ...options
  })
  const aws = cacheKey<string>('metadata', 'gitea:provider/aws')
  let loads = 0
  let response: () => Promise<LoadedEntry[]> = async () => [loadedEntry(aws, 'one')]
  return {
    cache,
    clock,
    aws,
    loads: () => loads,
    responses (next: () => Promise<LoadedEntry[]>) {
      response = next
    },
    loader: (maxAge?: number) => ({
      flight: 'aws',
      load: async () => {
        loads++
        return await response()
      },
      ...(maxAge !== undefined && { maxAge })
    })
  }
}

const down = async (): Promise<LoadedEntry[]> => { throw registryError('service_unavailable', 'down') }
/** Runs every callback that is ready. */
const settled = async () => { await new Promise(resolve => setImmediate(resolve)) }

await t.test('an entry is loaded once and returned from memory until it expires', async t => {
  const { cache, clock, aws, loader, loads } = setUp()
  matchStrictly(t, await cache.get(aws, loader()), { value: 'one', hit: false, age: 0, ttl: 300 })
  clock.forward(100)
  matchStrictly(t, await cache.get(aws, loader()), { value: 'one', hit: true, age: 100, ttl: 200 })
  t.equal(loads(), 1)
  clock.forward(201)
  matchStrictly(t, await cache.get(aws, loader()), { hit: false, age: 0 })
  t.equal(loads(), 2)
})

await t.test('two hundred concurrent requests share one load', async t => {
  const { cache, aws, loader, loads } = setUp()
  const all = await Promise.all(Array.from({ length: 200 }, async () => await cache.get(aws, loader())))
  t.equal(loads(), 1)
  t.ok(all.every(({ value, hit }) => value === 'one' && !hit))
  matchStrictly(t, cache.statistics().metadata, { hits: 0, misses: 200, coalesced: 199 })
})

await t.test('a failed load does not prevent the next load', async t => {
  const { cache, aws, loader, responses, loads } = setUp()
  responses(down)
  await t.rejects(cache.get(aws, loader()), { code: 'service_unavailable' })
  responses(async () => [loadedEntry(aws, 'back')])
  matchStrictly(t, await cache.get(aws, loader()), { value: 'back' })
  t.equal(loads(), 2)
})

await t.test('an entry in use is loaded again in the background before it expires', async t => {
  const { cache, clock, aws, loader, loads, responses } = setUp()
  await cache.get(aws, loader())
  responses(async () => [loadedEntry(aws, 'two')])
  clock.forward(239)
  await cache.get(aws, loader())
  await settled()
  t.equal(loads(), 1, 'too early')
  clock.forward(2)
  matchStrictly(t, await cache.get(aws, loader()), { value: 'one', hit: true }, 'the request gets the cached value')
  await settled()
  t.equal(loads(), 2)
  matchStrictly(t, await cache.get(aws, loader()), { value: 'two', hit: true, age: 0 })
})

await t.test('an expired entry is returned and marked stale while its load fails, until it is too old', async t => {
  const { cache, clock, aws, loader, responses } = setUp()
  await cache.get(aws, loader())
  responses(down)
  clock.forward(301)
  matchStrictly(t, await cache.get(aws, loader()), {
    value: 'one',
    ttl: 0,
    age: 301,
    error: { code: 'service_unavailable' }
  })
  clock.forward(1000)
  await t.rejects(cache.get(aws, loader()), { code: 'service_unavailable' })
})

await t.test('an absence is cached for a short time, separate from the entries', async t => {
  const { cache, clock, aws, loader, loads, responses } = setUp()
  responses(async () => [loadedEntry(aws, undefined)])
  matchStrictly(t, await cache.get(aws, loader()), { value: undefined, hit: false })
  clock.forward(29)
  matchStrictly(t, await cache.get(aws, loader()), { value: undefined, hit: true })
  t.equal(loads(), 1)
  t.equal(cache.statistics().metadata.entries, 0)
  clock.forward(2)
  responses(async () => [loadedEntry(aws, 'published')])
  matchStrictly(t, await cache.get(aws, loader()), { value: 'published' })
})

await t.test('requests for ten thousand unknown names evict nothing', async t => {
  const { cache, aws, loader, loads } = setUp({ capacity: 16 })
  await cache.get(aws, loader())
  for (let at = 0; at < 10_000; at++) {
    const name = cacheKey<string>('metadata', `gitea:provider/x${at}`)
    await cache.get(name, { flight: `x${at}`, load: async () => [loadedEntry(name, undefined)] })
  }
  matchStrictly(t, await cache.get(aws, loader()), { hit: true })
  t.equal(loads(), 1)
  matchStrictly(t, cache.statistics().metadata, { entries: 1, evictions: 0 })
})

await t.test('an entry that was deleted upstream is removed by the next load', async t => {
  const { cache, clock, aws, loader, responses } = setUp()
  await cache.get(aws, loader())
  responses(async () => [loadedEntry(aws, undefined)])
  clock.forward(301)
  matchStrictly(t, await cache.get(aws, loader()), { value: undefined })
  t.equal(cache.read(aws), undefined)
  t.equal(cache.statistics().metadata.entries, 0)
})

await t.test('an entry older than the maximum age of the request is loaded again, although it is fresh', async t => {
  const { cache, clock, aws, loader, loads } = setUp()
  await cache.get(aws, loader())
  clock.forward(31)
  await cache.get(aws, loader(31))
  t.equal(loads(), 1)
  await cache.get(aws, loader(30))
  t.equal(loads(), 2)
  await cache.get(aws, loader(-1))
  t.equal(loads(), 3)
})

await t.test('one load fills several cache keys', async t => {
  const { cache } = setUp()
  const lists = ['provider', 'taskserv', 'cluster'].map(type => cacheKey<string>('list', `gitea:list:${type}`))
  let loads = 0
  const loader = {
    flight: 'list',
    load: async () => {
      loads++
      return lists.map((list, at) => loadedEntry(list, `list ${at}`))
    }
  }
  const responses = await Promise.all(lists.map(async list => await cache.get(list, loader)))
  t.strictSame(responses.map(({ value }) => value), ['list 0', 'list 1', 'list 2'])
  t.equal(loads, 1)
  matchStrictly(t, cache.statistics().list, { misses: 3, coalesced: 2, entries: 3 })
})

await t.test('the least recently used entry is evicted first, and counted', async t => {
  const { cache } = setUp({ capacity: 16 })
  const slots = Array.from({ length: 17 }, (_, at) => cacheKey<number>('versions', `gitea:provider/x${at}/versions`))
  const [first, second] = slots
  for (const [at, one] of slots.entries()) {
    await cache.get(one, { flight: one.key, load: async () => [loadedEntry(one, at)] })
    if (first !== undefined) cache.read(first)
  }
  t.not(first === undefined ? undefined : cache.read(first), undefined, 'read again and again')
  t.equal(second === undefined ? undefined : cache.read(second), undefined)
  matchStrictly(t, cache.statistics().versions, { entries: 16, evictions: 1 })
})

await t.test('the budget of a request ends its wait but not the load', async t => {
  const { cache, aws, loader, responses } = setUp({ budget: 5 })
  let finish = (_found: LoadedEntry[]): void => {}
  responses(async () => await new Promise(resolve => { finish = resolve }))
  await t.rejects(cache.get(aws, loader()), { code: 'service_unavailable', proxyError: 'http_response_timeout' })
  finish([loadedEntry(aws, 'late')])
  await settled()
  matchStrictly(t, await cache.get(aws, loader()), { value: 'late', hit: true })
})

await t.test('while an upstream is blocked nothing is loaded: a stale entry is returned, or its failure is ' +
  'thrown', async t => {
  const { cache, clock, aws, loader, loads } = setUp()
  const resting = () => ({ ...loader(), blocked: () => registryError('service_unavailable', 'resting') })
  await t.rejects(cache.get(aws, resting()), { message: 'resting' })
  await cache.get(aws, loader())
  clock.forward(301)
  matchStrictly(t, await cache.get(aws, resting()), { value: 'one', hit: true, ttl: 0, error: { message: 'resting' } })
  t.equal(loads(), 1)
})

await t.test('a request with a stale entry does not wait for a load that is slow already', async t => {
  const { cache, clock, aws, loader, responses, loads } = setUp()
  await cache.get(aws, loader())
  let finish = (_found: LoadedEntry[]): void => {}
  responses(async () => await new Promise(resolve => { finish = resolve }))
  clock.forward(250)
  matchStrictly(t, await cache.get(aws, loader()), { value: 'one', hit: true }, 'a load starts in the background')
  clock.forward(51)
  matchStrictly(t, await cache.get(aws, loader()), {
    value: 'one',
    hit: true,
    age: 301,
    ttl: 0,
    error: { proxyError: 'http_response_timeout' }
  })
  t.equal(loads(), 2)
  finish([loadedEntry(aws, 'two')])
  await settled()
  matchStrictly(t, await cache.get(aws, loader()), { value: 'two', hit: true, age: 0 })
})

await t.test('a request with a stale entry does not wait for the retry of a load that has just failed', async t => {
  const { cache, clock, aws, loader, responses, loads } = setUp()
  await cache.get(aws, loader())
  clock.forward(301)
  responses(down)
  matchStrictly(t, await cache.get(aws, loader()), { value: 'one', hit: false, error: { message: 'down' } })
  responses(async () => await new Promise(() => {}))
  matchStrictly(t, await cache.get(aws, loader()), { value: 'one', hit: true, error: { message: 'down' } })
  await settled()
  t.equal(loads(), 3)
})

await t.test('a slow or failed load makes the load of a part of its data doubtful', async t => {
  const { cache, clock, aws, loader, responses, loads } = setUp()
  const whole = cacheKey<string>('versions', 'gitea:provider/aws')
  const part = { ...loader(), flight: 'aws metadata', subject: 'aws' }
  await cache.get(aws, part)
  clock.forward(301)
  const failures: ((error: Error) => void)[] = []
  responses(async () => await new Promise((_resolve, reject) => { failures.push(reject) }))
  cache.refresh(whole, loader())
  clock.forward(2)
  matchStrictly(t, await cache.get(aws, part), {
    value: 'one',
    hit: true,
    error: { proxyError: 'http_response_timeout' }
  })
  await settled()
  t.equal(loads(), 3, 'both loads have started')
  failures[0]?.(registryError('service_unavailable', 'down'))
  await settled()
  matchStrictly(t, await cache.get(aws, part), { value: 'one', hit: true, error: { message: 'down' } })
})

await t.test('a failure is forgotten after two minutes, and a request waits for the next load again', async t => {
  const { cache, clock, aws, loader, responses } = setUp()
  await cache.get(aws, loader())
  clock.forward(301)
  responses(down)
  await cache.get(aws, loader())
  clock.forward(121)
  responses(async () => [loadedEntry(aws, 'two')])
  matchStrictly(t, await cache.get(aws, loader()), { value: 'two', hit: false })
})

await t.test('a wait ends when the budget of the load is over, or at the deadline of the request ' +
  'itself', async t => {
  const { cache, clock, aws, loader, responses, loads } = setUp({ budget: 60_000 })
  responses(async () => await new Promise(() => {}))
  await t.rejects(cache.get(aws, { ...loader(), signal: AbortSignal.timeout(5) }), {
    code: 'service_unavailable',
    proxyError: 'http_response_timeout'
  })
  clock.forward(60)
  await t.rejects(cache.get(aws, loader()), { code: 'service_unavailable', proxyError: 'http_response_timeout' })
  t.equal(loads(), 1)
})

await t.test('an entry outside the young generation can be refreshed without a request', async t => {
  const { cache, clock, aws, loader, responses, loads } = setUp()
  cache.refresh(aws, loader())
  await settled()
  cache.refresh(aws, loader())
  await settled()
  t.equal(loads(), 1)
  clock.forward(241)
  responses(async () => [loadedEntry(aws, 'two')])
  cache.refresh(aws, { ...loader(), blocked: () => registryError('service_unavailable', 'resting') })
  cache.refresh(aws, loader())
  await settled()
  t.equal(loads(), 2)
  t.equal(cache.read(aws)?.value, 'two')
  matchStrictly(t, cache.statistics().metadata, { hits: 0, misses: 0 })
})

await t.test('a request with a stale result of another source waits as briefly as one with a stale entry', async t => {
  const { cache, clock, aws, loader, responses, loads } = setUp({ budget: 60_000, staleBudget: 5 })
  responses(async () => await new Promise(() => {}))
  await t.rejects(cache.get(aws, { ...loader(), standIn: true }), {
    code: 'service_unavailable',
    proxyError: 'http_response_timeout'
  })
  clock.forward(1)
  await t.rejects(cache.get(aws, { ...loader(), standIn: true, instance: 'gitea' }), {
    code: 'service_unavailable',
    instance: 'gitea'
  }, 'without a wait')
  t.equal(loads(), 1)
})
