import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { parse } from 'content-disposition'
import Fastify from 'fastify'
import fp from 'fastify-plugin'
import t, { type Test } from 'tap'
import registry, { serverOptions } from '../../../app.ts'
import { notFoundHandler } from '../../../plugins/errors.ts'
import { createGiteaFake, type GiteaContent, type RepositoryContent } from '../../fakes/gitea.ts'
import { writeLayout } from '../../fakes/layout.ts'
import { matchStrictly } from '../../fakes/match.ts'
import { sendRaw, plainHead } from '../../fakes/raw.ts'
import { contentOf, createRegistryFake } from '../../fakes/registry.ts'

/** Names, versions and texts of a malicious author. */
const hostile = [
  '..',
  '../x',
  '..%2fx',
  '%2e%2e',
  'a/b',
  'a\\b',
  'a"b',
  "a'b",
  'a\r\nX-Evil: 1',
  'a\nb',
  'a\0b',
  'a\u0085b',
  'a\u009b31m',
  'a\u202eb',
  'a\u2066b',
  'a\ufeffb',
  'a b',
  'é',
  '😀',
  'a?b',
  'a#b',
  'a;b',
  '<script>',
  '-x',
  '.x',
  'x'.repeat(10_000)
]
const harmful = /[\p{Cc}\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/u

/** Starts the registry on a real port; returns its log lines. */
async function listen (t: Test, config: object) {
  const lines: string[] = []
  const app = Fastify({
    ...serverOptions(),
    logger: {
      level: 'trace',
      stream: {
        write: line => {
          lines.push(line)
        }
      }
    }
  })
  t.teardown(async () => {
    await app.close()
  })
  app.setNotFoundHandler(notFoundHandler)
  await app.register(fp(registry), { config })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  return { lines, send: async (target: string, more = {}) => await sendRaw(port, target, more) }
}
type Server = Awaited<ReturnType<typeof listen>>

const strings = (value: unknown): string[] =>
  typeof value === 'string'
    ? [value]
    : typeof value === 'object' && value !== null
      ? Object.values(value).flatMap(strings)
      : []

/** Requests every route of the catalog and checks that no response contains harmful text. */
async function crawl (t: Test, { send, lines }: Server, publicUrl: string) {
  const get = async (target: string) => {
    const response = await send(target)
    t.match(response.head, plainHead, target)
    t.notMatch(response.head, /^x-evil/im, target)
    t.ok([200, 302, 404].includes(response.status), `${target} ${response.status}`)
    if (!/^content-type: application\/json/m.test(response.head)) return response
    const body: unknown = JSON.parse(response.body)
    for (const text of strings(body)) {
      t.notMatch(text, harmful, target)
      t.ok(text.length <= 4096, `${target} ${text.length}`)
    }
    return { ...response, body }
  }
  const base = '/api/v1/extensions'
  const list = (await get(base)).body as Array<
    { type: string, name: string, repository?: string, download_url?: string }
  >
  for (const { type, name, repository, download_url: download } of list) {
    t.match(name, /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/)
    if (repository !== undefined) t.match(repository, /^https?:\/\/[ -~]+$/)
    if (download !== undefined) t.ok(new URL(download).href.startsWith(publicUrl), download)
    await get(`${base}/${type}/${name}`)
    for (
      const { version, download_url: url } of (await get(`${base}/${type}/${name}/versions`)).body as Array<
        { version: string, download_url?: string }
      >
    ) {
      t.match(version, /^[0-9A-Za-z.+-]{1,128}$/)
      if (url !== undefined) t.ok(new URL(url).href.startsWith(publicUrl), url)
      const { head, status } = await get(`${base}/${type}/${name}/${version}`)
      const disposition = /^content-disposition: (.*)$/m.exec(head)?.[1]?.trim()
      t.equal(disposition !== undefined, status === 200, `${name} ${version}`)
      if (disposition !== undefined) {
        t.match(parse(disposition).parameters['filename'], /^[^\\/\p{Cc}\p{Cf}"]{1,200}$/u, disposition.slice(0, 200))
      }
      t.match((await send(`${base}/${type}/${name}/${version}`, { method: 'HEAD' })).head, plainHead)
    }
    await get(`${base}/${type}/${name}/latest`)
  }
  for (
    const target of [
      `${base}/search?q=a`,
      `${base}?limit=1`,
      '/api/v1/cache/stats',
      '/health',
      '/metrics',
      `${base}/provider/absent`
    ]
  ) await get(target)
  t.strictSame(
    lines.filter(line => harmful.test(line.trimEnd()) || line.length > 4096).map(line => line.slice(0, 300)),
    [],
    'log lines contain no harmful text'
  )
  return list
}

await t.test('harmful content of a Gitea reaches no response and no log line', async t => {
  const archive = (name: string, more = {}) => ({ name, content: 'x', ...more })
  const repository = (name: string, more: Partial<RepositoryContent> = {}): RepositoryContent => ({
    name,
    releases: [{ tag: '1.0.0', assets: [archive(`${name}.tar.gz`)] }],
    ...more
  })
  const content: GiteaContent = {
    owner: { login: 'provisioning', full_name: `Own\r\nX-Evil: 1\u202eer ${'x'.repeat(10_000)}` },
    repositories: [
      ...hostile.flatMap((
        name,
        at
      ) => [
        repository(`${name.slice(0, 250)}_prov`),
        repository(name),
        repository(`shown${at}_taskserv`, { description: name, topics: [name, `b${name}`] })
      ]),
      repository('good_prov', {
        releases: [
          ...hostile.map(tag => ({ tag, assets: [archive('good_prov.tar.gz')] })),
          ...hostile.map(tag => ({ tag: `1.0.0-${tag}`, assets: [archive('good_prov.tar.gz')] })),
          ...hostile.map((name, at) => ({ tag: `2.${at}.0`, assets: [archive(`${name}.tar.gz`)] })),
          ...hostile.map((uuid, at) => ({ tag: `3.${at}.0`, assets: [archive('good_prov.tar.gz', { uuid })] })),
          ...hostile.map((sum, at) => ({
            tag: `4.${at}.0`,
            assets: [archive('good_prov.tar.gz'), { name: 'good_prov.tar.gz.sha256', content: sum }, {
              name: 'SHA256SUMS',
              content: `${'0'.repeat(64)}  ${sum}\n${sum}`
            }]
          })),
          { tag: '0.1.0', published_at: 'yesterday\r\nX-Evil: 1', assets: [archive('good_prov.tar.gz')] }
        ]
      })
    ]
  }
  const gitea = await createGiteaFake(content)
  t.teardown(gitea.close)
  const server = await listen(t, {
    gitea: { url: gitea.url, organization: 'provisioning', public_url: 'https://git.example.com/sub' }
  })
  const list = await crawl(t, server, 'https://git.example.com/sub/')
  t.strictSame(
    list.filter(({ type }) => type === 'provider').map(({ name }) => name),
    ['good'],
    'a repository with an invalid name is not an extension'
  )
  t.equal(list.filter(({ name }) => name.startsWith('shown')).length, hostile.length)
  const versions = JSON.parse((await server.send('/api/v1/extensions/provider/good/versions')).body) as Array<
    { version: string }
  >
  for (const major of ['2', '4']) {
    t.equal(
      versions.filter(({ version }) => version.startsWith(major)).length,
      hostile.length,
      'an invalid file fails only itself'
    )
  }
  t.ok(
    gitea.requests.every(({ path }) =>
      /^\/(?:api\/v1\/(?:orgs\/provisioning\/repos|repos\/provisioning\/[A-Za-z0-9][\w.-]*(?:\/releases)?)(?:\?[\w=&]+)?|attachments\/[0-9A-Fa-f-]{36})$/
        .test(path)
    ),
    'every name remains one segment of a path'
  )
})

await t.test('harmful content of an OCI registry reaches no response and no log line', async t => {
  const root = join(t.testdir({}), 'layouts')
  const image = 'org.opencontainers.image.'
  await writeLayout(
    root,
    hostile.map((text, at) => ({
      repository: `ns/provider/p${at}`,
      tag: '1.0.0',
      layers: [{ content: 'x', title: `${text}.tar.gz`, ...(at % 2 === 0 && { mediaType: text }) }],
      annotations: Object.fromEntries(
        [
          `${image}description`,
          `${image}vendor`,
          `${image}source`,
          `${image}created`,
          `${image}title`,
          'io.artifacthub.keywords'
        ].map(key => [key, key.endsWith('source') ? `https://user:pw@x.example/${text}` : text])
      )
    }))
  )
  const content = await contentOf(root)
  const [some] = content.values()
  if (some === undefined) throw new Error('nothing written')
  const [target] = some.tags.values()
  if (target === undefined) throw new Error('nothing tagged')
  for (const name of hostile) {
    content.set(`ns/provider/${name}`, some)
    some.tags.set(name, target)
    some.tags.set(`2.0.0-${name}`, { ...target, digest: name })
  }
  const fake = await createRegistryFake(content)
  t.teardown(fake.close)
  fake.fault = ({ path }) =>
    path.includes('p3/manifests')
      ? {
          status: 200,
          headers: {
            'content-type': 'application/vnd.oci.image.manifest.v1+json',
            'docker-content-digest': 'sha256:../../x'
          },
          body: '{}'
        }
      : undefined
  const server = await listen(t, {
    server: { public_url: 'https://registry.example.com' },
    oci: { registry: fake.url, namespace: 'ns' }
  })
  const list = await crawl(t, server, 'https://registry.example.com/api/v1/extensions/')
  t.equal(list.filter(({ name }) => /^p\d+$/.test(name)).length, hostile.length - 1)
  t.ok(
    list.every(({ name }) => /^(?:p\d+|x{128})$/.test(name)),
    'a repository with an invalid name is not an extension'
  )
  t.strictSame(
    fake.requests.map(({ path }) => path).filter(path =>
      !/^\/v2\/(?:_oci\/ext\/discover|_catalog\?[\w=&%.-]+|ns\/(?:provider\/[a-z0-9]+|providers\/absent|absent[_-]prov(?:ider)?)\/(?:tags\/list(?:\?[\w=&]+)?|manifests\/[\w.:-]+|blobs\/[\w.:-]+))?$/
        .test(path)
    ),
    [],
    'every name remains one segment of a path'
  )
})

await t.test('any text in a path or a query gets a response in the envelope, and is in no header and no ' +
  'line of the log', async t => {
  const gitea = await createGiteaFake({
    owner: { login: 'provisioning' },
    repositories: [{
      name: 'good_prov',
      releases: [{ tag: '1.0.0', assets: [{ name: 'good_prov.tar.gz', content: 'x' }] }]
    }]
  })
  t.teardown(gitea.close)
  const { send, lines } = await listen(t, { gitea: { url: gitea.url, organization: 'provisioning' } })
  t.equal((await send('/api/v1/extensions')).status, 200)
  const raw = [
    '\0',
    '\x01',
    '\t',
    '\x0b',
    '\x1b[31m',
    '\x7f',
    '\x80',
    '\x9b31m',
    '\xff',
    '\xe2\x80\xae',
    '"',
    '<>',
    '\\',
    '^',
    '`',
    '{}',
    '|'
  ]
  const escaped = [
    '%00',
    '%0d%0aX-Evil:%201',
    '%0a',
    '%1b%5b31m',
    '%7f',
    '%c2%9b',
    '%ff',
    '%c0%ae%c0%ae',
    '%e2%80%ae',
    '%',
    '%zz',
    '%u0000',
    '%2e%2e',
    '%2e%2e%2f',
    '..',
    '..%2f..',
    '%2f',
    '%5c',
    '%22',
    '%3cscript%3e',
    '%ed%a0%80',
    '%F0%9F%98%80',
    'x'.repeat(129),
    'x'.repeat(600),
    'x'.repeat(10_000),
    '%0d'.repeat(400),
    '__proto__',
    'constructor'
  ]
  const places = (text: string) => [
    `/${text}`,
    `/api/v1/extensions/${text}`,
    `/api/v1/extensions/${text}/good`,
    `/api/v1/extensions/provider/${text}`,
    `/api/v1/extensions/provider/${text}/versions`,
    `/api/v1/extensions/provider/good/${text}`,
    `/api/v1/extensions/provider/${text}/1.0.0`,
    `/api/v1/extensions/provider/good/1.0.0/${text}`,
    `/api/v1/extensions?type=${text}`,
    `/api/v1/extensions?limit=${text}`,
    `/api/v1/extensions?source=${text}`,
    `/api/v1/extensions/search?q=a&limit=${text}`,
    `/api/v1/extensions/provider/good?source=${text}`,
    `/docs/${text}`,
    `/docs/static/${text}`,
    `/health/${text}`
  ]
  // These parameters accept any text, and offset accepts blanks as zero, so the response may have any status.
  const free = (
    text: string
  ) => [
    `/api/v1/extensions/search?q=${text}`,
    `/api/v1/extensions?offset=${text}`,
    `/api/v1/extensions?${text}`,
    `/api/v1/extensions?${text}=1`,
    `/api/v1/extensions/provider/good/latest?${text}`,
    `/api/v1/extensions?limit=1&x=${text}`,
    `/health?${text}`
  ]
  for (const text of [...raw, ...escaped]) {
    for (const target of [...places(text), ...free(text)]) {
      const { status, head, body } = await send(target)
      const where = JSON.stringify(target.slice(0, 120))
      t.match(head, plainHead, where)
      t.notMatch(head, /^x-evil/im, where)
      if (status < 400 && !places(text).includes(target)) continue
      // A path that is empty or ends in dots may be a page of the documentation.
      if (target.startsWith('/docs/') && status < 400) continue
      t.ok(status === 400 || status === 404 || (status === 431 && text.length > 5000), `${status} ${where}`)
      const observed = JSON.parse(body) as { error: string, message: string }
      matchStrictly(t, observed, { error: /^(?:not_found|invalid_\w+)$/, message: String }, where)
      t.notMatch(body, harmful, where)
      t.ok(body.length < 1000, where)
    }
  }
  for (
    const headers of [
      'X-Request-Id: a\x85b\r\n',
      'X-Request-Id: a"b\r\n',
      `X-Request-Id: ${'x'.repeat(200)}\r\n`,
      'If-None-Match: "\x9b"\r\n',
      'Range: bytes=\xff\r\n',
      'X-Forwarded-For: \x9b31m\r\n',
      'X-Forwarded-Host: evil.example\r\n'
    ]
  ) {
    const { status, head } = await send('/api/v1/extensions/provider/good', { headers })
    t.equal(status, 200, JSON.stringify(headers))
    t.match(head, plainHead)
    t.notMatch(head, /evil|\n\S*id: a(?![0-9a-f]{7}-)/)
  }
  t.strictSame(lines.filter(line => harmful.test(line.trimEnd())).map(line => line.slice(0, 300)), [])
})
