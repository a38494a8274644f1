import t from 'tap'
import { createCatalogViews } from '../../../backends/catalog/view.ts'
import type { Extension } from '../../../schemas/extension.ts'
import { createLog } from '../../fakes/log.ts'

const extensionAt = (at: number): Extension => ({
  name: `e${String(at).padStart(4, '0')}`,
  type: 'provider',
  version: '1.0.0',
  description: 'short',
  source: 'gitea',
  published_at: '2026-01-01T00:00:00Z'
})
const listingOf = (instance: string, list: readonly Extension[]) => ({
  instance,
  types: new Map([['provider' as const, list]]),
  unread: new Set<string>()
})

const extensions = (description: string): Extension[] =>
  Array.from({ length: 1100 }, (_, at) => ({ ...extensionAt(at), description }))

await t.test('pages are cached, and dropped before long descriptions make them too large together', async t => {
  for (
    const { description, remembered } of [{ description: 'short', remembered: true }, {
      description: 'x'.repeat(4096),
      remembered: false
    }]
  ) {
    const { page } = await createCatalogViews(createLog().log).merge([listingOf('gitea', extensions(description))], '')
    const first = page({ limit: 1000, offset: 0 })
    t.equal(page({ limit: 1000, offset: 0 }), first)
    for (let offset = 1; offset < 20; offset++) page({ limit: 1000, offset })
    t.equal(page({ limit: 1000, offset: 0 }) === first, remembered, description.slice(0, 5))
  }
})

await t.test('a large catalog is searched in pieces, and its matches are then cached', async t => {
  const many = Array.from({ length: 6000 }, (_, at): Extension => ({
    ...extensionAt(at),
    description: at % 2 === 0 ? 'even' : 'odd'
  }))
  const { cachedSearch, search } = await createCatalogViews(createLog().log).merge([listingOf('gitea', many)], '')
  t.equal(cachedSearch('even', 2), undefined)
  const { signal } = new AbortController()
  const [one, other] = await Promise.all([search('even', 2, signal), search(' EVEN ', 2, signal)])
  t.strictSame(one, { items: [many[0], many[2]], total: 3000 })
  t.strictSame(other, one)
  t.equal(cachedSearch('even', 2)?.items, one.items)
})

await t.test('a small catalog is searched at once', async t => {
  const views = createCatalogViews(createLog().log)
  const { cachedSearch } = await views.merge([listingOf('gitea', extensions('short'))], '')
  t.equal(cachedSearch('short', 1)?.total, 1100)
})

await t.test('the search of a large catalog ends with its deadline', async t => {
  const many = Array.from({ length: 6000 }, (_, at): Extension => ({ ...extensionAt(at), description: 'even' }))
  const { search } = await createCatalogViews(createLog().log).merge([listingOf('gitea', many)], '')
  await t.rejects(search('even', 2, AbortSignal.abort(new Error('too late'))), { message: 'too late' })
})

await t.test('too many searches of a large catalog at the same time are refused', async t => {
  const many = Array.from({ length: 6000 }, (_, at) => extensionAt(at))
  const { search } = await createCatalogViews(createLog().log).merge([listingOf('gitea', many)], '')
  const { signal } = new AbortController()
  const results = await Promise.allSettled(Array.from({ length: 100 }, (_, at) => search(`e00${at}`, 1, signal)))
  t.equal(results.filter(({ status }) => status === 'fulfilled').length, 65, 'one in progress, and 64 that wait')
  const refused = results.at(-1)
  t.equal(refused?.status === 'rejected' && (refused.reason as Error).message, 'The registry is overloaded')
})

await t.test('large listings of two instances are merged in pieces, once for concurrent requests', async t => {
  const views = createCatalogViews(createLog().log)
  const all = Array.from({ length: 8000 }, (_, at) => extensionAt(at))
  const listings = [listingOf('gitea', all.filter((_, at) => at % 2 === 0)), listingOf('oci', all.slice(0, 4000))]
  t.equal(views.cached(listings, ''), undefined)
  const [one, other] = await Promise.all([views.merge(listings, ''), views.merge([...listings], '')])
  t.equal(one, other)
  t.strictSame(one.extensions, all.filter((_, at) => at % 2 === 0 || at < 4000))
  t.strictSame([...one.shadowed], [['oci', 2000]])
  t.equal(views.cached(listings, ''), one)
  const changed = [listingOf('gitea', all), listings[1] ?? listingOf('oci', [])]
  const [before, after] = await Promise.all([views.merge([...listings].reverse(), ''), views.merge(changed, '')])
  t.strictSame([before.shadowed.get('gitea'), after.extensions.length], [2000, 8000])
  t.equal(views.cached(changed, ''), after, 'the later listings are kept')
})
