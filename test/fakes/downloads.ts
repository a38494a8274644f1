import { createDownloads, type Downloads } from '../../plugins/downloads/download.ts'
import { createStoreHealth } from '../../plugins/downloads/store/directory.ts'
import { createPins, createRereleases } from '../../plugins/downloads/rereleases.ts'
import { createLog } from './log.ts'

/** Creates downloads without a store, which read from their upstreams directly. */
export function createPlainDownloads (): Downloads {
  const { log } = createLog()
  const health = createStoreHealth({ enabled: false, log, clock: () => 0 })
  return createDownloads({
    health,
    rereleases: createRereleases({
      pins: createPins({ names: undefined, health }),
      onRerelease: 'serve',
      identities: new Map(),
      log
    }),
    finishBytes: 0
  })
}
