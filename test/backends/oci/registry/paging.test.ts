import t, { type Test } from 'tap'
import { isRegistryError } from '../../../../lib/errors.ts'
import { createLoopback, type LoopbackResponse, type LoopbackRequest } from '../../../fakes/loopback.ts'
import { matchStrictly } from '../../../fakes/match.ts'
import { createRegistryFake, type FlavourName, type RegistryContent } from '../../../fakes/registry.ts'
import { createRegistryTransport } from '../../../fakes/registry-driver.ts'

const many = Array.from({ length: 2500 }, (_, at) => `1.0.${at}`)
const content = (tags: string[]): RegistryContent =>
  new Map([['provider/aws', {
    tags: new Map(tags.map(tag => [tag, { digest: `sha256:${'0'.repeat(64)}`, mediaType: 'x' }])),
    blobs: new Map()
  }]])
const json = (body: unknown, headers: Record<string, string> = {}, status = 200): LoopbackResponse => ({
  status,
  headers: { 'content-type': 'application/json', ...headers },
  body: JSON.stringify(body)
})
const outcome = async (operation: Promise<unknown>) =>
  await operation.catch((error: unknown) => {
    if (!isRegistryError(error)) throw error
    return error
  })

async function scripted (
  t: Test,
  response: (request: LoopbackRequest, url: URL) => LoopbackResponse,
  config: object = {}
) {
  const fake = await createLoopback(request =>
    request.path === '/v2/' ? json({}) : response(request, new URL(request.path, 'http://fake'))
  )
  t.teardown(fake.close)
  const observed: string[] = []
  return {
    fake,
    observed,
    transport: createRegistryTransport(t, { registry: fake.url, ...config }, {
      onRefused: () => {
        observed.push('refused')
      }
    })
  }
}

await t.test('all tags of every kind of registry are read, with a minimum of requests', async t => {
  const operations: Record<FlavourName, number> = { 'docker-registry': 1, zot: 3, gitea: 4, harbor: 3 }
  for (const flavour of ['docker-registry', 'zot', 'gitea', 'harbor'] as const) {
    const fake = await createRegistryFake(content(many), { flavour })
    t.teardown(fake.close)
    const transport = createRegistryTransport(t, { registry: fake.url })
    t.strictSame((await transport.tags('provider/aws'))?.map(({ name }) => name).sort(), [...many].sort(), flavour)
    t.equal(
      fake.requests.filter(({ path, headers }) =>
        path.includes('/tags/list') &&
        (headers.authorization !== undefined) === (flavour === 'gitea' || flavour === 'harbor')
      ).length,
      operations[flavour],
      flavour
    )
    t.ok(fake.requests.every(({ path }) => !path.includes('/tags/') || /[?&]n=1000/.test(path)))
  }
})

await t.test('an empty tag list is empty, also when it is null, and a missing repository is undefined', async t => {
  for (const flavour of ['docker-registry', 'zot', 'gitea', 'harbor'] as const) {
    const fake = await createRegistryFake(content([]), { flavour })
    t.teardown(fake.close)
    const transport = createRegistryTransport(t, { registry: fake.url })
    t.strictSame(await transport.tags('provider/aws'), [], flavour)
    t.equal(await transport.tags('provider/none'), undefined, flavour)
    const requested = fake.requests.length
    for (const impossible of ['provider/AWS', '../secret', 'a//b', 'provider/a..b', 'x'.repeat(256), '']) {
      t.equal(await transport.tags(impossible), undefined, impossible)
    }
    t.equal(fake.requests.length, requested, 'an impossible name is not requested')
  }
})

await t.test('a tag that is deleted while the list is read causes one more read, and never an incomplete ' +
  'list', async t => {
  const { fake, transport } = await scripted(t, (_request, url) => {
    const last = url.searchParams.get('last')
    if (last === 'b' && fake.count(/last=b/) === 1) return { status: 404, body: '' }
    if (last === null) return json({ tags: ['a', 'b'] }, { link: `<${url.pathname}?n=2&last=b>; rel="next"` })
    return json({ tags: ['c'] })
  })
  t.strictSame(await transport.tags('provider/aws'), [{ name: 'a' }, { name: 'b' }, { name: 'c' }])
  t.equal(fake.count(/tags\/list/), 4)

  const end = await scripted(
    t,
    (_request, url) =>
      url.searchParams.has('last')
        ? { status: 404, body: '' }
        : json({ tags: ['a'] }, { link: `<${url.pathname}?n=1&last=a>; rel="next"` })
  )
  t.strictSame(await end.transport.tags('provider/aws'), [{ name: 'a' }], 'no tags after the last one')
  t.equal(end.fake.count(/tags\/list/), 4)
})

await t.test('an empty page is the last; repeated or endless pages are a failure, and do not prove an ' +
  'absence', async t => {
  const empty = await scripted(
    t,
    (_request, url) =>
      json({ tags: url.searchParams.has('last') ? [] : ['a', 'b'] }, {
        link: `<${url.pathname}?n=2&last=b>; rel="next"`
      })
  )
  t.strictSame(await empty.transport.tags('provider/aws'), [{ name: 'a' }, { name: 'b' }])
  const repeated = await scripted(
    t,
    (_request, url) =>
      json(url.pathname.endsWith('_catalog') ? { repositories: ['provider/a', 'provider/b'] } : { tags: ['a', 'b'] }, {
        link: `<${url.pathname}?n=2&last=b>; rel="next"`
      })
  )
  matchStrictly(t, await outcome(repeated.transport.tags('provider/aws')), {
    code: 'service_unavailable',
    details: 'Response has a page twice'
  })
  t.equal(repeated.fake.count(/tags\/list/), 2)
  matchStrictly(t, await repeated.transport.repositories(''), {
    names: ['provider/a', 'provider/b'],
    truncated: true,
    truncatedBy: { details: 'Response has a page twice' }
  })

  const endless = await scripted(t, (_request, url) => {
    const last = Number(url.searchParams.get('last') ?? 0)
    return json({ tags: [`t${last}`] }, { link: `<${url.pathname}?n=1&last=${last + 1}>; rel="next"` })
  })
  matchStrictly(t, await outcome(endless.transport.tags('provider/aws')), {
    code: 'service_unavailable',
    details: 'Response has too many pages'
  })
  const catalog = await scripted(t, (_request, url) => {
    const last = Number(url.searchParams.get('last') ?? 0)
    return json({ repositories: [`provider/r${last}`] }, { link: `</v2/_catalog?n=1&last=${last + 1}>; rel="next"` })
  })
  const { names, truncated } = await catalog.transport.repositories('')
  t.strictSame([names.length, truncated], [1000, true])
})

/** Returns a response with these names of tags or repositories. */
const named = (url: URL, names: unknown[], link?: string): LoopbackResponse =>
  json(
    url.pathname.endsWith('_catalog') ? { repositories: names } : { tags: names },
    link === undefined ? {} : { link: `<${link}>; rel="next"` }
  )
const twelve = Array.from({ length: 12 }, (_, at) => `provider/x${at}`)
const asTags = (names: string[]) => names.map(name => name.replace('provider/', ''))

await t.test('a Link that leads to the page just read is the end of the list', async t => {
  const ends: Array<[what: string, link: (url: URL) => string, requests: number]> = [
    ['the same address', url => url.pathname + url.search, 2],
    ['the same address, absolute and of another scheme', url => `https://${url.host}${url.pathname}${url.search}`, 2],
    ['the same names after the last one', url => `${url.pathname}?n=1000&last=x9`, 2],
    ['the same names, without a page size', url => `${url.pathname}?last=x9`, 2],
    ['the same names on a page of another size', url => `${url.pathname}?n=5&last=x9`, 2]
  ]
  for (const [what, link, requests] of ends) {
    const { fake, transport } = await scripted(t, (request, url) => {
      url.host = request.headers.host ?? ''
      return named(url, url.pathname.endsWith('_catalog') ? twelve : asTags(twelve), link(url))
    })
    t.strictSame((await transport.tags('provider/aws'))?.map(({ name }) => name), asTags(twelve), what)
    t.equal(fake.count(/tags\/list/), requests, what)
    t.strictSame(await transport.repositories(''), { names: [...twelve].sort(), truncated: false }, what)
  }
})

await t.test('a later page that leads to itself is also the end', async t => {
  const { fake, transport } = await scripted(t, (_request, url) =>
    url.searchParams.has('last')
      ? named(url, ['c', 'd'], `${url.pathname}?n=2&last=b`)
      : named(url, ['a', 'b'], `${url.pathname}?n=2&last=b`))
  t.strictSame((await transport.tags('provider/aws'))?.map(({ name }) => name), ['a', 'b', 'c', 'd'])
  t.equal(fake.count(/tags\/list/), 3)
})

await t.test('a page with a new name when it is read again is not the end', async t => {
  const { transport } = await scripted(
    t,
    (_request, url) => named(url, fakeReads(url) === 1 ? ['a'] : ['a', 'b'], url.pathname + url.search)
  )
  const reads = new Map<string, number>()
  function fakeReads (url: URL): number {
    reads.set(url.href, (reads.get(url.href) ?? 0) + 1)
    return reads.get(url.href) ?? 0
  }
  t.strictSame((await transport.tags('provider/aws'))?.map(({ name }) => name), ['a', 'b'])
})

await t.test('any other repeated page does not prove the end', async t => {
  const pages: Array<[what: string, page: (url: URL) => LoopbackResponse]> = [
    [
      'the page before the last',
      url =>
        url.searchParams.get('last') === 'b'
          ? named(url, ['c', 'd'], `${url.pathname}?n=2&last=d`)
          : named(url, ['a', 'b'], `${url.pathname}?n=2&last=b`)
    ],
    [
      'the first page, by its address',
      url =>
        url.searchParams.has('last')
          ? named(url, ['c', 'd'], `${url.pathname}?n=1000`)
          : named(url, ['a', 'b'], `${url.pathname}?n=2&last=b`)
    ],
    [
      'a part of the page',
      url => named(url, url.searchParams.has('last') ? ['b'] : ['a', 'b'], `${url.pathname}?n=2&last=b`)
    ],
    ['a full page at another address', url => named(url, ['a', 'b'], `${url.pathname}?n=2&last=b`)]
  ]
  for (const [what, page] of pages) {
    const { transport } = await scripted(t, (_request, url) => page(url))
    matchStrictly(t, await outcome(transport.tags('provider/aws')), {
      code: 'service_unavailable',
      details: 'Response has a page twice'
    }, what)
  }
})

await t.test('the list of Harbor ends with a Link to the page just read, unless its total is larger', async t => {
  for (const [total, truncated] of [[12, false], [undefined, false], [230, true]] as const) {
    const { transport } = await scripted(t, (_request, url) => ({
      ...json(twelve.map(name => ({ name })), {
        ...(total !== undefined && { 'x-total-count': String(total) }),
        link: `<${url.pathname}${url.search}>; rel="next"`
      })
    }), { discovery: 'harbor', namespace: 'provider' })
    matchStrictly(t, await transport.repositories('provider'), { names: [...twelve].sort(), truncated })
  }
  const counted = await scripted(t, () => json(twelve.map(name => ({ name })), { 'x-total-count': '230' }), {
    discovery: 'harbor',
    namespace: 'provider'
  })
  matchStrictly(
    t,
    await counted.transport.repositories('provider'),
    { names: [...twelve].sort(), truncated: true },
    'the same page by its number'
  )
})

await t.test('a Link may be absolute on the same host, also with another scheme, and is not followed to other ' +
  'hosts', async t => {
  const paged = (link: (host: string, path: string) => string) => (request: LoopbackRequest, url: URL) =>
    url.searchParams.has('last')
      ? json({ tags: ['b'] })
      : json({ tags: ['a'] }, {
        link: `<${link(request.headers.host ?? '', `${url.pathname}?n=1&last=a`)}>; rel="next"`
      })
  for (
    const link of [
      (host: string, path: string) => `http://${host}${path}`,
      (host: string, path: string) => `https://${host}${path}`,
      (host: string, path: string) => `//${host}${path}`,
      (_host: string, path: string) => path,
      (_host: string, path: string) => path.slice(path.indexOf('?'))
    ]
  ) {
    const { transport } = await scripted(t, paged(link))
    t.strictSame(await transport.tags('provider/aws'), [{ name: 'a' }, { name: 'b' }])
  }
  for (
    const elsewhere of [
      'http://169.254.169.254/latest',
      'http://127.0.0.1:1/v2/',
      'http://evil.example/v2/_catalog',
      'file:///etc/passwd',
      'http://['
    ]
  ) {
    const { fake, transport } = await scripted(t, paged(() => elsewhere), { token: 'canary' })
    matchStrictly(t, await outcome(transport.tags('provider/aws')), {
      code: 'service_unavailable',
      details: 'Next page is on another host'
    }, elsewhere)
    t.equal(fake.count(/tags\/list/), 1)
  }
})

await t.test('a registry that refuses the page size receives requests without it', async t => {
  const { fake, transport } = await scripted(t, (_request, url) =>
    url.searchParams.has('n')
      ? json({ errors: [{ code: 'PAGINATION_NUMBER_INVALID' }] }, {}, 400)
      : json(url.pathname.endsWith('_catalog') ? { repositories: ['provider/aws'] } : { tags: ['1.0.0'] }))
  t.strictSame(await transport.repositories(''), { names: ['provider/aws'], truncated: false })
  t.strictSame(await transport.tags('provider/aws'), [{ name: '1.0.0' }])
  t.equal(fake.requests.length, 5, 'the challenge, and two requests for each list')
})

await t.test('malformed names do not affect the others', async t => {
  const { transport } = await scripted(t, (_request, url) =>
    url.pathname.endsWith('_catalog')
      ? json({ repositories: ['provider/aws', 7, null, '../x', 'UPPER/case', `x/${'y'.repeat(300)}`, 'elsewhere/x'] })
      : json({ tags: ['1.0.0', 7, null, 'a b', '../x', 'x'.repeat(129), '-x'] }))
  t.strictSame(
    (await transport.repositories('provider')).names,
    ['provider/aws'],
    'repositories outside the namespace are skipped'
  )
  t.strictSame(await transport.tags('provider/aws'), [{ name: '1.0.0' }])
})

await t.test('a response that is not from a registry is a failure, and never an absence', async t => {
  const page = '<html>Sign in</html>'
  const responses: Array<[name: string, response: LoopbackResponse, details: string]> = [
    ['HTML', { status: 200, headers: { 'content-type': 'text/html' }, body: page }, 'Response is not from a registry'],
    [
      'a 404 of a proxy',
      { status: 404, headers: { 'content-type': 'text/html' }, body: page },
      'Response is not from a registry'
    ],
    [
      'a 404 of an ingress',
      { status: 404, headers: { 'content-type': 'text/plain' }, body: 'default backend - 404' },
      'Response is not from a registry'
    ],
    ['text', { status: 200, headers: { 'content-type': 'text/plain' }, body: '{"tags":[]}' }, 'Response is not JSON'],
    [
      'not JSON',
      { status: 200, headers: { 'content-type': 'application/json' }, body: '{' },
      'Response is not valid JSON'
    ],
    ['another form', json({ tags: 'x' }), 'Response has an unexpected structure'],
    ['a list', json([]), 'Response has an unexpected structure'],
    ['an error of the server', json({}, {}, 500), 'Upstream responded with status 500']
  ]
  for (const [what, response, details] of responses) {
    const { transport } = await scripted(t, () => response)
    matchStrictly(
      t,
      await outcome(transport.tags('provider/aws')),
      { code: 'service_unavailable', instance: 'oci', details },
      what
    )
  }
})
