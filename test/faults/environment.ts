import dns from 'node:dns'
import { syncBuiltinESMExports } from 'node:module'

/*
 * What a fault needs of the process itself: names that can be lost, and a wall clock that can be moved. Both stay as
 * they are for everything else in the process.
 */

const known = new Set<string>()
const { lookup } = dns

type Callback = (error: NodeJS.ErrnoException | null, address: string | dns.LookupAddress[], family?: number) => void

/**
 * `dns.lookup` with answers of its own for names below `.invalid`, which never resolve (RFC 6761): 127.0.0.1 while they
 * are known.
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
  const answer = { address: '127.0.0.1', family: 4 }
  process.nextTick(() => {
    if (error !== null) callback(error, '', 4)
    else if (options.all === true) callback(null, [answer])
    else callback(null, answer.address, answer.family)
  })
}
Object.assign(dns, {
  lookup: (hostname: string, ...rest: [Callback] | [dns.LookupOptions, Callback]) => {
    const [options, callback] = rest.length === 1 ? [{}, rest[0]] : rest
    lookupOrInvent(hostname, options, callback)
  }
})
syncBuiltinESMExports()

/** Names that lead to 127.0.0.1 until they are lost. */
export const names = {
  learn: (hostname: string): void => { known.add(hostname) },
  lose: (hostname: string): void => { known.delete(hostname) }
}

const wallClock = Date.now
let ahead = 0
Date.now = () => wallClock() + ahead

/** Sets the wall clock ahead of the true one, or back; the monotonic one goes on. */
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
 * processes instead does not count: a bound on it holds on a busy machine, too. Work that blocks the event loop counts.
 */
export function processTime (): number {
  const [wall, cpu] = [performance.now(), cpuTime()]
  const elapsed = last.elapsed + Math.min(wall - last.wall, Math.max(maxWaitMs, cpu - last.cpu))
  last = { wall, cpu, elapsed }
  return elapsed
}
setInterval(processTime, tick).unref()
