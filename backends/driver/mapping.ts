import { extensionTypes, type ExtensionType } from '../../schemas/extension.ts'
import type { Mapping } from '../../schemas/upstreams.ts'
import { isExtensionName } from '../../schemas/name.ts'

/** The extension that a repository holds, by the repository's name. */
export interface ExtensionMatch {
  type: ExtensionType
  name: string
  /** Position of the pattern that matched; of two repositories of one extension the smaller rank counts. */
  rank: number
}

/** Creates the reader and writer of repository names by an instance's patterns. */
export function createMapping (mapping: Mapping) {
  const patterns = extensionTypes.flatMap(type => mapping[type].map(pattern => {
    const at = pattern.indexOf('{name}')
    return { type, prefix: pattern.slice(0, at), suffix: pattern.slice(at + '{name}'.length) }
  })).map((pattern, rank) => ({ ...pattern, rank }))

  /**
   * Returns the extension of a repository name, by the first pattern that matches. Returns undefined when no pattern
   * matches, or the rest is not a valid name.
   */
  function identify (repository: string): ExtensionMatch | undefined {
    for (const { type, prefix, suffix, rank } of patterns) {
      if (repository.length <= prefix.length + suffix.length) continue
      if (!repository.startsWith(prefix) || !repository.endsWith(suffix)) continue
      const name = repository.slice(prefix.length, repository.length - suffix.length)
      if (isExtensionName(name)) return { type, name, rank }
    }
    return undefined
  }

  /** Returns the repositories that may hold an extension, in order of precedence. `identify` returns it for each. */
  function repositories (type: ExtensionType, name: string): string[] {
    const candidates = patterns.filter(pattern => pattern.type === type)
      .map(({ prefix, suffix }) => `${prefix}${name}${suffix}`)
    return candidates.filter(repository => {
      const found = identify(repository)
      return found?.type === type && found.name === name
    })
  }

  return { identify, repositories }
}
export type RepositoryMapping = ReturnType<typeof createMapping>
