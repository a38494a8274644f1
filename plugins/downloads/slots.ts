import type { ServerResponse } from 'node:http'

/** Limits the number of concurrent downloads, because each holds a connection to a client and one to an upstream. */
export function createDownloadSlots (maxDownloads: number) {
  let active = 0
  return {
    /** Returns the number of slots in use. */
    active: (): number => active,

    /** Takes a slot until the response closes for any reason; returns false when all slots are in use. */
    take (reply: Pick<ServerResponse, 'destroyed' | 'once'>): boolean {
      if (active >= maxDownloads) return false
      // A closed response does not emit `close` again, so it must not take a slot.
      if (reply.destroyed) return true
      active++
      reply.once('close', () => { active-- })
      return true
    }
  }
}
export type DownloadSlots = ReturnType<typeof createDownloadSlots>
