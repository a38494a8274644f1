import fc from 'fast-check'
import type { LoopbackResponse } from '../fakes/loopback.ts'

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }
/** Path into a value as indexes; each index is taken modulo the number of children. */
type Way = number[]

const deep = (depth: number): Json => Array.from({ length: depth }).reduce<Json>(value => [value], 'x')
/** Values of every type, with the extremes of each type. */
const others: Json[] = [
  null,
  true,
  false,
  0,
  -1,
  1.5,
  1e308,
  Number.MAX_SAFE_INTEGER + 1,
  '',
  ' ',
  'x',
  '0',
  '../..',
  '\0',
  '\r\nx: y',
  '\u202e',
  '\ud800',
  'x'.repeat(20_000),
  [],
  {},
  [[]],
  [null],
  { name: null },
  { __proto__x: 1 },
  '1970-01-01',
  '0001-01-01T00:00:00Z',
  '99999-01-01T00:00:00Z',
  'sha256:0',
  '1.2.3',
  'v1',
  deep(200)
]

/** Change of a JSON value at one path. */
type Structural = { act: 'drop' | 'double' | 'swap' | 'rename' | 'reverse' } | { act: 'replace', value: Json }
/** Mutation of a response. */
export type Mutation =
  | { kind: 'structure', way: Way, change: Structural }
  | { kind: 'bytes', at: number, bytes: number[], how: 'overwrite' | 'insert' | 'cut' | 'end' }
  | { kind: 'text', how: 'utf16' | 'latin1' | 'bom' | 'empty' | 'html' | 'huge number' | 'deep' | 'twice' }
  | { kind: 'header', name: string, value: string | undefined }
  | { kind: 'status', status: number }

/** Changes the value at the end of the path; a path that is too long ends at the last value. */
function change (value: Json, way: Way, what: Structural): Json {
  const [first, ...rest] = way
  if (typeof value !== 'object' || value === null || first === undefined) {
    return what.act === 'replace'
      ? what.value
      : value
  }
  const keys = Object.keys(value)
  if (keys.length === 0) return what.act === 'replace' ? what.value : value
  const at = first % keys.length
  const key = keys[at] ?? ''
  const entries = Object.entries(value)
  const inner = entries[at]?.[1] ?? null
  const build = (changed: Array<[string, Json]>): Json =>
    Array.isArray(value) ? changed.map(([, item]) => item) : Object.fromEntries(changed)
  if (rest.length > 0 && typeof inner === 'object' && inner !== null) {
    return build(entries.with(at, [key, change(inner, rest, what)]))
  }
  const other = entries[(at + 1) % entries.length]?.[1] ?? null
  switch (what.act) {
    case 'drop': return build(entries.toSpliced(at, 1))
    case 'double': return build([...entries, [`${key}2`, inner]])
    case 'swap': return build(entries.with(at, [key, other]))
    case 'rename': return build(entries.with(at, [key.toUpperCase(), inner]))
    case 'reverse': return build(entries.toReversed())
    case 'replace': return build(entries.with(at, [key, what.value]))
  }
}

function text (body: Buffer, how: Extract<Mutation, { kind: 'text' }>['how']): Buffer {
  switch (how) {
    case 'utf16':
      return Buffer.from(body.toString('utf8'), 'utf16le')
    case 'latin1':
      return Buffer.concat([
        body.subarray(0, body.length / 2),
        Buffer.from([0xff, 0xfe]),
        body.subarray(body.length / 2)
      ])
    case 'bom':
      return Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), body])
    case 'empty':
      return Buffer.alloc(0)
    case 'html':
      return Buffer.from('<!DOCTYPE html><html><body>Sign in</body></html>')
    case 'huge number':
      return Buffer.from(body.toString('utf8').replace(/\b\d+\b/, '9'.repeat(400)))
    case 'deep':
      return Buffer.from('['.repeat(5000) + ']'.repeat(5000))
    case 'twice':
      return Buffer.concat([body, body])
  }
}

/** Returns the response with a mutation; a mutation that does not apply leaves it unchanged. */
export function mutate (response: LoopbackResponse, mutation: Mutation): LoopbackResponse {
  const body = Buffer.from(response.body as string ?? '')
  switch (mutation.kind) {
    case 'status': return { ...response, status: mutation.status }
    case 'header': {
      const { [mutation.name]: _, ...headers } = response.headers ?? {}
      return {
        ...response,
        headers: mutation.value === undefined ? headers : { ...headers, [mutation.name]: mutation.value }
      }
    }
    case 'text': return { ...response, body: text(body, mutation.how) }
    case 'bytes': {
      const at = body.length === 0 ? 0 : mutation.at % body.length
      const bytes = Buffer.from(mutation.bytes)
      const rest =
        { overwrite: at + bytes.length, insert: at, cut: at + 1 + bytes.length, end: body.length }[mutation.how]
      return {
        ...response,
        body: Buffer.concat([
          body.subarray(0, at),
          ...mutation.how === 'overwrite' || mutation.how === 'insert' ? [bytes] : [],
          body.subarray(rest)
        ])
      }
    }
    case 'structure': {
      try {
        return {
          ...response,
          body: JSON.stringify(change(JSON.parse(body.toString('utf8')) as Json, mutation.way, mutation.change))
        }
      } catch {
        return response
      }
    }
  }
}

const headers: Record<string, Array<string | undefined>> = {
  link: [
    undefined,
    '',
    '<',
    '<x>; rel="next"',
    '<?page=2>; rel="next"',
    '<http://169.254.169.254/?page=2>; rel="next", <http://169.254.169.254/?page=3>; rel="last"',
    '<https://x/?page=99999>; rel="last"',
    '<https://x/?page=-1>; rel="last"'
  ],
  'x-total-count': [undefined, '', '0', '1', '-1', '1e9', 'NaN', '99999999999999999999'],
  'content-length': ['0', '1', '20', '99999'],
  'content-type': [
    undefined,
    '',
    'text/html',
    'text/plain',
    'application/json; charset=utf-16',
    'application/problem+json',
    'application/octet-stream',
    'x'
  ],
  'content-encoding': ['gzip', 'br', 'identity', 'x'],
  'docker-content-digest': [undefined, '', 'sha256:0', `sha256:${'0'.repeat(64)}`, `md5:${'0'.repeat(32)}`, 'x'],
  location: ['', '/', '/user/login', 'http://169.254.169.254/', '//x', 'file:///etc/passwd', 'http://['],
  'retry-after': ['', '0', '3', '-1', '99999999999', 'Mon, 23 Nov 2026 05:24:36 GMT', 'x'],
  'www-authenticate': [
    '',
    'Bearer',
    'Basic realm="x"',
    'Bearer realm="http://169.254.169.254/",service="x"',
    'Bearer realm="x'
  ],
  etag: [undefined, 'x', '""']
}

const way = fc.array(fc.nat(200), { minLength: 1, maxLength: 5 })
const structural: fc.Arbitrary<Structural> = fc.oneof(
  fc.constantFrom<Structural[]>({ act: 'drop' }, { act: 'double' }, { act: 'swap' }, { act: 'rename' }, {
    act: 'reverse'
  }),
  fc.constantFrom(...others).map((value): Structural => ({ act: 'replace', value })),
  fc.jsonValue({ maxDepth: 2 }).map((value): Structural => ({ act: 'replace', value: value as Json }))
)

/** Mutations of any kind. Slow mutations are rare: a body shorter than its length, and a status that is retried. */
export const mutations: fc.Arbitrary<Mutation> = fc.oneof(
  { weight: 24, arbitrary: fc.record({ kind: fc.constant('structure' as const), way, change: structural }) },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('bytes' as const),
      at: fc.nat(),
      bytes: fc.array(fc.nat(255), { minLength: 1, maxLength: 4 }),
      how: fc.constantFrom('overwrite' as const, 'insert' as const, 'cut' as const, 'end' as const)
    })
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('text' as const),
      how: fc.constantFrom(
        'utf16' as const,
        'latin1' as const,
        'bom' as const,
        'empty' as const,
        'html' as const,
        'huge number' as const,
        'deep' as const,
        'twice' as const
      )
    })
  },
  {
    weight: 10,
    arbitrary: fc.constantFrom(
      ...Object.entries(headers).flatMap(([name, values]) =>
        values.map((value): Mutation => ({ kind: 'header', name, value }))
      )
    )
  },
  {
    weight: 5,
    arbitrary: fc.constantFrom(200, 201, 204, 206, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 410, 416, 418).map(
      (status): Mutation => ({ kind: 'status', status })
    )
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(429, 500, 502, 503, 599).map((status): Mutation => ({ kind: 'status', status }))
  }
)
