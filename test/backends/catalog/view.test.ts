import t from 'tap'
import { createCatalogViews } from '../../../backends/catalog/view.ts'
import type { Extension } from '../../../schemas/extension.ts'
import { createLog } from '../../fakes/log.ts'

const extensions = (description: string): Extension[] =>
  Array.from({ length: 1100 }, (_, at) => ({
    name: `e${String(at).padStart(4, '0')}`,
    type: 'provider',
    version: '1.0.0',
    description,
    source: 'gitea',
    published_at: '2026-01-01T00:00:00Z'
  }))

await t.test('pages are cached, and dropped before long descriptions make them too large together', async t => {
  for (
    const { description, remembered } of [{ description: 'short', remembered: true }, {
      description: 'x'.repeat(4096),
      remembered: false
    }]
  ) {
    const { page } = createCatalogViews(createLog().log).merge([{
      instance: 'gitea',
      types: new Map([['provider', extensions(description)]]),
      unread: new Set()
    }], '')
    const first = page({ limit: 1000, offset: 0 })
    t.equal(page({ limit: 1000, offset: 0 }), first)
    for (let offset = 1; offset < 20; offset++) page({ limit: 1000, offset })
    t.equal(page({ limit: 1000, offset: 0 }) === first, remembered, description.slice(0, 5))
  }
})

await t.test('a large catalog is searched in pieces, and its matches are then cached', async t => {
  const many = Array.from({ length: 6000 }, (_, at): Extension => ({
    name: `e${String(at).padStart(4, '0')}`,
    type: 'provider',
    version: '1.0.0',
    description: at % 2 === 0 ? 'even' : 'odd',
    source: 'gitea',
    published_at: '2026-01-01T00:00:00Z'
  }))
  const { cachedSearch, search } = createCatalogViews(createLog().log).merge([{
    instance: 'gitea',
    types: new Map([['provider', many]]),
    unread: new Set()
  }], '')
  t.equal(cachedSearch('even', 2), undefined)
  const [one, other] = await Promise.all([search('even', 2), search(' EVEN ', 2)])
  t.strictSame(one, { items: [many[0], many[2]], total: 3000 })
  t.strictSame(other, one)
  t.equal(cachedSearch('even', 2)?.items, one.items)
})

await t.test('a small catalog is searched at once', async t => {
  const { cachedSearch } = createCatalogViews(createLog().log).merge([{
    instance: 'gitea',
    types: new Map([['provider', extensions('short')]]),
    unread: new Set()
  }], '')
  t.equal(cachedSearch('short', 1)?.total, 1100)
})
