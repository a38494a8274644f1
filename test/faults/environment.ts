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
