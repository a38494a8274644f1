import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../../schemas/config.ts'
import type { Telemetry } from '../metrics/registry.ts'
import { createDownloads, type Downloads } from './download.ts'
import { createRereleases, createPins } from './rereleases.ts'
import { createBlobs } from './store/blobs.ts'
import { createStoreHealth, createStorePaths, defaultDirectory } from './store/directory.ts'

declare module 'fastify' {
  interface FastifyInstance { downloads: Downloads }
}

export interface DownloadsOptions { config: Config }

/** Registers the metrics of the store. Their values are read at each scrape. */
function observeStore ({ gauge, counter }: Telemetry, { active, statistics }: Downloads): void {
  const one = (value: () => number) => () => [{ labels: {}, value: value() }]
  gauge<string>('transfers_active', 'Transfers from upstreams to the store in progress', [], one(active))
  gauge<string>('store_bytes', 'Size of the verified files in the store in bytes', [], one(() => statistics().bytes))
  gauge<string>('store_entries', 'Verified files in the store', [], one(() => statistics().entries))
  gauge<string>(
    'store_usable',
    '1 if the store can be written, 0 while downloads continue without it',
    [],
    one(() => Number(statistics().usable))
  )
  counter<string>('store_hits_total', 'Downloads of files in the store', [], one(() => statistics().hits))
  counter<string>(
    'store_misses_total',
    'Downloads of files with a known digest that are not in the store',
    [],
    one(() => statistics().misses)
  )
  counter<string>(
    'store_evictions_total',
    'Files that were removed from the store for others',
    [],
    one(() => statistics().evictions)
  )
  counter<string>(
    'store_damaged_total',
    'Damaged files that were removed from the store',
    [],
    one(() => statistics().damaged)
  )
  counter<string>(
    'store_failures_total',
    'Failures to use the directory of the store',
    [],
    one(() => statistics().failures)
  )
}

/** Returns the identity of each instance's upstream, by the name of the instance. */
function upstreamIdentities ({ gitea, oci }: Config): Map<string, string> {
  return new Map([
    ...gitea.map(({ name, url, organization }) => [name, JSON.stringify(['gitea', url, organization])] as const),
    ...oci.map(({ name, registry, namespace }) => [name, JSON.stringify(['oci', registry, namespace])] as const)
  ])
}

/** Adds the decorator `downloads`: the store and the transfers into it. */
async function downloads (fastify: FastifyInstance, { config }: DownloadsOptions): Promise<void> {
  const { cache: { now: clock }, telemetry, log } = fastify
  const { enabled, directory: configured, max_bytes: maxBytes, finish_bytes: finishBytes, on_rerelease: onRerelease } =
    config.store
  const identities = upstreamIdentities(config)
  const directory = configured ?? defaultDirectory([...identities.values()])
  const health = createStoreHealth({ enabled, log, clock })
  if (enabled && directory === undefined) health.failed(new Error('No directory for caches is available'))
  const names = enabled && directory !== undefined ? createStorePaths(directory) : undefined
  const blobs = names === undefined ? undefined : createBlobs({ names, health, maxBytes, clock })
  const rereleases = createRereleases({
    pins: createPins({ names, health }),
    onRerelease,
    identities,
    log,
    onFound: telemetry.observeRerelease
  })
  const downloads = createDownloads({
    ...(blobs !== undefined && { blobs }),
    health,
    rereleases,
    finishBytes,
    observer: {
      onBytes: telemetry.observeFetched,
      onResume: telemetry.observeResume,
      onDamage (backend, { type, name, version }, details) {
        telemetry.observeDamage(backend)
        // The damage is logged, because a client only receives an incomplete response, and a transfer can be without a
        // client.
        log.warn(
          { backend, extension: `${type}/${name}`, version, details },
          'a file differs from the published file: the download was stopped'
        )
      },
      onServed: telemetry.observeServed
    }
  })
  fastify.decorate('downloads', downloads)
  fastify.addHook('onClose', async () => { await downloads.close() })
  observeStore(telemetry, downloads)
}

export default fp(downloads, {
  name: 'registry-downloads',
  fastify: '5.x',
  dependencies: ['registry-cache', 'registry-telemetry'],
  decorators: { fastify: ['cache', 'telemetry'] }
})
