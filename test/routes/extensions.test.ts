import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Extension } from '../../schemas/extension.ts'
import { links, startApp } from '../fakes/app.ts'
import { createGiteaFake, provisioningContent } from '../fakes/gitea.ts'
import { writeLayout, type FakeArtifact } from '../fakes/layout.ts'
import { hasLine, matchStrictly } from '../fakes/match.ts'

const names = ['alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta', 'eta']

async function setUp (
  t: Test,
  artifacts: FakeArtifact[] = names.map(name => ({ repository: `provider/${name}`, tag: '1.0.0' })),
  config: object = {}
) {
  const root = join(t.testdir({}), 'layouts')
  await writeLayout(root, artifacts)
  return await startApp(t, {
    server: { public_url: 'https://registry.example.com' },
    oci: { registry: root },
    ...config
  })
}
const list = '/api/v1/extensions'

await t.test('the pages of the Link header contain every extension once', async t => {
  const { get } = await setUp(t)
  const seen: string[] = []
  let at: string | undefined = `${list}?type=provider&limit=3`
  while (at !== undefined) {
    const response = await get(at)
    t.equal(response.headers['x-total-count'], '7')
    seen.push(...response.json<Extension[]>().map(({ name }) => name))
    const next: string | undefined = links(response.headers.link)['next']
    at = next === undefined ? undefined : new URL(next, `http://host${list}`).href.slice('http://host'.length)
  }
  t.strictSame(seen, [...names].sort())
})

await t.test('Link contains the first, previous, next and last page, and keeps the filters', async t => {
  const { get } = await setUp(t)
  const at = async (query: string) => links((await get(`${list}?${query}`)).headers.link)
  t.strictSame(await at('limit=3&offset=3&source=oci'), {
    first: '?source=oci&limit=3&offset=0',
    prev: '?source=oci&limit=3&offset=0',
    next: '?source=oci&limit=3&offset=6',
    last: '?source=oci&limit=3&offset=6'
  })
  t.strictSame(await at('limit=3&offset=100'), {
    first: '?limit=3&offset=0',
    prev: '?limit=3&offset=6',
    last: '?limit=3&offset=6'
  })
  t.strictSame(await at(''), { first: '?limit=100&offset=0', last: '?limit=100&offset=0' })
})

await t.test('type, source, limit and offset narrow the list', async t => {
  const { get } = await setUp(t, [{ repository: 'provider/aws', tag: '1.0.0' }, {
    repository: 'taskserv/k3s',
    tag: '1.0.0'
  }, { repository: 'cluster/web', tag: '1.0.0' }])
  const of = async (query: string) => (await get(`${list}?${query}`)).json<Extension[]>().map(({ name }) => name)
  t.strictSame(await of(''), ['aws', 'k3s', 'web'])
  t.strictSame(await of('type=taskserv'), ['k3s'])
  t.strictSame(await of('source=gitea'), [])
  t.strictSame(await of('limit=1&offset=1'), ['k3s'])
  t.strictSame(await of('unknown=parameter&limit=1'), ['aws'], 'an unknown parameter is ignored')
})

await t.test('?source= selects among the owners on every route, and ?type= filters a search', async t => {
  const root = join(t.testdir({}), 'layouts')
  await writeLayout(root, [{ repository: 'provider/aws', tag: '9.0.0' }, { repository: 'cluster/aws', tag: '1.0.0' }])
  const gitea = await createGiteaFake(provisioningContent())
  t.teardown(gitea.close)
  const { get } = await startApp(t, {
    gitea: { url: gitea.url, organization: 'provisioning' },
    oci: { registry: root }
  })
  const body = async (path: string) => (await get(list + path)).json<Extension>()
  matchStrictly(t, [await body('/provider/aws'), await body('/provider/aws?source=oci')], [
    { version: '1.2.0', source: 'gitea' },
    { version: '9.0.0', source: 'oci' }
  ])
  matchStrictly(t, [await body('/provider/aws/versions'), await body('/provider/aws/versions?source=oci')], [
    ['2.0.0-rc.1', '1.2.0', '1.1.0', '1.0.0'].map(version => ({ version })),
    [{ version: '9.0.0' }]
  ])
  matchStrictly(t, [
    (await get(`${list}/provider/aws/9.0.0`)).statusCode,
    (await get(`${list}/provider/aws/9.0.0?source=oci`)).statusCode
  ], [404, 200])
  matchStrictly(t, [
    (await get(`${list}/provider/aws/latest`)).headers.location,
    (await get(`${list}/provider/aws/latest?source=oci`)).headers.location
  ], ['1.2.0', '9.0.0?source=oci'])
  matchStrictly(t, [await body('/search?q=aws'), await body('/search?q=aws&source=oci')], [[{ source: 'gitea' }, {
    type: 'cluster'
  }], [{ source: 'oci', version: '9.0.0' }, { type: 'cluster' }]])
  t.strictSame((await get(`${list}/search?q=aws&type=cluster`)).json<Extension[]>().map(({ type }) => type), [
    'cluster'
  ])
  const { body: metrics } = await get('/metrics')
  hasLine(t, metrics, 'extensions_shadowed_total{backend="oci"} 1')
  hasLine(t, metrics, 'extensions_shadowed_total{backend="gitea"} 0')
})

await t.test('an ETag identifies the bytes: an unchanged response is 304 for every form of If-None-Match', async t => {
  const { app, get } = await setUp(t)
  for (
    const path of [
      list,
      `${list}/search?q=alpha`,
      `${list}/provider/alpha`,
      `${list}/provider/alpha/versions`,
      `${list}/provider/alpha/1.0.0`
    ]
  ) {
    const { headers } = await get(path)
    const etag = String(headers.etag)
    t.match(etag, /^"[^"]+"$/, path)
    for (const condition of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
      const again = await get(path, { 'if-none-match': condition })
      matchStrictly(t, [again.statusCode, again.body, again.headers.etag], [304, '', etag], `${path} ${condition}`)
    }
    t.equal(
      (await get(path, { 'if-none-match': etag, 'cache-control': 'no-cache' })).statusCode,
      304,
      `${path}, as in fetch`
    )
    const head = await app.inject({ method: 'HEAD', url: path, headers: { 'if-none-match': etag } })
    t.strictSame(
      [head.statusCode, head.headers.etag, head.headers['content-length']],
      [304, etag, undefined],
      `HEAD ${path}: no other length than that of the file`
    )
    t.equal((await get(path, { 'if-none-match': '"other"' })).statusCode, 200, path)
  }
  t.not((await get(`${list}?limit=1`)).headers.etag, (await get(`${list}?limit=2`)).headers.etag)
})

await t.test('headers report the origin of a response and its lifetime', async t => {
  const { get, clock } = await setUp(t)
  await get(list)
  clock.forward(100)
  const { headers } = await get(list)
  matchStrictly(t, headers, {
    'cache-control': 'public, max-age=300, stale-if-error=86400',
    age: '100',
    'x-cache-hit': 'true',
    'x-cache-ttl': '200',
    'cache-status': 'extension-registry; hit; ttl=200',
    'x-content-type-options': 'nosniff',
    'x-request-id': /./
  })
  t.equal(headers['x-partial'], undefined)
  clock.forward(201)
  matchStrictly(t, (await get(list)).headers, {
    'x-cache-hit': 'false',
    age: '0',
    'cache-status': 'extension-registry; fwd=miss; ttl=300'
  })
})

await t.test('the request id of a client is returned, unless it could damage a log', async t => {
  const { get } = await setUp(t)
  t.equal((await get(list, { 'x-request-id': 'abc-123' })).headers['x-request-id'], 'abc-123')
  t.not((await get(list, { 'x-request-id': 'a b"{}' })).headers['x-request-id'], 'a b"{}')
})

await t.test('latest redirects to the exact version, and keeps the query', async t => {
  const { get } = await setUp(
    t,
    ['1.0.0', '1.10.0', '2.0.0-rc.1'].map(tag => ({ repository: 'provider/aws', tag })).concat({
      repository: 'taskserv/k3s',
      tag: '1.27.5_k3s1'
    })
  )
  const { statusCode, headers } = await get(`${list}/provider/aws/latest?source=oci&x=y`)
  matchStrictly(t, [statusCode, headers.location], [302, '1.10.0?source=oci&x=y'])
  t.equal((await get(`${list}/taskserv/k3s/latest`)).headers.location, '1.27.5%2Bk3s1')
  t.equal((await get(`${list}/taskserv/k3s/1.27.5%2Bk3s1`)).statusCode, 200)
  t.equal((await get(`${list}/taskserv/k3s/1.27.5+k3s1`)).statusCode, 200)
  t.equal((await get(`${list}/provider/nowhere/latest`)).statusCode, 404)
})

await t.test('a download has the name, length and digest of its file, and a leading v is accepted', async t => {
  const { get } = await setUp(t, [{
    repository: 'provider/aws',
    tag: 'v1.0.0',
    layers: [{ content: 'the file', title: 'aws prov “1”.tar.gz' }]
  }])
  for (const version of ['1.0.0', 'v1.0.0']) {
    const { statusCode, headers, body } = await get(`${list}/provider/aws/${version}`)
    t.equal(statusCode, 200)
    t.equal(body, 'the file')
    matchStrictly(t, headers, {
      'content-type': 'application/octet-stream',
      'content-length': '8',
      'content-disposition':
        'attachment; filename="aws prov ?1?.tar.gz"; filename*=UTF-8\'\'aws%20prov%20%E2%80%9C1%E2%80%9D.tar.gz',
      etag: /^"sha256:[0-9a-f]{64}"$/,
      'repr-digest': /^sha-256=:[A-Za-z0-9+/]{43}=:$/,
      'x-content-type-options': 'nosniff'
    })
  }
})

await t.test('a damaged file is reported as unavailable, counted, and never appears complete', async t => {
  const { get } = await setUp(t, [{ repository: 'provider/aws', tag: '1.0.0', fault: 'wrong blob' }])
  const { statusCode, body } = await get(`${list}/provider/aws/1.0.0`)
  matchStrictly(t, [statusCode, JSON.parse(body)], [503, { error: 'service_unavailable', details: 'File is damaged' }])
  hasLine(t, (await get('/metrics')).body, 'checksum_failures_total{backend="oci"} 1')
})

await t.test('HEAD of a download returns the headers and does not read the file', async t => {
  const { app } = await setUp(t, [{
    repository: 'provider/aws',
    tag: '1.0.0',
    layers: [{ content: 'the file', title: 'aws.tar.gz' }],
    fault: 'missing blob'
  }])
  const { statusCode, headers, body } = await app.inject({ method: 'HEAD', url: `${list}/provider/aws/1.0.0` })
  matchStrictly(t, [statusCode, body, headers['content-length'], headers['content-disposition']], [
    200,
    '',
    '8',
    'attachment; filename=aws.tar.gz'
  ])
})

await t.test('the download_url is the address of the gateway if configured, and absent without a public ' +
  'address', async t => {
  const { get } = await setUp(t)
  t.equal(
    (await get(`${list}/provider/alpha`)).json<Extension>().download_url,
    'https://registry.example.com/api/v1/extensions/provider/alpha/1.0.0'
  )
  const without = await setUp(t, undefined, { server: {} })
  t.equal((await without.get(`${list}/provider/alpha`)).json<Extension>().download_url, undefined)
})

await t.test('invalid input is refused in the envelope, with the name of its parameter', async t => {
  const { get, app } = await setUp(t)
  const cases: Array<[string, number, string, RegExp]> = [
    ['?type=plugin', 400, 'invalid_type', /provider, taskserv or cluster/],
    ['/plugin/aws', 400, 'invalid_type', /provider, taskserv or cluster/],
    ['/plugin/aws/versions', 400, 'invalid_type', /./],
    ['/plugin/aws/1.0.0', 400, 'invalid_type', /./],
    ['/search?q=x&type=plugin', 400, 'invalid_type', /./],
    ['/provider/aws/1.0', 400, 'invalid_version', /semantic version/],
    ['/provider/aws/01.0.0', 400, 'invalid_version', /./],
    ['/provider/aws/newest', 400, 'invalid_version', /./],
    [`/provider/aws/1.0.0-${'x'.repeat(200)}`, 400, 'invalid_version', /./],
    ['?limit=0', 400, 'invalid_request', /limit: must be >= 1/],
    ['?limit=1001', 400, 'invalid_request', /limit: must be <= 1000/],
    ['?limit=ten', 400, 'invalid_request', /limit: must be integer/],
    ['?limit=', 400, 'invalid_request', /limit/],
    ['?limit=1.5', 400, 'invalid_request', /limit/],
    ['?offset=-1', 400, 'invalid_request', /offset: must be >= 0/],
    ['?source=github', 400, 'invalid_request', /source: must be one of gitea, oci/],
    ['/search', 400, 'invalid_request', /Missing query parameter q/],
    ['/search?q=', 400, 'invalid_request', /q: expected 1 to 256/],
    ['/search?q=%20%20', 400, 'invalid_request', /q: expected 1 to 256/],
    [`/search?q=${'x'.repeat(257)}`, 400, 'invalid_request', /q: expected 1 to 256/],
    ['/search?q=x&limit=101', 400, 'invalid_request', /limit: must be <= 100/],
    ['/provider/a%2Fb', 400, 'invalid_request', /name/],
    ['/provider/..%2F..', 400, 'invalid_request', /name/],
    ['/provider/%00', 400, 'invalid_request', /name/],
    [`/provider/${'x'.repeat(129)}`, 400, 'invalid_request', /name/],
    [`/provider/${'x'.repeat(2000)}`, 400, 'invalid_request', /too long/],
    ['/provider/%zz', 400, 'invalid_request', /Malformed URL/],
    [`/provider/${'x'.repeat(101)}`, 404, 'not_found', /^Extension provider\/x+ not found$/],
    ['/provider/nonexistent', 404, 'not_found', /^Extension provider\/nonexistent not found$/],
    ['/provider/nonexistent/versions', 404, 'not_found', /^Extension provider\/nonexistent not found$/],
    ['/provider/alpha/1.2.0', 404, 'not_found', /^Extension provider\/alpha version 1.2.0 not found$/],
    ['/provider/alpha/1.0.0/more', 404, 'not_found', /^Route GET .* not found$/]
  ]
  for (const [path, status, error, message] of cases) {
    const response = await get(list + path)
    matchStrictly(t, [response.statusCode, response.json()], [status, { error, message }], path.slice(0, 60))
    matchStrictly(t, response.headers, {
      'content-type': /^application\/json/,
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'x-request-id': /./
    }, path.slice(0, 60))
  }
  matchStrictly(t, (await app.inject({ method: 'DELETE', url: list })).json(), { error: 'method_not_allowed' })
  t.equal((await get(`${list}/search?q=${'x'.repeat(256)}`)).statusCode, 200)
})
