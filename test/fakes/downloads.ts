import { createDownloads, type Downloads } from '../../plugins/downloads.ts'
import { createStoreHealth } from '../../plugins/store/health.ts'
import { createPins } from '../../plugins/store/pins.ts'
import { createReleases } from '../../plugins/transfer/releases.ts'
import { createLog } from './log.ts'

/** Downloads that keep nothing, and go straight to their upstreams. */
export function createPlainDownloads (): Downloads {
  const { log } = createLog()
  const health = createStoreHealth({ enabled: false, log, clock: () => 0 })
  return createDownloads({ health, releases: createReleases({ pins: createPins({ names: undefined, health }), onRerelease: 'serve', identity: instance => instance, log }), finishBytes: 0 })
}
