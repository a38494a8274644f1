import { ignoreSkips, type Driver } from '../driver/driver.ts'
import type { RepositoryMapping } from '../driver/mapping.ts'
import { openAsset, type GiteaApi } from './api.ts'
import { createCandidates } from './candidates.ts'
import { createChangeTracker } from './change-tracker.ts'
import type { Checksums } from './checksums.ts'
import { createCrawl, type GiteaCrawlOptions } from './crawl.ts'
import { createReleaseFiles, type ReleaseFilesOptions } from './release-files.ts'
import { createReleases, createTrackedReleases } from './releases.ts'

export interface GiteaDriverOptions extends ReleaseFilesOptions, GiteaCrawlOptions {
  /** Name of the instance. */
  name: string
  includePrivate: boolean
  mapping: RepositoryMapping
  /** Seconds within which a crawl reads every repository again, although no change is visible; 3600 if unset. */
  reconcileSeconds?: number
  /** Returns the milliseconds of a monotonic clock. */
  clock?: () => number
}

/**
 * Creates the driver of one Gitea or Forgejo instance: extensions are releases of the repositories of one organisation
 * or user. Its methods throw the errors of the API; see `Driver`.
 */
export function createGiteaDriver (api: GiteaApi, checksums: Checksums, options: GiteaDriverOptions): Driver {
  const { name: instance, mapping, reconcileSeconds = 3600, clock = () => performance.now() } = options
  const tracker = createChangeTracker({ reconcileSeconds, clock })
  const candidates = createCandidates(options)
  const files = createReleaseFiles(checksums, candidates, options)
  const releases = createTrackedReleases(createReleases(api, { instance, checksums, files }), tracker)
  const crawl = createCrawl({ api, candidates, releases, tracker }, options)

  return {
    name: instance,
    source: 'gitea',

    list: async ({ skip } = ignoreSkips) => await crawl(skip),

    async load (type, name, { skip } = ignoreSkips) {
      for (const repositoryName of mapping.repositories(type, name)) {
        const repository = await api.repository(repositoryName)
        const candidate = repository === undefined ? undefined : candidates.select(repository, skip)
        if (candidate === undefined) continue
        const versions = await releases.versions(candidate, skip)
        if (versions.length > 0) return { metadata: candidates.metadata(candidate), releases: versions }
      }
      return undefined
    },

    checksum: async ({ checksumLocator }, { skip } = ignoreSkips) =>
      checksumLocator === undefined ? {} : await checksums.look(checksumLocator, skip),

    open: async (file, options) => await openAsset(api, instance, file, options),

    ping: async signal => { await api.ping(signal) }
  }
}
