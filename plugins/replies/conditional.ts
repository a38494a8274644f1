import type { IncomingHttpHeaders } from 'node:http'

/** Parts of a request that conditions depend on. A Fastify request has them. */
export interface ConditionalRequest {
  readonly method: string
  readonly headers: IncomingHttpHeaders
  readonly raw: { readonly rawHeaders: readonly string[] }
}

/** Validators of the representation that a request selects. */
export interface Validators {
  /** Returns the strong entity tags that `If-Match` may contain: those of the representation in each of its codings. */
  readonly current: () => readonly string[]
  /** Entity tags that make a client's copy usable (`If-None-Match`); the first one is the tag of the response. */
  readonly usable: readonly string[]
  /** Time of the last modification, in milliseconds since the epoch; absent when it is unknown. */
  readonly modified?: number | undefined
}

/**
 * Response that conditions demand in place of the representation: 304 with the entity tag of the client's copy, or 412.
 */
export type Refusal = { status: 304, etag: string } | { status: 412, header: 'If-Match' | 'If-Unmodified-Since' }

/**
 * Member of a list of entity tags, which may be empty, with its comma (RFC 9110, sections 5.6.1 and 8.8.3). A space in
 * a tag is accepted, because RFC 2616 allowed it.
 */
const member = /[ \t]*(?:((?:W\/)?"[ !\x23-\x7e\x80-\xff]*")[ \t]*)?(?:,|$)/gy

/** Returns the entity tags of a list, in which `*` is not allowed; undefined for a malformed list. */
function entityTags (field: string): string[] | undefined {
  const members = [...field.matchAll(member)]
  const read = members.reduce((length, [whole]) => length + whole.length, 0)
  return read === field.length ? members.flatMap(([, tag]) => tag ?? []) : undefined
}

/** Returns whether the list contains a current strong entity tag, by strong comparison (RFC 9110, section 13.1.1). */
function matches (field: string, current: readonly string[]): boolean {
  return field.trim() === '*' || entityTags(field)?.some(tag => current.includes(tag)) === true
}

/**
 * Returns the entity tag of the client's copy, by weak comparison (RFC 9110, section 13.1.2). Returns undefined when
 * the copy is not usable.
 */
function usableCopy (field: string, usable: readonly string[]): string | undefined {
  // Most clients send one tag. A list that does not contain the text of a tag need not be parsed.
  const contained = usable.find(tag => field.includes(tag))
  if (contained === field) return contained
  if (field.trim() === '*') return usable[0]
  if (contained === undefined) return undefined
  const tags = entityTags(field)?.map(tag => tag.replace(/^W\//, ''))
  return usable.find(tag => tags?.includes(tag))
}

/** Returns whether a request contains a header more than once. For most headers Node.js keeps only the first line. */
function isRepeated (rawHeaders: readonly string[], name: string): boolean {
  return rawHeaders.filter((text, at) => at % 2 === 0 && text.toLowerCase() === name).length > 1
}

/** Returns whether `If-Unmodified-Since` is a valid date before the modification (RFC 9110, section 13.1.4). */
function isModifiedSince ({ headers, raw }: ConditionalRequest, modified: number): boolean {
  const field = headers['if-unmodified-since']
  if (field === undefined) return false
  const date = parseHttpDate(field)
  // `Last-Modified` has a resolution of one second.
  return date !== undefined && Math.floor(modified / 1000) * 1000 > date &&
    !isRepeated(raw.rawHeaders, 'if-unmodified-since')
}

/** Returns whether a request has a condition that can refuse its response. */
export const isConditional = ({ headers }: Pick<ConditionalRequest, 'headers'>): boolean =>
  headers['if-none-match'] !== undefined || headers['if-match'] !== undefined ||
  headers['if-unmodified-since'] !== undefined

/**
 * Evaluates the conditions of a GET or HEAD in the order of RFC 9110, section 13.2.2. Returns undefined when the
 * representation is to be sent. `If-Modified-Since` never results in 304: a replaced file may have the same date, and
 * the client would keep the old file. A malformed list of entity tags matches nothing, and a malformed date is ignored.
 */
export function evaluateConditions (
  request: ConditionalRequest,
  { current, usable, modified }: Validators
): Refusal | undefined {
  const { 'if-match': ifMatch, 'if-none-match': ifNoneMatch } = request.headers
  if (ifMatch !== undefined) {
    if (!matches(ifMatch, current())) return { status: 412, header: 'If-Match' }
  } else if (modified !== undefined && isModifiedSince(request, modified)) {
    return { status: 412, header: 'If-Unmodified-Since' }
  }
  const etag = ifNoneMatch === undefined ? undefined : usableCopy(ifNoneMatch, usable)
  return etag === undefined ? undefined : { status: 304, etag }
}

/**
 * Returns the `Range` that applies to the file with this entity tag; undefined for the whole file. `If-Range` must be
 * that entity tag. A date in it never matches, because `Last-Modified` is not a strong validator (RFC 9110, sections
 * 13.1.5 and 14.2).
 */
export function applicableRange (
  { method, headers: { range, 'if-range': ifRange } }: Pick<ConditionalRequest, 'method' | 'headers'>,
  etag: string
): string | undefined {
  return method === 'GET' && (ifRange === undefined || ifRange === etag) ? range : undefined
}

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

const days = ['Mon', 'Tues', 'Wednes', 'Thurs', 'Fri', 'Satur', 'Sun']
const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

const shortDay = `(?:${days.map(day => day.slice(0, 3)).join('|')})`
const longDay = `(?:${days.join('|')})day`
const month = `(?<month>${months.join('|')})`
const time = '(?<hour>\\d\\d):(?<minute>\\d\\d):(?<second>\\d\\d)'

/** IMF-fixdate, RFC 850 and asctime, all of which a recipient must accept (RFC 9110, section 5.6.7). */
const dateForms = [
  `${shortDay}, (?<day>\\d\\d) ${month} (?<year>\\d{4}) ${time} GMT`,
  `${longDay}, (?<day>\\d\\d)-${month}-(?<year>\\d\\d) ${time} GMT`,
  `${shortDay} ${month} (?<day>\\d\\d| \\d) ${time} (?<year>\\d{4})`
].map(form => new RegExp(`^${form}$`))

/**
 * Returns the time of an HTTP-date in milliseconds since the epoch; undefined for other text (RFC 9110, section 5.6.7).
 * A wrong day of the week is accepted. `now`, in milliseconds, determines the century of a two-digit year.
 */
export function parseHttpDate (text: string, now: number = Date.now()): number | undefined {
  const groups = dateForms.map(form => form.exec(text)?.groups).find(groups => groups !== undefined)
  if (groups === undefined) return undefined
  const number = (name: string) => Number(groups[name])
  const [day, hour, minute, second] = [number('day'), number('hour'), number('minute'), number('second')]
  // Second 60 is a leap second.
  if (hour > 23 || minute > 59 || second > 60) return undefined
  const at = (year: number): Date => {
    const date = new Date(0)
    // `Date.UTC` maps years below 100 to the 20th century.
    date.setUTCFullYear(year, months.indexOf(groups.month ?? ''), day)
    return date
  }
  const limit = new Date(now)
  limit.setUTCFullYear(limit.getUTCFullYear() + 50)
  const century = groups.year?.length === 2 ? Math.floor(new Date(now).getUTCFullYear() / 100) * 100 : 0
  let date = at(century + number('year'))
  if (century > 0 && date.setUTCHours(hour, minute, second) > limit.getTime()) date = at(century - 100 + number('year'))
  return date.getUTCDate() === day ? date.setUTCHours(hour, minute, second) : undefined
}
