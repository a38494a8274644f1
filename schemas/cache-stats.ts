import { Type, type Static } from '@sinclair/typebox'

export const CacheStats = Type.Object({
  list_entries: Type.Integer({ description: 'Cached listings, one per instance and type', examples: [6] }),
  metadata_entries: Type.Integer({ description: 'Cached extensions', examples: [120] }),
  version_entries: Type.Integer({ description: 'Cached version lists', examples: [80] }),
  total_entries: Type.Integer({ description: 'All cached entries', examples: [206] })
}, { $id: 'registry.CacheStats', description: 'What the cache holds now' })
export type CacheStats = Static<typeof CacheStats>
