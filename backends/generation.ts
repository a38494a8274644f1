import type { FastifyBaseLogger } from 'fastify'
import { extensionTypes, type Extension, type ExtensionType } from '../schemas/extension.ts'
import { search, searchable, type Searchable } from './search.ts'

/** What one instance brings to a merge. */
export interface Share {
  instance: string
  types: ReadonlyMap<ExtensionType, readonly Extension[]>
  /** `{type}/{name}` of what it may have but could not be read: nobody behind it is shown as the owner. */
  unread: ReadonlySet<string>
}

/** Everything that some instances have together, at one moment. */
export interface Generation {
  /** Each (type, name) once, as its owner has it: by type, then by name. */
  extensions: readonly Extension[]
  /** Twins that belong to an earlier instance, counted by the instance whose they are. */
  shadowed: ReadonlyMap<string, number>
  search: (query: string) => Extension[]
}

/** Names of twins that were logged; past the bound they are logged no more. */
const loggedAtMost = 10_000

/** Makes generations; one that was made of the very same listings is given again. */
export function createGenerations (log: FastifyBaseLogger) {
  const latest = new Map<string, { inputs: ReadonlyArray<readonly Extension[]>, generation: Generation }>()
  const logged = new Set<string>()

  function shadow (instance: string, { type, name }: Extension, owner: string): void {
    const twin = `${instance}:${type}/${name}`
    if (logged.has(twin) || logged.size >= loggedAtMost) return
    logged.add(twin)
    log.info({ extension: `${type}/${name}`, owner, shadowed: instance }, 'an extension is shadowed by its owner')
  }

  function make (shares: readonly Share[]): Generation {
    const shadowed = new Map<string, number>()
    const extensions = extensionTypes.flatMap(type => {
      const owners = new Map<string, { extension: Extension, instance: string }>()
      const held = new Set<string>()
      for (const { instance, types, unread } of shares) {
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
    let prepared: Searchable[] | undefined
    return {
      extensions,
      shadowed,
      search: query => {
        prepared ??= extensions.map(searchable)
        return search(prepared, query)
      }
    }
  }

  return {
    /** Merges in the order given: the first that has an extension owns it. `scope` names what is merged, so that each scope's last one is kept. */
    merge (shares: readonly Share[], scope: string): Generation {
      const inputs = shares.flatMap(({ types }) => [...types.values()])
      const last = latest.get(scope)
      if (last !== undefined && last.inputs.length === inputs.length && last.inputs.every((input, at) => input === inputs[at])) return last.generation
      const generation = make(shares)
      latest.set(scope, { inputs, generation })
      return generation
    }
  }
}
