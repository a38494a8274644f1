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
