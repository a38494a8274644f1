import { readFileSync } from 'node:fs'
import { canPin } from './process.ts'

/** Returns the numbers of a list such as `0-2,5`. */
export const parseCores = (list: string): number[] =>
  list.trim().split(',').flatMap(part => {
    const [first = NaN, last = first] = part === '' ? [] : part.split('-').map(Number)
    return Number.isInteger(first) && Number.isInteger(last)
      ? Array.from({ length: last - first + 1 }, (_, at) => first + at)
      : []
  })

function allowed (): number[] {
  try {
    return parseCores(/^Cpus_allowed_list:\s+(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '')
  } catch {
    return []
  }
}

/**
 * Returns one processor for the measured server and another one for the load; empty if there are fewer than two, or
 * processes cannot be pinned.
 */
export function chooseCores (): { server?: number, load?: number } {
  const [server, load] = canPin ? allowed() : []
  return server === undefined || load === undefined ? {} : { server, load }
}
