/** What a client asks for of a file: bytes `start` to before `end`; all of it; or something that there is not. */
export type RangeRequest = { start: number, end: number } | 'whole' | 'unsatisfiable'

/**
 * The one range of `Range` (RFC 9110 section 14.1.2). What is no range of bytes, or several of them, is ignored, as it
 * may be: the whole file is the answer.
 */
export function parseRange (header: string | undefined, size: number): RangeRequest {
  const [, first = '', last = ''] = /^bytes[ \t]*=[ \t]*(\d*)-(\d*)[ \t]*$/i.exec(header ?? '') ?? []
  if (first === '' && last === '') return 'whole'
  // A suffix: so many bytes at the end.
  if (first === '') {
    return Number(last) === 0 || size === 0
      ? 'unsatisfiable'
      : { start: Math.max(0, size - Number(last)), end: size }
  }
  const start = Number(first)
  if (last !== '' && Number(last) < start) return 'whole'
  if (start >= size) return 'unsatisfiable'
  return { start, end: last === '' ? size : Math.min(Number(last) + 1, size) }
}
