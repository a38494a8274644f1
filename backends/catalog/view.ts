import type { FastifyBaseLogger } from 'fastify'
import { LRUCache } from 'lru-cache'
import { extensionTypes, type Extension, type ExtensionType } from '../../schemas/extension.ts'
import { search, searchable, type Searchable } from './search.ts'
import type { ListPage } from '../../lib/result.ts'

/** What one instance brings to a merge. */
export interface InstanceListing {
  instance: string
  types: ReadonlyMap<ExtensionType, readonly Extension[]>
  /** `{type}/{name}` of what it may have but could not be read: nobody behind it is shown as the owner. */
  unread: ReadonlySet<string>
}

/** Everything that some instances have together, at one moment. */
export interface CatalogView {
  /** Each (type, name) once, as its owner has it: by type, then by name. */
  extensions: readonly Extension[]
  /** Twins that belong to an earlier instance, counted by the instance whose they are. */
  shadowed: ReadonlyMap<string, number>
  /** A part of it; the same array each time, as long as it is remembered. */
  page: (range: { limit: number, offset: number }) => readonly Extension[]
  /** The best matches for a query, the same way, and how many there are. */
  search: (query: string, limit: number) => ListPage<Extension>
}

/** Names of twins that were logged; past the bound they are logged no more. */
const maxLogged = 10_000

/** Size of all the pages of a generation that are remembered at once, about that of their bytes: each has its own. */
const rememberedBytes = 16 * 1024 * 1024
/** About what a page, and an extension beside its texts of any length, takes. */
const about = 512
/** Extensions in all the searches of a generation that are remembered. */
const rememberedMatches = 200_000

const sizeOf = (page: readonly Extension[]): number =>
  page.reduce(
    (sum, { description, tags = [] }) => tags.reduce((sum, tag) => sum + tag.length, sum + about + description.length),
    about
  )

/** Whether a share is what it was. */
function isSame ({ instance, types, unread }: InstanceListing, before: InstanceListing | undefined): boolean {
  if (before === undefined || before.instance !== instance) return false
  if (before.types === types && before.unread === unread) return true
  if (before.types.size !== types.size || before.unread.size !== unread.size) return false
  for (const [type, extensions] of types) if (before.types.get(type) !== extensions) return false
  for (const name of unread) if (!before.unread.has(name)) return false
  return true
}

/** Makes generations; one that was made of the very same listings is given again. */
export function createCatalogViews (log: FastifyBaseLogger) {
  const latest = new Map<string, { shares: readonly InstanceListing[], view: CatalogView }>()
  const logged = new Set<string>()
  const prepared = new WeakMap<Extension, Searchable>()

  function prepare (extension: Extension): Searchable {
    let ready = prepared.get(extension)
    if (ready === undefined) prepared.set(extension, ready = searchable(extension))
    return ready
  }

  function shadow (instance: string, { type, name }: Extension, owner: string): void {
    const twin = `${instance}:${type}/${name}`
    if (logged.has(twin) || logged.size >= maxLogged) return
    logged.add(twin)
    log.info({ extension: `${type}/${name}`, owner, shadowed: instance }, 'an extension is shadowed by its owner')
  }

  function make (shares: readonly InstanceListing[]): CatalogView {
    const shadowed = new Map<string, number>()
    const extensions = extensionTypes.flatMap((type): readonly Extension[] => {
      const having = shares.filter(({ types, unread }) => unread.size > 0 || (types.get(type)?.length ?? 0) > 0)
      // One alone has them in order.
      if (having.length <= 1) return having[0]?.types.get(type) ?? []
      const owners = new Map<string, { extension: Extension, instance: string }>()
      const held = new Set<string>()
      for (const { instance, types, unread } of having) {
        for (const extension of types.get(type) ?? []) {
          const owner = owners.get(extension.name)
          if (held.has(`${type}/${extension.name}`)) continue
          if (owner === undefined) owners.set(extension.name, { extension, instance })
          else {
            shadowed.set(instance, (shadowed.get(instance) ?? 0) + 1)
            shadow(instance, extension, owner.instance)
          }
        }
        for (const name of unread) if (!owners.has(name.slice(type.length + 1))) held.add(name)
      }
      return [...owners.values()].map(({ extension }) => extension).sort((a, b) => a.name < b.name ? -1 : 1)
    })
    const pages = new LRUCache<string, readonly Extension[]>({ maxSize: rememberedBytes, sizeCalculation: sizeOf })
    const matches = new LRUCache<string, readonly Extension[]>({
      maxSize: rememberedMatches,
      sizeCalculation: ({ length }) => length + 1
    })
    let candidates: Searchable[] | undefined

    /** Part of a list; the same one for all questions that it answers. */
    function part (list: readonly Extension[], of: string, start: number, end: number): readonly Extension[] {
      const key = `${Math.min(start, list.length)}-${Math.min(end, list.length)}${of}`
      let known = pages.get(key)
      if (known === undefined) pages.set(key, known = list.slice(start, end))
      return known
    }

    function find (query: string): readonly Extension[] {
      let found = matches.get(query)
      if (found === undefined) matches.set(query, found = search(candidates ??= extensions.map(prepare), query))
      return found
    }

    return {
      extensions,
      shadowed,
      page: ({ limit, offset }) => part(extensions, '', offset, offset + limit),
      search: (query, limit) => {
        const wanted = query.trim().toLowerCase()
        const found = find(wanted)
        return { items: part(found, `?${wanted}`, 0, limit), total: found.length }
      }
    }
  }

  return {
    /**
     * Merges in the order given: the first that has an extension owns it. `scope` names what is merged, so that each
     * scope's last one is kept.
     */
    merge (shares: readonly InstanceListing[], scope: string): CatalogView {
      const last = latest.get(scope)
      if (
        last?.shares.length === shares.length && shares.every((share, at) => isSame(share, last.shares[at]))
      ) { return last.view }
      const view = make(shares)
      latest.set(scope, { shares, view })
      return view
    }
  }
}
