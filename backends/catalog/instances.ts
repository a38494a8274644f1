import { extensionSources, type ExtensionType } from '../../schemas/extension.ts'
import type { Scope } from './view.ts'
import type { Backend } from '../cached/backend.ts'

export interface ScopedName extends Scope { type: ExtensionType, name: string }

/** Returns instances in order of ownership: smaller priority first, then Gitea before OCI, then order of appearance. */
export function byOwnership (backends: readonly Backend[]): Backend[] {
  return [...backends].sort((a, b) =>
    a.priority - b.priority || extensionSources.indexOf(a.source) - extensionSources.indexOf(b.source)
  )
}

/** Returns the function that selects the instances of a scope, in order of ownership. */
export function createScopes (instances: readonly Backend[]): (scope: Scope) => readonly Backend[] {
  const ofSource = new Map(extensionSources.map(source => [source, instances.filter(one => one.source === source)]))
  return ({ source }) => source === undefined ? instances : ofSource.get(source) ?? []
}
