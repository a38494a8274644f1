import type { Cache } from '../../plugins/cache/cache.ts'
import type { RegistryError } from '../../lib/errors.ts'
import type { Extension, ExtensionType } from '../../schemas/extension.ts'
import type { Crawl, Metadata, Release } from '../driver/driver.ts'
import { forEachYielding } from '../../lib/yielding.ts'
import { reuse, reuseAll } from '../../lib/reuse.ts'
import type { CachedResult } from '../../lib/result.ts'

/** The listing of one type, as it is cached. */
export interface TypeListing {
  extensions: readonly Extension[]
  byName: ReadonlyMap<string, Extension>
  /** Error of a part that could not be read. Earlier entries of that part are in `extensions`, as stale ones. */
  error: RegistryError | undefined
  /** Whether `extensions` lacks entries, whose names may be unknown. */
  missing: boolean
  /** Error of a refused repository whose earlier entry is kept. Other names are not affected. */
  refusal: RegistryError | undefined
  /** Names that could not be read, or are refused, and have no earlier entry. */
  unread: ReadonlySet<string>
  /** Names of the stale entries that are kept, and when each was read (milliseconds of the cache's clock). */
  kept: ReadonlyMap<string, number>
  /**
   * Names that the last complete listing does not prove absent, and when that was (milliseconds of the cache's clock).
   */
  proof: { names: ReadonlySet<string>, at: number } | undefined
}

/** Compares in the order of lists: names by code point. */
export const byName = (a: { name: string }, b: { name: string }): number => a.name < b.name ? -1 : 1

/**
 * Returns the listing of one type after a crawl. Entries that could not be read are kept as stale ones, up to the
 * maximum age of stale entries. A truncated crawl removes only extensions that are certainly absent. A crawl that is
 * not complete keeps the last proof. Objects that have not changed are reused.
 */
export async function toListing (
  type: ExtensionType,
  crawl: Crawl,
  earlier: Pick<CachedResult<TypeListing>, 'value' | 'age'> | undefined,
  { now, times }: Cache,
  toExtension: (metadata: Metadata, release: Release) => Extension
): Promise<TypeListing> {
  const failed = crawl.failed.filter(repository => repository.type === type)
  const refused = crawl.refused?.filter(repository => repository.type === type) ?? []
  const before = earlier?.value
  const at = now()
  const oldest = at - (times.ttl + times.staleIfError) * 1000
  const kept = new Map<string, number>()
  const unread = new Set<string>()
  const extensions = new Map<string, Extension>()
  await forEachYielding(crawl.found, ({ metadata, release }) => {
    if (metadata.type === type) {
      extensions.set(metadata.name, reuse(before?.byName.get(metadata.name), toExtension(metadata, release)))
    }
  })
  const keep = (name: string): boolean => {
    const known = before?.byName.get(name)
    const since = before?.kept.get(name) ?? at - (earlier?.age ?? Infinity) * 1000
    if (known === undefined || since < oldest) return false
    extensions.set(name, known)
    kept.set(name, since)
    return true
  }
  for (const { name } of [...failed, ...refused]) if (!keep(name)) unread.add(name)
  // A truncated crawl did not read every repository: extensions that it did not find may still exist.
  if (crawl.truncated === true) {
    const gone = new Set(crawl.absent?.filter(extension => extension.type === type).map(({ name }) => name))
    for (const name of before?.byName.keys() ?? []) if (!extensions.has(name) && !gone.has(name)) keep(name)
  }
  const complete = failed.length === 0 && crawl.truncated !== true
  return {
    extensions: reuseAll(before?.extensions, [...extensions.values()].sort(byName)),
    byName: extensions,
    error: failed[0]?.error ?? crawl.truncatedBy,
    missing: crawl.truncated === true || failed.some(({ name }) => unread.has(name)),
    refusal: refused.find(({ name }) => kept.has(name))?.error,
    unread,
    kept,
    proof: complete ? { names: new Set([...extensions.keys(), ...unread]), at } : before?.proof
  }
}
