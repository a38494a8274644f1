import fc from 'fast-check'
import t from 'tap'
import {
  applicableRange,
  evaluateConditions,
  isConditional,
  type ConditionalRequest
} from '../../../plugins/replies/conditional.ts'
import { matchStrictly } from '../../fakes/match.ts'

const etag = '"current"'
const modified = Date.parse('2026-01-02T03:04:05.678Z')
const date = (seconds: number) => new Date(modified + seconds * 1000).toUTCString()

/** A request header and the value of its condition; `undefined` if a recipient must ignore the header. */
type Case = [field: string | undefined, holds: boolean | undefined]

const ifMatch: Case[] = [
  [undefined, undefined],
  [etag, true],
  ['*', true],
  [' * ', true],
  [`"other", ${etag}`, true],
  [`"a,b",${etag}`, true],
  [`, ,${etag} ,,`, true],
  [`"", ${etag}`, true],
  ['"other"', false],
  [`W/${etag}`, false],
  ['', false],
  ['""', false],
  ['current', false],
  [`${etag} "other"`, false],
  [`${etag}, *`, false],
  ['*, *', false],
  ['"current', false],
  [`${etag}x`, false],
  [`w/"x", ${etag}`, false]
]
const ifUnmodifiedSince: Case[] = [
  [undefined, undefined],
  [date(0), true],
  [date(1), true],
  [date(-1), false],
  ['Friday, 02-Jan-26 03:04:05 GMT', true],
  ['Fri Jan  2 03:04:05 2026', true],
  ['Friday, 02-Jan-26 03:04:04 GMT', false],
  ['Fri Jan  2 03:04:04 2026', false],
  ['', undefined],
  ['2000-01-01', undefined],
  ['Fri, 31 Feb 2000 00:00:00 GMT', undefined],
  [`${date(-1)}, ${date(-1)}`, undefined]
]
/** `true` if the client does not have the representation. */
const ifNoneMatch: Case[] = [
  [undefined, undefined], ['"other"', true], ['', true], ['current', true], [`"x${etag}`, true], [`${etag}, *`, true],
  [etag, false], [`W/${etag}`, false], ['*', false], [`"a,b", W/${etag}`, false]
]
const ifModifiedSince: Array<string | undefined> = [undefined, date(0), date(-1), date(1), 'x']
const ranges: Array<string | undefined> = [undefined, 'bytes=5-']
const ifRange: Case[] = [
  [undefined, undefined],
  [etag, true],
  ['"other"', false],
  [`W/${etag}`, false],
  ['current', false],
  [date(0), false],
  [`"other", ${etag}`, false],
  ['*', false]
]

interface Given {
  method: 'GET' | 'HEAD'
  match: Case
  unmodified: Case
  none: Case
  modifiedSince: string | undefined
  range: string | undefined
  ifRange: Case
  known: boolean
}

/** Returns the status by the steps of RFC 9110, section 13.2.2; `known` is true if there is a modification date. */
function oracle (
  { method, match, unmodified, none, modifiedSince, range, ifRange, known }: Given
): 200 | 206 | 304 | 412 {
  const isPresent = ([field]: Case) => field !== undefined
  // 1. When recipient is the origin server and If-Match is present.
  if (isPresent(match)) {
    if (match[1] === false) return 412
  // 2. When If-Match is not present and If-Unmodified-Since is present; 13.1.4 defines when it must be ignored.
  } else if (isPresent(unmodified) && unmodified[1] !== undefined && known) {
    if (!unmodified[1]) return 412
  }
  // 3. When If-None-Match is present: false is 304 for GET and HEAD.
  if (isPresent(none)) {
    if (none[1] === false) return 304
  // 4. When If-None-Match is not present and If-Modified-Since is: the date does not prove that a file is the same, so
  // the condition is always true.
  } else if (modifiedSince !== undefined) { /* continue */ }
  // 5. When the method is GET and both Range and If-Range are present; 14.2 for Range alone.
  if (method === 'GET' && range !== undefined) {
    if (!isPresent(ifRange) || ifRange[1] === true) return 206
  }
  // 6. Otherwise: the method, without Range.
  return 200
}

function requestOf ({ method, match, unmodified, none, modifiedSince, range, ifRange }: Given): ConditionalRequest {
  const fields = {
    'if-match': match[0],
    'if-unmodified-since': unmodified[0],
    'if-none-match': none[0],
    'if-modified-since': modifiedSince,
    range,
    'if-range': ifRange[0]
  }
  const present = Object.entries(fields).filter((entry): entry is [string, string] => entry[1] !== undefined)
  return { method, headers: Object.fromEntries(present), raw: { rawHeaders: present.flat() } }
}

function evaluate (given: Given): number {
  const request = requestOf(given)
  const refusal = evaluateConditions(request, {
    current: () => [etag],
    usable: [etag],
    modified: given.known ? modified : undefined
  })
  if (refusal !== undefined) return refusal.status
  return applicableRange(request, etag) === undefined ? 200 : 206
}

await t.test('every combination of conditions has the outcome of the steps of RFC 9110', async t => {
  const seen = new Map<number, number>()
  const wrong: string[] = []
  for (const method of ['GET', 'HEAD'] as const) {
    for (const known of [true, false]) {
      for (const match of ifMatch) {
        for (const unmodified of ifUnmodifiedSince) {
          for (const none of ifNoneMatch) {
            for (const modifiedSince of ifModifiedSince) {
              for (const range of ranges) {
                for (const each of ifRange) {
                  const given = { method, known, match, unmodified, none, modifiedSince, range, ifRange: each }
                  const [expected, actual] = [oracle(given), evaluate(given)]
                  seen.set(expected, (seen.get(expected) ?? 0) + 1)
                  if (actual !== expected && wrong.length < 10) {
                    wrong.push(`${actual} instead of ${expected}: ${JSON.stringify(given)}`)
                  }
                }
              }
            }
          }
        }
      }
    }
  }
  t.strictSame(wrong, [])
  t.strictSame([...seen.keys()].sort((a, b) => a - b), [200, 206, 304, 412])
  t.ok(Math.min(...seen.values()) > 1000)
})

await t.test('a refusal contains the name of the failed header, or the ETag of the copy of the client', async t => {
  const request = (headers: Record<string, string>) => ({
    method: 'GET',
    headers,
    raw: { rawHeaders: Object.entries(headers).flat() }
  })
  const validators = { current: () => ['"x"', '"x-br"', '"x-gzip"'], usable: ['"x-br"', '"x"'], modified }
  t.strictSame(evaluateConditions(request({ 'if-match': '"y"' }), validators), { status: 412, header: 'If-Match' })
  t.strictSame(evaluateConditions(request({ 'if-unmodified-since': date(-1) }), validators), {
    status: 412,
    header: 'If-Unmodified-Since'
  })
  t.strictSame(evaluateConditions(request({ 'if-none-match': 'W/"x"' }), validators), { status: 304, etag: '"x"' })
  t.strictSame(evaluateConditions(request({ 'if-none-match': '"x", "x-br"' }), validators), {
    status: 304,
    etag: '"x-br"'
  }, 'the tag of the selected representation comes first')
  t.strictSame(evaluateConditions(request({ 'if-none-match': '*' }), validators), { status: 304, etag: '"x-br"' })
  t.equal(evaluateConditions(request({ 'if-none-match': '"x-gzip"' }), validators), undefined)
  for (const tag of validators.current()) {
    t.equal(evaluateConditions(request({ 'if-match': tag }), validators), undefined, tag)
  }
})

await t.test('a repeated date is ignored', async t => {
  const headers = { 'if-unmodified-since': date(-1) }
  const validators = { current: () => [etag], usable: [etag], modified }
  matchStrictly(
    t,
    evaluateConditions({
      method: 'GET',
      headers,
      raw: { rawHeaders: ['Host', 'if-unmodified-since', 'If-Unmodified-Since', date(-1)] }
    }, validators),
    { status: 412 },
    'a header value is not counted as a name'
  )
  t.equal(
    evaluateConditions({
      method: 'GET',
      headers,
      raw: { rawHeaders: ['If-Unmodified-Since', date(-1), 'if-unmodified-since', date(-1)] }
    }, validators),
    undefined
  )
})

await t.test('only a request with a condition that can refuse it is conditional', async t => {
  for (const headers of [{ 'if-match': '' }, { 'if-none-match': '*' }, { 'if-unmodified-since': 'x' }]) {
    t.ok(isConditional({ headers }))
  }
  for (const headers of [{}, { 'if-modified-since': date(0) }, { range: 'bytes=0-', 'if-range': etag }]) {
    t.notOk(isConditional({ headers }))
  }
})

await t.test('a list of entity tags is parsed in linear time, and matches only if it contains the tag', async t => {
  const request = (field: string) => ({ method: 'GET', headers: { 'if-match': field }, raw: { rawHeaders: [] } })
  const validators = { current: () => [etag], usable: [etag] }
  for (
    const field of [
      ' '.repeat(200_000),
      ','.repeat(200_000),
      '"'.repeat(200_001),
      `${'"x" '.repeat(50_000)}`,
      `"${' '.repeat(200_000)}`
    ]
  ) matchStrictly(t, evaluateConditions(request(field), validators), { status: 412 })
  const tag = fc.tuple(
    fc.boolean(),
    fc.string({ unit: fc.constantFrom('a', ',', '*', 'W/', '\\', ' ', 'current', 'é'), maxLength: 4 })
  )
  fc.assert(
    fc.property(fc.array(tag, { maxLength: 4 }), fc.constantFrom(',', ', ', ' ,\t', ', ,'), (tags, separator) => {
      const field = tags.map(([weak, text]) => `${weak ? 'W/' : ''}"${text}"`).join(separator)
      return (evaluateConditions(request(field), validators) === undefined) === tags.some(([weak, text]) =>
        !weak && text === 'current'
      )
    })
  )
})
