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

/** Milliseconds between two updates of `processTime`, and the longest interval that counts as waiting. */
const [tick, maxWaitMs] = [10, 15]
const cpuTime = (): number => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}
let last = { wall: performance.now(), cpu: cpuTime(), elapsed: 0 }

/**
 * Returns the milliseconds that this process has run or waited for events. Time in which the machine ran other
 * processes is excluded, so limits hold on a busy machine; work that blocks the event loop is included.
 */
export function processTime (): number {
  const [wall, cpu] = [performance.now(), cpuTime()]
  const elapsed = last.elapsed + Math.min(wall - last.wall, Math.max(maxWaitMs, cpu - last.cpu))
  last = { wall, cpu, elapsed }
  return elapsed
}
setInterval(processTime, tick).unref()
