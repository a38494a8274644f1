import fc from 'fast-check'

/** Part of a parameter schema from which values are generated. */
export interface ParameterSchema {
  type?: string
  enum?: string[]
  pattern?: string
  maxLength?: number
  minimum?: number
  maximum?: number
}
export interface Parameter {
  name: string
  in: 'path' | 'query' | 'header'
  required?: boolean
  schema: ParameterSchema
  example?: unknown
}
export interface Operation {
  operationId: string
  parameters?: Parameter[]
  responses: Record<string, object>
}
export interface Route {
  path: string
  method: string
  operation: Operation
}

/** Validity of a value in its schema: valid, invalid, or accepted as either. */
export type Kind = 'valid' | 'invalid' | 'either'
interface Value { kind: Kind, text: string }

/** Request to an operation; `kind` is the kind of its worst parameter. */
export interface Input {
  route: Route
  kind: Kind
  url: string
  /** URL of the same request without the undeclared parameters. */
  declaredUrl: string
  parameters: Record<string, string>
  headers: Record<string, string>
  [fc.toStringMethod]: () => string
}

const as = (kind: Kind) => (text: string): Value => ({ kind, text })

/** Unusual texts. */
const odd = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.string({ unit: 'grapheme' }),
  fc.constantFrom(
    '',
    ' ',
    '.',
    '..',
    '../..',
    '/',
    '\\',
    '%',
    '%00',
    '%2e%2e%2f',
    '\0',
    '\r\nX-Evil: 1',
    '"',
    "'",
    '<script>',
    '\u202e',
    '\ud83d\ude00',
    '__proto__',
    'constructor',
    'null',
    '[]',
    '{}',
    '*'
  ),
  fc.integer({ min: 100, max: 700 }).map(length => 'a'.repeat(length))
)

function valid (
  { enum: words, type, minimum = 0, maximum = 1000, pattern, maxLength = Infinity }: ParameterSchema
): fc.Arbitrary<string> {
  if (words !== undefined) return fc.constantFrom(...words)
  if (type === 'integer') {
    return fc.oneof(
      fc.constantFrom(minimum, maximum),
      fc.integer({ min: minimum, max: maximum }),
      fc.integer({ min: minimum, max: Math.min(maximum, minimum + 10) })
    ).map(String)
  }
  const texts = pattern === undefined ? fc.string() : fc.stringMatching(new RegExp(pattern))
  return texts.filter(text => text.length <= maxLength)
}

function invalid (
  { enum: words, type, minimum = -Infinity, maximum = Infinity, pattern, maxLength = Infinity }: ParameterSchema
): fc.Arbitrary<string> {
  if (words !== undefined) {
    return fc.oneof(
      odd,
      fc.constantFrom(...words).map(word => word.toUpperCase()),
      fc.constantFrom(...words).map(word => `${word}s`)
    ).filter(text => !words.includes(text))
  }
  if (type === 'integer') {
    const above = maximum < Number.MAX_SAFE_INTEGER
      ? [fc.integer({ min: 1 }).map(beyond => String(maximum + beyond))]
      : []
    const below = Number.isFinite(minimum) ? [fc.integer({ min: 1 }).map(beyond => String(minimum - beyond))] : []
    return fc.oneof(
      fc.constantFrom('1.5', 'NaN', 'Infinity', '-Infinity', 'x', '1,2', '1 2', '٣', '--1', '99999999999999999999999'),
      ...above,
      ...below
    )
  }
  const form = new RegExp(pattern ?? '')
  const wrong = odd.filter(text => !form.test(text) || text.length > maxLength)
  return Number.isFinite(maxLength)
    ? fc.oneof(wrong, fc.integer({ min: maxLength + 1, max: maxLength + 600 }).map(length => 'a'.repeat(length)))
    : wrong
}

/** Generates values that the schema permits, `known` values that exist in the catalog, and others. */
function value ({ schema }: Parameter, known: readonly string[]): fc.Arbitrary<Value> {
  return fc.oneof(
    ...known.length > 0 ? [{ weight: 12, arbitrary: fc.constantFrom(...known).map(as('valid')) }] : [],
    { weight: 8, arbitrary: valid(schema).map(as('valid')) },
    { weight: 2, arbitrary: invalid(schema).map(as('invalid')) },
    { weight: 1, arbitrary: odd.map(as('either')) }
  )
}

/**
 * Encodes a text for a URL. A lone surrogate has no encoding, so it becomes the replacement character as in clients.
 */
const encode = (text: string): string => encodeURIComponent(text.toWellFormed())

/** Generates a path segment. Empty values, dots and unencoded values may lead to another path. */
function segment (given: fc.Arbitrary<Value>): fc.Arbitrary<Value> {
  return fc.oneof(
    {
      weight: 30,
      arbitrary: given.map(({ kind, text }) => ({
        kind: /^\.{0,2}$/.test(text) || text.length > 400 ? 'either' as const : kind,
        text: encode(text)
      }))
    },
    { weight: 1, arbitrary: given.map(({ text }) => ({ kind: 'either' as const, text })) },
    {
      weight: 1,
      arbitrary: fc.constantFrom('%zz', '%', '%c3%28', '%ff', '%00', 'a%2fb', '%2e%2e', '%252e', ';x=1').map(
        as('either')
      )
    }
  )
}

/** Generates a query parameter: once, missing, repeated, or in another encoding. */
function pair ({ name, required, schema }: Parameter, given: fc.Arbitrary<Value>): fc.Arbitrary<Value> {
  const once = given.map(({ kind, text }) => ({
    kind: schema.type === 'integer' && text === '' ? 'either' as const : kind,
    text: `${name}=${encode(text)}`
  }))
  const missing = fc.constant<Value>({ kind: required === true ? 'invalid' : 'valid', text: '' })
  return fc.oneof(
    { weight: 20, arbitrary: once },
    { weight: required === true ? 1 : 12, arbitrary: missing },
    {
      weight: 1,
      arbitrary: fc.tuple(once, once).map(([first, second]) => ({
        kind: 'either' as const,
        text: `${first.text}&${second.text}`
      }))
    },
    {
      weight: 1,
      arbitrary: given.map(({ text }) => ({ kind: 'either' as const, text: `${name}=${text.replace(/[&#]/g, '')}` }))
    },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        `${name}`,
        `${name}=`,
        `${name}[]=a`,
        `${name}[x]=a`,
        `${name}=%zz`,
        `${name}=%ff`,
        `${name}==`
      ).map(as('either'))
    }
  )
}

const headerText = fc.string({
  unit: fc.integer({ min: 0x20, max: 0x7e }).map(code => String.fromCharCode(code)),
  maxLength: 200
})
const headers = fc.record({
  'if-none-match': fc.oneof(fc.constantFrom('*', '"x"', 'W/"x"', '"a", "b"'), headerText),
  'if-match': fc.oneof(fc.constantFrom('*', '"x"', 'W/"x"', '"a", "b"'), headerText),
  'if-unmodified-since': fc.oneof(
    fc.constantFrom('Mon, 23 Nov 2026 05:24:36 GMT', 'Saturday, 01-Jan-00 00:00:00 GMT'),
    headerText
  ),
  'if-range': fc.oneof(fc.constantFrom('"x"', 'Mon, 23 Nov 2026 05:24:36 GMT'), headerText),
  'if-modified-since': fc.oneof(fc.constant('Mon, 23 Nov 2026 05:24:36 GMT'), headerText),
  range: fc.oneof(fc.constantFrom('bytes=0-0', 'bytes=5-', 'bytes=-1', 'bytes=9-2', 'bytes=0-1,3-4'), headerText),
  accept: fc.oneof(fc.constantFrom('application/json', 'text/html', '*/*', 'image/*;q=0'), headerText),
  'accept-encoding': fc.constantFrom('gzip', 'br', 'identity', '*;q=0'),
  'x-request-id': fc.oneof(fc.uuid(), headerText, fc.constant('x'.repeat(500))),
  'cache-control': fc.constantFrom('no-cache', 'max-age=0', 'only-if-cached'),
  origin: fc.oneof(fc.webUrl(), headerText),
  authorization: headerText,
  'x-forwarded-for': headerText,
  'x-forwarded-host': headerText,
  host: fc.oneof(fc.domain(), fc.constant('localhost:1')),
  'content-type': fc.constantFrom('application/json', 'text/plain', 'x/y'),
  cookie: headerText
}, { requiredKeys: [] })

const worst = (kinds: Kind[]): Kind =>
  kinds.includes('either') ? 'either' : kinds.includes('invalid') ? 'invalid' : 'valid'

/** Names that the implementation may use for options and members of objects to which it passes parameters. */
const innerNames = [
  'query',
  'params',
  'total',
  'deadline',
  'maxAge',
  'signal',
  'range',
  'start',
  'end',
  'at',
  'size',
  'origins',
  'instance',
  'backend',
  'key',
  'value',
  'items',
  'terms',
  'scope',
  'age',
  'ttl',
  'hit',
  'stale',
  'missing',
  'prefix',
  'url',
  'file',
  'digest',
  'published',
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  'then',
  'length'
]

/**
 * Generates undeclared parameters: names of the path and of other operations, names in the implementation, and any
 * text. None of them may change a response.
 */
function undeclared (
  { operation: { parameters = [] } }: Route,
  known: Record<string, readonly string[]>
): fc.Arbitrary<string> {
  const declared = parameters.filter(parameter => parameter.in === 'query').map(({ name }) => name)
  const everywhere = [
    'type',
    'name',
    'version',
    'source',
    'limit',
    'offset',
    'q',
    ...parameters.map(({ name }) => name)
  ]
  const name = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...new Set(everywhere.filter(name => !declared.includes(name)))) },
    { weight: 3, arbitrary: fc.constantFrom(...innerNames) },
    { weight: 1, arbitrary: fc.string({ minLength: 1 }).filter(name => !declared.includes(name)) }
  )
  const text = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.constantFrom(
        ...Object.values(known).flat(),
        'provider',
        'taskserv',
        'cluster',
        'gitea',
        'oci',
        '0',
        '1',
        '-1',
        'true'
      )
    },
    { weight: 1, arbitrary: odd }
  )
  // A list or an object under a declared name is an undeclared parameter too.
  const spelled = fc.tuple(
    fc.oneof({ weight: 8, arbitrary: name }, {
      weight: 1,
      arbitrary: fc.constantFrom(...declared, 'name').map(name => `${name}[]`)
    }),
    text,
    text
  )
    .chain(([name, text, other]) =>
      fc.constantFrom(
        `${encode(name)}=${encode(text)}`,
        `${encode(name)}=${encode(text)}`,
        encode(name),
        `${encode(name)}=`,
        `${encode(name)}=${encode(text)}&${encode(name)}=${encode(other)}`,
        `${encode(name)}[]=${encode(text)}`,
        `${encode(name)}[${encode(other)}]=${encode(text)}`
      )
    )
  return fc.oneof({ weight: 2, arbitrary: fc.constant('') }, {
    weight: 1,
    arbitrary: fc.array(spelled, { minLength: 1, maxLength: 3 }).map(parts => parts.join('&'))
  })
}

/** Generates requests to an operation from its parameters only; `known` contains existing values by parameter. */
export function inputs (route: Route, known: Record<string, readonly string[]>): fc.Arbitrary<Input> {
  const { path, operation: { parameters = [] } } = route
  const inPath = parameters.filter(parameter => parameter.in === 'path')
  const inQuery = parameters.filter(parameter => parameter.in === 'query')
  const values = (parameter: Parameter) => value(parameter, known[parameter.name] ?? [])
  return fc.record({
    segments: fc.tuple(...inPath.map(parameter => segment(values(parameter)))),
    pairs: fc.tuple(...inQuery.map(parameter => pair(parameter, values(parameter)))),
    others: undeclared(route, known),
    headers
  }).map(({ segments, pairs, others, headers }) => {
    const filled = inPath.reduce((url, { name }, at) => url.replace(`{${name}}`, () => segments[at]?.text ?? ''), path)
    const urlOf = (parts: string[]) =>
      [filled, parts.filter(text => text !== '').join('&')].filter(text => text !== '').join('?')
    const declared = pairs.map(({ text }) => text)
    const url = urlOf([...declared, others])
    return {
      [fc.toStringMethod]: () => `${route.method} ${url} ${JSON.stringify(headers)}`,
      route,
      kind: worst([...segments, ...pairs].map(({ kind }) => kind)),
      url,
      declaredUrl: urlOf(declared),
      parameters: Object.fromEntries([
        ...inPath.map(({ name }, at) => [name, segments[at]?.text ?? '']),
        ...inQuery.map(({ name }, at) => [name, pairs[at]?.text ?? ''])
      ]),
      headers
    }
  })
}
