import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import type { Crawl } from '../../backends/backend.ts'
import { toListing, type TypeListing } from '../../backends/listing.ts'
import { forEachInTurn } from '../../backends/pace.ts'
import { createPresentation } from '../../backends/presentation.ts'
import { createCache } from '../../plugins/cache.ts'
import { registryError } from '../../plugins/errors.ts'

const cache = createCache({ capacity: 10, ttl_seconds: 300, stale_if_error_seconds: 600, negative_ttl_seconds: 30, clock: () => 0 })
const { toExtension } = createPresentation({ source: 'gitea', downloadUrls: 'upstream' })
const error = registryError('service_unavailable', 'Instance gitea cannot be asked')
const found = (name: string, version = '1.0.0', description = '', tags = ['a', 'b']): Crawl['found'][number] => ({ metadata: { type: 'provider', name, description, tags: [...tags] }, release: { version, published_at: '2026-11-23T05:24:36Z' } })
const listing = async (crawl: Partial<Crawl>, before?: TypeListing) => await toListing('provider', { found: [], failed: [], ...crawl }, before && { value: before, age: 1 }, cache, toExtension)

await t.test('an extension that has not changed is the same object, one that has is another', async t => {
  const before = await listing({ found: ['a', 'b', 'c', 'd', 'e'].map(name => found(name)) })
  const after = await listing({ found: [found('e', '1.0.0', '', ['a', 'c']), found('d', '1.0.0', '', ['a']), found('c', '1.0.0', 'other'), found('b', '1.0.1'), found('a')] }, before)
  t.strictSame(after.extensions.map((extension, at) => extension === before.extensions[at]), [true, false, false, false, false])
  t.match(after.extensions.slice(1), [{ version: '1.0.1' }, { description: 'other' }, { tags: ['a'] }, { tags: ['a', 'c'] }])
  t.equal(after.byName.get('a'), before.extensions[0])
})

await t.test('a list of the same extensions is the same array, one with less or more is another', async t => {
  const whole = { found: ['a', 'b'].map(name => found(name)) }
  const before = await listing(whole)
  t.equal((await listing(whole, before)).extensions, before.extensions)
  t.strictSame((await listing({ found: [found('a')] }, before)).extensions, [before.extensions[0]])
  t.equal((await listing({ found: ['a', 'b', 'c'].map(name => found(name)) }, before)).extensions.length, 3)
})

await t.test('a list behind which something could not be read is another, though it shows the same: ownership depends on it', async t => {
  const whole = { found: [found('a')] }
  const before = await listing(whole)
  const unread = await listing({ ...whole, failed: [{ type: 'provider', name: 'x', error }] }, before)
  t.strictSame(unread.extensions, before.extensions)
  t.not(unread.extensions, before.extensions)
  t.not((await listing(whole, unread)).extensions, unread.extensions)
})

await t.test('long work lets others have their turn, and does everything in order', async t => {
  let turns = 0
  const working = new AbortController()
  const others = (async () => { while (!working.signal.aborted) { await turn(); turns++ } })()
  const things = Array.from({ length: 64 }, (_, at) => at)
  const done: number[] = []
  await forEachInTurn(things, thing => {
    done.push(thing)
    for (const until = performance.now() + 1; performance.now() < until;);
  })
  working.abort()
  await others
  t.strictSame(done, things)
  t.ok(turns >= 8, `${turns} turns`)
})
