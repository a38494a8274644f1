import { slot, type Slot } from '../plugins/cache.ts'
import type { Extension, ExtensionType, ExtensionVersion } from '../schemas/extension.ts'
import type { Release } from './backend.ts'
import type { TypeListing } from './listing.ts'

/** All versions of an extension: as the driver says them, and as they are shown. */
export interface VersionListing { releases: readonly Release[], versions: ExtensionVersion[] }

/** Where an instance's answers are in the cache. */
export const createSlots = (instance: string) => ({
  list: (type: ExtensionType): Slot<TypeListing> => slot('list', `${instance}:list:${type}`),
  metadata: (type: ExtensionType, name: string): Slot<Extension> => slot('metadata', `${instance}:${type}/${name}`),
  versions: (type: ExtensionType, name: string): Slot<VersionListing> => slot('versions', `${instance}:${type}/${name}/versions`)
})
export type Slots = ReturnType<typeof createSlots>
