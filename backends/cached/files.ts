import { LRUCache } from 'lru-cache'
import type { Artifact, Driver, FileReference, OpenOptions, Release } from '../driver/driver.ts'
import { isUpstreamResponse } from '../driver/fail-fast.ts'
import type { ExtensionType } from '../../schemas/extension.ts'
import type { CachedResult } from '../../lib/result.ts'
import type { Backend, ReadOptions, VersionName } from './backend.ts'
import { passes, type UpstreamCall } from './breaker.ts'
import type { NamedEntries } from './entries.ts'
import type { Lookups } from './checksums.ts'

export interface BackendFilesDependencies {
  driver: Pick<Driver, 'open'>
  call: UpstreamCall
  readRelease: NamedEntries['readRelease']
  lookups: Pick<Lookups, 'release'>
  /** Maximum age of the cached entry that an absence may rest on, in seconds. */
  negativeTtl: number
}

/** Maximum number of digests whose files are kept in memory. */
const maxDigests = 10_000

/** Creates the reads of the files of one instance. */
export function createBackendFiles (
  { driver, call, readRelease, lookups, negativeTtl }: BackendFilesDependencies
) {
  const holders = new LRUCache<string, FileReference>({ max: maxDigests })

  /** Returns the release of a version. Before it is absent, the cached versions are as young as a 404 requires. */
  async function freshRelease (
    type: ExtensionType,
    name: string,
    version: string,
    { signal }: ReadOptions = {}
  ): Promise<CachedResult<Release | undefined>> {
    const options = signal === undefined ? {} : { signal }
    const cached = await readRelease(type, name, version, options)
    if (cached.value !== undefined || !cached.hit) return cached
    return await readRelease(type, name, version, { ...options, maxAge: negativeTtl })
  }

  /** Returns the release of a version with the checksum of its file. */
  const checkedRelease = async (
    type: ExtensionType,
    name: string,
    version: string,
    options: ReadOptions = {}
  ): Promise<CachedResult<Release | undefined>> =>
    await lookups.release({
      type,
      name,
      options,
      since: performance.now(),
      result: await freshRelease(type, name, version, options),
      reload: async () => await readRelease(type, name, version, { ...options, maxAge: -1 })
    })

  const openFile = async (
    file: FileReference,
    options: OpenOptions,
    of: VersionName | undefined
  ): Promise<Artifact | undefined> =>
    await call(async () => await driver.open(file, options), {
      forgives: error => options.signal.aborted || isUpstreamResponse(error),
      passes,
      ...(of !== undefined && { extension: `${of.type}/${of.name}` })
    })

  const stat: Backend['stat'] = async (type, name, version, options) => {
    const { value: found, ...cached } = await checkedRelease(type, name, version, options)
    return {
      ...cached,
      value: found && { published_at: found.published_at, ...(found.file !== undefined && { file: found.file }) }
    }
  }

  const open: Backend['open'] = async (file, options, of) => {
    const artifact = await openFile(file, options, of)
    if (artifact !== undefined || of === undefined) return artifact
    const { type, name, version } = of
    // The upstream may have the file under another address, because the release was replaced.
    const { value, error } = await readRelease(type, name, version, { maxAge: -1 })
    if (error !== undefined) throw error
    if (value?.file === undefined || value.file.locator === file.locator) return undefined
    const { value: replaced } = await checkedRelease(type, name, version)
    return replaced?.file && await openFile(replaced.file, options, of)
  }

  return {
    /** Keeps a file in memory for `holding`. */
    remember (file: FileReference): void {
      if (file.checksum !== undefined) holders.set(file.checksum, file)
    },
    holding: (checksum: string): FileReference | undefined => holders.get(checksum),
    stat,
    open
  }
}
