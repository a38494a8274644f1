/** Requested part of a file: the bytes from `start` to before `end`, the whole file, or an unsatisfiable range. */
export type RangeRequest = { start: number, end: number } | 'whole' | 'unsatisfiable'

/**
 * Returns the single range of `Range` (RFC 9110, section 14.1.2). Other units and several ranges are ignored, as the
 * RFC allows; the response is the whole file.
 */
export function parseRange (header: string | undefined, size: number): RangeRequest {
  const [, first = '', last = ''] = /^bytes[ \t]*=[ \t]*(\d*)-(\d*)[ \t]*$/i.exec(header ?? '') ?? []
  if (first === '' && last === '') return 'whole'
  // A suffix range: `last` is the number of bytes at the end.
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
