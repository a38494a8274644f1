import { isRegistryError } from '../../lib/errors.ts'
import type { ExtensionType } from '../../schemas/extension.ts'
import type { RepositoryMapping } from '../driver/mapping.ts'
import type { RepositoryNames, Transport } from './transport.ts'

export interface ExtensionRef { type: ExtensionType, name: string }

/** An extension with the full names of its repositories, in order of precedence. */
export interface ExtensionRepositories { extension: ExtensionRef, repositories: string[] }

export interface RepositoriesOptions {
  transport: Transport
  /** Path below which the extensions are, without a slash at either end; empty for the root. */
  namespace: string
  mapping: RepositoryMapping
  /** Returns the milliseconds of a monotonic clock. */
  clock: () => number
}

/**
 * Milliseconds for which the registry's own list of repositories proves that a denied repository does not exist. For
 * the same time a list that failed is not requested again.
 */
const discoveryLifeMs = 10_000

/** Creates the look-up of the repositories that hold extensions. */
export function createRepositories ({ transport, namespace, mapping, clock }: RepositoriesOptions) {
  const below = namespace === '' ? '' : `${namespace}/`
  let discovered: { at: number, repositories: Promise<RepositoryNames> } | undefined

  /** Returns the repositories that may hold an extension, in order of precedence. */
  const candidates = (type: ExtensionType, name: string): string[] =>
    mapping.repositories(type, name).map(path => below + path).filter(repository =>
      transport.closed !== true || transport.named?.has(repository) === true
    )

  /** Returns the extensions of repositories, each once; other repositories are ignored. */
  function group (names: readonly string[]): ExtensionRepositories[] {
    const groups = new Map<string, { extension: ExtensionRef, ranked: Array<{ rank: number, repository: string }> }>()
    for (const repository of new Set(names)) {
      if (!repository.startsWith(below)) continue
      const match = mapping.identify(repository.slice(below.length))
      if (match === undefined) continue
      const { type, name, rank } = match
      const key = `${type}/${name}`
      const { extension, ranked } = groups.get(key) ?? { extension: { type, name }, ranked: [] }
      ranked.push({ rank, repository })
      groups.set(key, { extension, ranked })
    }
    return [...groups.values()].map(({ extension, ranked }) => ({
      extension,
      repositories: ranked.sort((a, b) => a.rank - b.rank).map(({ repository }) => repository)
    }))
  }

  /** Discovers the repositories. The result, or the failure, is remembered for `discoveryLifeMs`. */
  async function discover (options = { withStates: false }): Promise<RepositoryNames> {
    discovered = { at: clock(), repositories: transport.repositories(namespace, options) }
    return await discovered.repositories
  }

  /**
   * Returns whether the registry's own list of repositories is complete and has none of these. Many registries deny
   * repositories that do not exist; only the list distinguishes them from refused ones.
   */
  async function areUnlisted (repositories: readonly string[]): Promise<boolean> {
    try {
      const { names, truncated } = await (discovered !== undefined && clock() - discovered.at < discoveryLifeMs
        ? discovered.repositories
        : discover())
      return truncated !== true && !repositories.some(repository => names.includes(repository))
    } catch (error) {
      if (!isRegistryError(error)) throw error
      return false
    }
  }

  return { candidates, group, discover, areUnlisted }
}
export type Repositories = ReturnType<typeof createRepositories>
