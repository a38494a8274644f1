import t, { type Test } from 'tap'
import type { Extension } from '../../../schemas/extension.ts'
import { startApp } from '../../fakes/app.ts'
import { createGiteaFake, provisioningContent } from '../../fakes/gitea.ts'
import { matchStrictly } from '../../fakes/match.ts'
import { sendRaw } from '../../fakes/raw.ts'

const base = '/api/v1/extensions'

/**
 * Names of path parameters, of parameters of other routes, of options in the implementation, and of members of objects.
 */
const names = [
  'type',
  'name',
  'version',
  'source',
  'limit',
  'offset',
  'q',
  'query',
  'total',
  'deadline',
  'maxAge',
  'signal',
  'range',
  'start',
  'end',
  'origins',
  'instance',
  'key',
  'value',
  'items',
  'age',
  'ttl',
  'hit',
  'stale',
  'missing',
  'terms',
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  'then',
  'length'
]
const values = ['upcloud', 'bogus']
/** More values for the names of path parameters. */
const pathValues = ['', 'taskserv', '-1', '../..', '%00', 'latest', '9.9.9']
/** Returns the forms of an undeclared parameter: once, without a value, empty, repeated, as a list, as an object. */
const spellings = (name: string, value: string): string[] => [
  `${name}=${value}`,
  name,
  `${name}=`,
  `${name}=${value}&${name}=k3s`,
  `${name}[]=${value}`,
  `${name}[${name}]=${value}`,
  `${name}%5B0%5D=${value}`
]

/** Headers that describe the content of a response. */
const observed = [
  'content-type',
  'content-length',
  'content-disposition',
  'etag',
  'last-modified',
  'link',
  'location',
  'x-total-count',
  'x-partial'
]

const routes: Array<[path: string, declared: readonly string[]]> = [
  ['', ['type', 'source', 'limit', 'offset']],
  ['/search?q=aws', ['q', 'type', 'source', 'limit']],
  ['/provider/aws', ['source']],
  ['/provider/aws/versions', ['source']],
  ['/provider/aws/1.2.0', ['source']],
  ['/provider/aws/latest', ['source']],
  ['/provider/absent', ['source']],
  ['/taskserv/kubernetes/9.9.9', ['source']]
]

async function setUp (t: Test) {
  const gitea = await createGiteaFake(provisioningContent())
  t.teardown(gitea.close)
  return await startApp(t, {
    gitea: { url: gitea.url, organization: 'provisioning' },
    server: { max_event_loop_delay_seconds: 0 },
    oci: { registry: 'examples/registry' }
  })
}

await t.test('a query parameter never replaces a part of the path', async t => {
  const { get } = await setUp(t)
  for (
    const query of [
      'name=upcloud',
      'type=taskserv&name=k3s',
      'type=bogus',
      'type=taskserv&type=cluster',
      'name[]=upcloud',
      'version=2.0.0'
    ]
  ) {
    const { statusCode, body } = await get(`${base}/provider/aws?${query}`)
    t.equal(statusCode, 200, query)
    matchStrictly(t, JSON.parse(body) as Extension, { type: 'provider', name: 'aws' }, query)
  }
})

await t.test('an undeclared parameter does not change the response, for GET and HEAD', async t => {
  const { app } = await setUp(t)
  for (const method of ['GET', 'HEAD'] as const) {
    for (const [path, declared] of routes) {
      const seen = async (url: string) => {
        const { statusCode, headers, rawPayload } = await app.inject({ method, url })
        // Other headers report the state of the cache, which changes between requests.
        const { location, ...described } = Object.fromEntries(observed.map(name => [name, headers[name]]))
        return { statusCode, described, location: String(location).split('?', 1)[0], rawPayload }
      }
      const expected = await seen(`${base}${path}`)
      const queries = names.filter(name => !declared.includes(name)).flatMap(name => [
        ...spellings(name, values[name.length % 2] ?? ''),
        ...['type', 'name', 'version'].includes(name) ? pathValues.map(value => `${name}=${value}`) : []
      ])
      const others = names.filter(name => declared.includes(name)).flatMap(
        name => [`${name}[]=bogus`, `${name}[a]=bogus`, `${name}[__proto__]=bogus`]
      )
      const wrong: string[] = []
      for (const query of [...queries, ...others]) {
        const found = await seen(`${base}${path}${path.includes('?') ? '&' : '?'}${query}`)
        if (JSON.stringify(found) !== JSON.stringify(expected)) {
          wrong.push(`${method} ${path} ${query}: ${found.statusCode} ${String(found.rawPayload).slice(0, 100)}`)
        }
      }
      t.strictSame(wrong.slice(0, 5), [], `${method} ${path}: ${queries.length + others.length} queries`)
    }
  }
})

await t.test('a repeated declared parameter is refused, for any of its values', async t => {
  const { app } = await setUp(t)
  const cases: Array<[query: string, error: string, message: string]> = [
    ['?type=provider&type=provider', 'invalid_type', 'Invalid query parameter type: given more than once'],
    ['?type=provider&type=bogus', 'invalid_type', 'Invalid query parameter type: given more than once'],
    ['?limit=1&limit=2', 'invalid_request', 'Invalid query parameter limit: given more than once'],
    ['?offset=1&offset=', 'invalid_request', 'Invalid query parameter offset: given more than once'],
    ['/search?q=a&q=b', 'invalid_request', 'Invalid query parameter q: given more than once'],
    [
      '/provider/aws?source=gitea&source=oci',
      'invalid_request',
      'Invalid query parameter source: given more than once'
    ],
    [
      '/provider/aws/versions?source=gitea&source=',
      'invalid_request',
      'Invalid query parameter source: given more than once'
    ],
    [
      '/provider/aws/latest?source=oci&source=oci',
      'invalid_request',
      'Invalid query parameter source: given more than once'
    ]
  ]
  for (const [query, error, message] of cases) {
    const response = await app.inject({ url: `${base}${query}` })
    t.equal(response.statusCode, 400, query)
    t.strictSame(response.json(), { error, message }, query)
    t.equal((await app.inject({ method: 'HEAD', url: `${base}${query}` })).statusCode, 400, `HEAD ${query}`)
  }
})

await t.test('latest redirects with the query of the request to an equivalent target', async t => {
  const { app } = await setUp(t)
  const port = Number(new URL(await app.listen({ host: '127.0.0.1', port: 0 })).port)
  const cases: Array<[query: string, location: string]> = [
    ['', '1.2.0'],
    ['?source=gitea', '1.2.0?source=gitea'],
    ['?name=upcloud&utm=1', '1.2.0?name=upcloud&utm=1'],
    // A client removes a fragment from Location, but the router treats a number sign in a query as any other character.
    ['?x=1#&source=gitea', '1.2.0?x=1%23&source=gitea'],
    // The router treats a number sign as the start of the query.
    ['#source=gitea', '1.2.0?source=gitea']
  ]
  for (const method of ['GET', 'HEAD'] as const) {
    for (const [query, location] of cases) {
      const { status, head } = await sendRaw(port, `${base}/provider/aws/latest${query}`, { method })
      t.equal(status, 302, `${method} ${query}`)
      t.equal(/^location: (.*)\r$/m.exec(head)?.[1], location, `${method} ${query}`)
    }
  }
})
