import { isRefusal, registryError, type RegistryError } from '../../lib/errors.ts'
import {
  ignoreSkips,
  type Artifact,
  type Driver,
  type FileReference,
  type OpenOptions,
  type Skip
} from '../driver/driver.ts'
import type { RepositoryMapping } from '../driver/mapping.ts'
import { parsePlatform } from '../driver/platform.ts'
import { crawlRepositories } from './crawl.ts'
import { createTagMemory, type ByteCache, type FirstPlatform } from './reader.ts'
import { createRepositories, type ExtensionRef } from './repositories.ts'
import { createOciSchedule, createTrackedVersions, maxDigestAgeOf } from './tracked-versions.ts'
import { ContentError, type Transport } from './transport.ts'
import { createVersions } from './versions.ts'

export interface OciDriverOptions {
  /** Name of the instance. */
  name: string
  /** Path below which the extensions are, without a slash at either end; empty for the root. */
  namespace: string
  mapping: RepositoryMapping
  transport: Transport
  /** Called for each file whose content differs from its digest or size. */
  onDamage?: () => void
  /** Stores verified manifests and configs by digest. */
  immutable?: ByteCache
  /** Platform whose artifacts are taken from an index, such as `linux/arm64`; the first artifact if unset. */
  platform?: string
  /** Called when the first platform of several is taken, because none is configured. */
  onFirstPlatform?: (choice: FirstPlatform) => void
  /** Maximum number of requests of one crawl or load at the same time; 8 if unset. */
  concurrency?: number
  /**
   * Seconds within which a crawl reads every repository again, although no change is visible; 3600 if unset. Local
   * repositories are read in each crawl.
   */
  reconcileSeconds?: number
  /** Minimum number of repositories that a crawl reads, if the registry does not list changes; 130 if unset. */
  minReads?: number
  /** Returns the milliseconds of a monotonic clock. */
  clock?: () => number
}

/**
 * Creates the driver of one OCI registry or directory of image layouts, which it reads over `transport`. A version is a
 * tag that is a semantic version of an artifact; others are skipped. Its methods throw the errors of the transport; see
 * `Driver`.
 */
export function createOciDriver (options: OciDriverOptions): Driver {
  const { name: instance, transport, immutable, concurrency = 8, minReads = 130, onFirstPlatform } = options
  const { clock = () => performance.now() } = options
  const reconcileSeconds = transport.local ? 0 : options.reconcileSeconds ?? 3600
  const platform = options.platform === undefined ? undefined : parsePlatform(options.platform)
  const repositories = createRepositories({ ...options, clock })
  const pointed = createTagMemory(clock)
  const schedule = createOciSchedule({ reconcileSeconds, minReads, clock })

  const versionsFor = (skip: Skip, maxDigestAge = (_repository: string) => 0) =>
    createTrackedVersions(createVersions({
      instance,
      transport,
      concurrency,
      skip,
      platform,
      onFirstPlatform,
      pointed,
      maxDigestAge,
      ...(immutable !== undefined && { immutable })
    }), schedule)

  /** Returns the result of `read` for the first repository of an extension that has one. */
  async function firstOf<T> (
    extension: ExtensionRef,
    read: (repository: string, extension: ExtensionRef) => Promise<T | undefined>
  ): Promise<T | undefined> {
    const refusedRepositories: string[] = []
    let refusal: RegistryError | undefined
    for (const repository of repositories.candidates(extension.type, extension.name)) {
      try {
        const found = await read(repository, extension)
        if (found !== undefined) return found
      } catch (error) {
        // Many registries refuse repositories that do not exist; the next repository may hold the extension.
        if (!isRefusal(error)) throw error
        refusal ??= error
        refusedRepositories.push(repository)
      }
    }
    if (refusal !== undefined && !await repositories.areUnlisted(refusedRepositories)) throw refusal
    return undefined
  }

  return {
    name: instance,
    source: 'oci',
    local: transport.local,
    covers: (type, name) => transport.closed !== true || repositories.candidates(type, name).length > 0,

    list: async ({ skip } = ignoreSkips) =>
      await crawlRepositories({
        transport,
        repositories,
        versionsOf: plan => versionsFor(skip, maxDigestAgeOf(plan, reconcileSeconds)),
        schedule,
        concurrency,
        skip
      }),

    async load (type, name, { skip } = ignoreSkips) {
      const versions = versionsFor(skip)
      return await firstOf({ type, name }, versions.all)
    },

    async current (type, name, { skip } = ignoreSkips) {
      const versions = versionsFor(skip)
      return await firstOf({ type, name }, versions.current)
    },

    open: async (file, openOptions) => await openBlob(options, file, openOptions),

    ping: async signal => { await transport.ping(signal) }
  }
}

/** Opens the blob of a file. Throws `service_unavailable` when it differs from its digest or size. */
async function openBlob (
  { name: instance, transport, onDamage }: OciDriverOptions,
  file: FileReference,
  { signal, offset = 0, etag }: OpenOptions
): Promise<Artifact | undefined> {
  const at = file.locator.lastIndexOf('@')
  const content = { digest: file.locator.slice(at + 1), size: file.size ?? 0 }
  try {
    const blob = await transport.blob(file.locator.slice(0, at), content, {
      signal,
      offset,
      ...(etag !== undefined && { etag })
    })
    return blob === undefined ? undefined : { file, ...blob, length: content.size }
  } catch (error) {
    if (!(error instanceof ContentError)) throw error
    onDamage?.()
    throw registryError('service_unavailable', `Instance ${instance} is unavailable`, {
      instance,
      cause: error,
      details: 'File is damaged',
      proxyError: 'http_response_incomplete'
    })
  }
}
