import { extensionTypes, type ExtensionType } from '../../schemas/extension.ts'
import type { Mapping } from '../../schemas/config.ts'

/** What an extension may be called: it stands in paths, so it has no separator and no escape. */
export const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/

/** The extension that a repository means. */
export interface Identity {
  type: ExtensionType
  name: string
  /** Position of the pattern that matched: of two repositories that mean one extension, the smaller counts. */
  rank: number
}

/** Reads and writes repository names by an instance's patterns. */
export function createMapping (mapping: Mapping) {
  const patterns = extensionTypes.flatMap(type => mapping[type].map(pattern => {
    const at = pattern.indexOf('{name}')
    return { type, prefix: pattern.slice(0, at), suffix: pattern.slice(at + '{name}'.length) }
  })).map((pattern, rank) => ({ ...pattern, rank }))

  return {
    /** The extension that a repository's name means: the first pattern that fits; undefined when none does, or what is left is no name. */
    identify (repository: string): Identity | undefined {
      for (const { type, prefix, suffix, rank } of patterns) {
        if (repository.length <= prefix.length + suffix.length || !repository.startsWith(prefix) || !repository.endsWith(suffix)) continue
        const name = repository.slice(prefix.length, repository.length - suffix.length)
        if (namePattern.test(name)) return { type, name, rank }
      }
      return undefined
    },
    /** The repositories that may hold an extension, in the order in which they count. Each is identified as that very extension. */
    repositories (type: ExtensionType, name: string): string[] {
      return patterns.filter(pattern => pattern.type === type).map(({ prefix, suffix }) => `${prefix}${name}${suffix}`)
        .filter(repository => { const found = this.identify(repository); return found?.type === type && found.name === name })
    }
  }
}
export type RepositoryMapping = ReturnType<typeof createMapping>
