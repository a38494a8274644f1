import dns from 'node:dns'
import { syncBuiltinESMExports } from 'node:module'

/*
 * Faults of the process itself: names that cannot be resolved and a wall clock that jumps. The rest of the process is
 * not affected.
 */

const known = new Set<string>()
const { lookup } = dns

type Callback = (error: NodeJS.ErrnoException | null, address: string | dns.LookupAddress[], family?: number) => void

/**
 * Replaces `dns.lookup` for names below `.invalid`, which never resolve (RFC 6761): returns 127.0.0.1 for known names,
 * and an error for others.
 */
function lookupOrInvent (hostname: string, options: dns.LookupOptions, callback: Callback): void {
  if (!hostname.endsWith('.invalid')) return lookup(hostname, options, callback)
  const error = known.has(hostname)
    ? null
    : Object.assign(new Error(`getaddrinfo ENOTFOUND ${hostname}`), {
      code: 'ENOTFOUND',
      syscall: 'getaddrinfo',
      hostname
    })
  const response = { address: '127.0.0.1', family: 4 }
  process.nextTick(() => {
    if (error !== null) callback(error, '', 4)
    else if (options.all === true) callback(null, [response])
    else callback(null, response.address, response.family)
  })
}
Object.assign(dns, {
  lookup: (hostname: string, ...rest: [Callback] | [dns.LookupOptions, Callback]) => {
    const [options, callback] = rest.length === 1 ? [{}, rest[0]] : rest
    lookupOrInvent(hostname, options, callback)
  }
})
syncBuiltinESMExports()

/** Names that resolve to 127.0.0.1 until they are lost. */
export const names = {
  learn: (hostname: string): void => { known.add(hostname) },
  lose: (hostname: string): void => { known.delete(hostname) }
}

const wallClock = Date.now
let ahead = 0
Date.now = () => wallClock() + ahead

/** Sets the wall clock ahead of the real time by these seconds, or back; the monotonic clock is not changed. */
export function setWallClock (seconds: number): void {
  ahead = seconds * 1000
}

/** Milliseconds between two updates of `waitingTime`, and the maximum of each interval that counts. */
const [tick, maxIntervalMs] = [10, 15]
let last = { wall: performance.now(), elapsed: 0 }

/**
 * Returns the milliseconds in which this process was able to respond. A longer pause of the event loop counts as one
 * interval, because a machine that stops for a moment is not a wait for an upstream. CPU time does not distinguish
 * them: a virtual machine that was stopped counts the time for the process that was running. Work that blocks the
 * event loop is limited by the maximum sizes of pages and documents, which have tests of their own.
 */
export function waitingTime (): number {
  const wall = performance.now()
  const elapsed = last.elapsed + Math.min(wall - last.wall, maxIntervalMs)
  last = { wall, elapsed }
  return elapsed
}
setInterval(waitingTime, tick).unref()
