import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { createSnapshotFiles, type SnapshotFiles } from './file.ts'
import type { Backend } from '../cached/backend.ts'

export interface SnapshotsOptions {
  /** Directory in which the last good catalog is kept; it is not kept if unset. */
  directory?: string
  /** Milliseconds between two checks for changes to save. */
  saveInterval?: number
}

export interface SnapshotsDependencies {
  instances: readonly Backend[]
  snapshots: SnapshotFiles
  log: FastifyBaseLogger
  /** Called after each attempt to save an instance's catalog. */
  observe: (backend: string, result: 'saved' | 'failed') => void
}

/**
 * Restores the catalogs of a former process, and saves those of this one. A failure is logged, and affects nothing
 * else.
 */
export function createSnapshots ({ instances, snapshots, log, observe }: SnapshotsDependencies) {
  const saved = new Map<Backend, number>()
  let failing = false
  let saving: Promise<void> | undefined

  async function saveOne (instance: Backend): Promise<void> {
    const { name, identity, savedRecords: memory, loads } = instance
    if (loads === (saved.get(instance) ?? 0)) return
    try {
      await snapshots.write(name, identity, memory.records())
      saved.set(instance, loads)
      observe(name, 'saved')
      if (failing) log.info('the catalog can be saved again')
      failing = false
    } catch (error) {
      observe(name, 'failed')
      if (!failing) {
        log.warn(
          { backend: name, err: error },
          'the catalog cannot be saved: a restart begins without it; check cache.directory'
        )
      }
      failing = true
    }
  }

  return {
    async restore (): Promise<void> {
      for (const { name, identity, savedRecords: memory } of instances) {
        try {
          const records = await snapshots.read(name, identity)
          if (records === undefined) continue
          memory.restore(records)
          log.info(
            { backend: name },
            'the saved catalog is used, as stale, until the first crawl ends'
          )
        } catch (error) {
          log.warn({ backend: name, err: error }, 'the saved catalog cannot be read: it is not used')
        }
      }
    },

    /** Saves the catalogs that have changed. Concurrent calls share one save. */
    async save (): Promise<void> {
      saving ??= (async () => {
        for (const instance of instances) await saveOne(instance)
      })().finally(() => { saving = undefined })
      await saving
    }
  }
}
export type Snapshots = ReturnType<typeof createSnapshots>

async function snapshots (
  fastify: FastifyInstance,
  { directory, saveInterval = 5000 }: SnapshotsOptions
): Promise<void> {
  if (directory === undefined) return
  const { instances } = fastify.catalog
  const counts = new Map(instances.map(({ name }) => [name, { saved: 0, failed: 0 }]))
  fastify.telemetry.counter(
    'catalog_saves_total',
    'Attempts to save a snapshot of the catalog on disk',
    ['backend', 'result'],
    () =>
      [...counts].flatMap(([backend, count]) =>
        (['saved', 'failed'] as const).map(result => ({ labels: { backend, result }, value: count[result] }))
      )
  )
  const { restore, save } = createSnapshots({
    instances,
    snapshots: createSnapshotFiles(directory),
    log: fastify.log,
    observe: (name, result) => {
      const count = counts.get(name)
      if (count !== undefined) count[result]++
    }
  })
  await restore()
  const timer = setInterval(() => { void save() }, saveInterval)
  timer.unref()
  fastify.addHook('onClose', async () => {
    clearInterval(timer)
    // A save in progress may have passed an instance that changed later: the second save includes it.
    await save()
    await save()
  })
}

export default fp(snapshots, {
  name: 'registry-snapshots',
  fastify: '5.x',
  dependencies: ['registry-catalog', 'registry-telemetry'],
  decorators: { fastify: ['catalog', 'telemetry'] }
})
