import { readFileSync } from 'node:fs'
import { canPin } from './process.ts'

/** Numbers of a list like `0-2,5`. */
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
 * A processor for what is measured and another one for what asks; none where there are not two, or nothing can be held
 * to one.
 */
export function chooseCores (): { server?: number, load?: number } {
  const [server, load] = canPin ? allowed() : []
  return server === undefined || load === undefined ? {} : { server, load }
}
