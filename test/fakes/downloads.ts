import { createDownloads, type Downloads } from '../../plugins/downloads/download.ts'
import { createStoreHealth } from '../../plugins/downloads/store/health.ts'
import { createPins } from '../../plugins/downloads/store/pins.ts'
import { createRereleases } from '../../plugins/downloads/rereleases.ts'
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
      identity: instance => instance,
      log
    }),
    finishBytes: 0
  })
}
