import type { ServerResponse } from 'node:http'

/** Bounds how many downloads run at once: each holds a connection to a client and one to an upstream. */
export function createDownloadSlots (maxDownloads: number) {
  let active = 0
  return {
    /** How many are taken. */
    active: (): number => active,

    /** Takes one until the reply is closed, however that comes about; false when none is left. */
    take (reply: Pick<ServerResponse, 'destroyed' | 'once'>): boolean {
      if (active >= maxDownloads) return false
      // A client that is gone already closes nothing any more.
      if (reply.destroyed) return true
      active++
      reply.once('close', () => { active-- })
      return true
    }
  }
}
export type DownloadSlots = ReturnType<typeof createDownloadSlots>
