import type { Download, Downloads, OpenContent } from '../../plugins/downloads/download.ts'
import type { DownloadSource, OpenAt } from '../../plugins/downloads/transfer/source.ts'
import { late, withDeadline } from '../../lib/deadline.ts'
import { registryError, type RegistryError } from '../../lib/errors.ts'
import { type Result, toResult } from '../../lib/result.ts'
import type { Backend, VersionName } from '../cached/backend.ts'
import type { FileReference } from '../driver/driver.ts'
import type { ScopedName } from './instances.ts'
import type { Owners } from './owners.ts'

/** The file of a version of the catalog. It is data only; `open` of the catalog opens it. */
export interface CatalogFile extends Download {
  ref: VersionName & { instance: string }
  file: FileReference
}

export interface CatalogFilesDependencies {
  /** Every instance, in order of ownership. */
  instances: readonly Backend[]
  downloads: Pick<Downloads, 'look' | 'open'>
  owners: Pick<Owners, 'read'>
  /** Maximum milliseconds until the first byte of a file. */
  budgetMs: number
}

const notFound = ({ type, name, version }: VersionName, state = 'not found'): RegistryError =>
  registryError('not_found', `Extension ${type}/${name} version ${version} ${state}`)

/** Creates the reads of the files of all instances. */
export function createCatalogFiles ({ instances, downloads, owners, budgetMs }: CatalogFilesDependencies) {
  /** Returns the sources of a file: its owner, and other instances that have the same content. */
  function sourcesOf (owner: Backend, { ref, file }: CatalogFile): DownloadSource[] {
    let opened: FileReference | undefined
    const first: DownloadSource = {
      instance: owner.name,
      async open (at) {
        if (opened !== undefined) return await owner.open(opened, at)
        const artifact = await owner.open(file, { signal: at.signal }, ref)
        opened = artifact?.file
        return artifact
      }
    }
    const { checksum } = file
    const others = checksum === undefined
      ? []
      : instances.flatMap(backend => {
        const same = backend === owner ? undefined : backend.holding(checksum)
        return same === undefined
          ? []
          : [{ instance: backend.name, open: async (at: OpenAt) => await backend.open(same, at) }]
      })
    return [first, ...others]
  }

  return {
    /**
     * Returns the file of a version of the extension's owner, not opened yet. Throws `not_found` when the version does
     * not exist, or has no file.
     */
    async file ({ version, ...extension }: ScopedName & { version: string }): Promise<Result<CatalogFile>> {
      const { type, name } = extension
      const openBy = performance.now() + budgetMs
      return await withDeadline(budgetMs, late, async signal => {
        const { backend, result } = await owners.read(
          extension,
          signal,
          (backend, options) => backend.has(type, name, options)
        )
        if (backend === undefined) throw notFound({ type, name, version })
        const ref = { instance: backend.name, type, name, version }
        const stat = await backend.stat(type, name, version, { signal })
        if (stat.value === undefined) throw stat.error ?? notFound(ref)
        const { file, published_at: published } = stat.value
        if (file === undefined) throw notFound(ref, 'has no file')
        const known = await downloads.look({ ref, file })
        const stale = stat.error === undefined ? result.stale : [{ instance: backend.name, error: stat.error }]
        return toResult({ ref, file, published, local: backend.local, openBy, ...known }, [result, stat], stale)
      })
    },

    /**
     * Opens a file, which may have been replaced by another file meanwhile. Throws `not_found` when it no longer
     * exists, the reason of `signal` when that is aborted first, and errors of the table.
     */
    async open (file: CatalogFile, { signal }: { signal: AbortSignal }): Promise<OpenContent> {
      const owner = instances.find(({ name }) => name === file.ref.instance)
      const content = owner && await downloads.open(file, { sources: sourcesOf(owner, file), signal })
      if (content === undefined) throw notFound(file.ref)
      return content
    }
  }
}
