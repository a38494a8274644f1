import { Type, type Static } from '@sinclair/typebox'

export const CacheStats = Type.Object({
  list_entries: Type.Integer({ description: 'Cached lists, one for each instance and type', examples: [6] }),
  metadata_entries: Type.Integer({ description: 'Cached extensions', examples: [120] }),
  version_entries: Type.Integer({ description: 'Cached version lists', examples: [80] }),
  total_entries: Type.Integer({ description: 'All cached entries', examples: [206] }),
  store_entries: Type.Optional(
    Type.Integer({ description: 'Verified files in the store; not included in `total_entries`', examples: [12] })
  ),
  store_bytes: Type.Optional(Type.Integer({ description: 'Size of these files in bytes', examples: [24576000] }))
}, { $id: 'registry.CacheStats', description: 'Number of entries in the cache' })
export type CacheStats = Static<typeof CacheStats>
