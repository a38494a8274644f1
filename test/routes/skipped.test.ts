import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { SkippedItem, SkippedReport } from '../../backends/cached/backend.ts'
import { startApp } from '../fakes/app.ts'
import { createGiteaFake, type GiteaContent, type GiteaFake } from '../fakes/gitea.ts'
import { writeLayout } from '../fakes/layout.ts'
import { matchStrictly } from '../fakes/match.ts'
import { contentOf, createRegistryFake } from '../fakes/registry.ts'

const archive = (name: string) => ({ name: `${name}.tar.gz`, content: name })
const plain = (name: string, tag = '1.0.0') => ({ tag, assets: [archive(name)] })

/** Returns repositories that each have an item to skip, and a repository without one. */
const giteaContent = (): GiteaContent => ({
  owner: { login: 'team' },
  repositories: [
    { name: 'aws_prov', releases: [plain('aws_prov'), plain('aws_prov', 'nightly')] },
    { name: 'gcp_prov', releases: [plain('gcp_prov')] },
    { name: 'gcp_provider', releases: [plain('gcp_provider')] },
    { name: 'mirrored_prov', mirror: true, releases: [plain('mirrored_prov')] },
    { name: 'unit_prov', has_releases: false, releases: [plain('unit_prov')] },
    {
      name: 'summed_prov',
      releases: [{
        tag: '1.0.0',
        assets: [archive('summed_prov'), { name: 'summed_prov.tar.gz.sha256', content: 'no digest at all' }]
      }]
    },
    {
      name: 'canarysecret_prov',
      private: true,
      releases: [plain('canarysecret_prov'), plain('canarysecret_prov', 'canarytag')]
    },
    { name: 'odd_prov', releases: [plain('odd_prov'), plain('odd_prov', '2.0.0')] },
    { name: 'good_cluster', releases: [plain('good_cluster')] }
  ]
})

/** Makes the release 2.0.0 of `odd_prov` and an asset of its 1.0.0 malformed. */
function spoil (gitea: GiteaFake): void {
  gitea.fault = async ({ path, headers }) => {
    if (!path.includes('/odd_prov/releases') || headers['x-again'] !== undefined) return undefined
    const response = await fetch(gitea.url + path, { headers: { 'x-again': '1' } })
    const rows = await response.json() as Array<{ tag_name: string, assets: unknown[] }>
    for (const row of rows) {
      if (row.tag_name === '2.0.0') Object.assign(row, { published_at: 'yesterday', created_at: 7 })
      else row.assets.push({ name: 'broken.zip', size: -1 })
    }
    return {
      status: 200,
      headers: { 'content-type': 'application/json', 'x-total-count': String(rows.length) },
      body: JSON.stringify(rows)
    }
  }
}

interface Line { level: number, msg: string, backend?: string }

async function setUp (t: Test) {
  const root = join(t.testdir({}), 'layouts')
  await writeLayout(root, [
    { repository: 'provider/oci', tag: '1.0.0' },
    { repository: 'provider/oci', tag: 'latest' },
    {
      repository: 'provider/image',
      tag: '1.0.0',
      artifactType: null,
      layers: [{ content: 'a', mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip' }, {
        content: 'b',
        mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip'
      }],
      config: { architecture: 'amd64' }
    },
    { repository: 'provider/image', tag: '0.9.0' },
    { repository: 'provider/twice', tag: '1.0.0' },
    { repository: 'twice_prov', tag: '1.0.0' },
    { repository: 'provider/gone', tag: '2.0.0', fault: 'missing manifest' },
    { repository: 'provider/gone', tag: '1.0.0' },
    { repository: 'provider/canaryhidden', tag: '1.0.0' }
  ])
  const registry = await createRegistryFake(await contentOf(root), { auth: 'bearer', denied: /canaryhidden|written/ })
  const gitea = await createGiteaFake(giteaContent(), { tokens: { 'token-of-gitea': { scopes: ['all'] } } })
  t.teardown(async () => { await Promise.all([registry.close(), gitea.close()]) })
  spoil(gitea)
  const { app, get, clock, lines } = await startApp(t, {
    gitea: {
      url: gitea.url,
      organization: 'team',
      token: 'token-of-gitea',
      include_private: false,
      reconcile_seconds: 0
    },
    oci: { registry: registry.url, repositories: ['provider/written'] }
  })
  await app.health.firstRound
  const crawl = async () => {
    clock.forward(301)
    await get('/api/v1/extensions')
    await get('/api/v1/extensions')
  }
  const counts = () =>
    Object.fromEntries(
      app.catalog.skipped().counts.map(({ instance, kind, reason, count }) => [`${instance} ${kind} ${reason}`, count])
    )
  const logged = () =>
    lines.map(line => JSON.parse(line) as Line).filter(({ msg }) => /^(?:skipped \d|nothing is skipped)/.test(msg)).map(
      ({ backend, level, msg }) => `${level} ${backend ?? ''} ${msg}`
    )
  await get('/api/v1/extensions')
  return { app, get, clock, lines, registry, gitea, crawl, counts, logged }
}

const place = ({ instance, kind, reason, type, name, repository, version, tag, file }: SkippedItem): string =>
  [instance, kind, reason, type === undefined ? undefined : `${type}/${name ?? ''}`, repository, version, tag, file]
    .filter(part => part !== undefined).join(' ')

const placesOf = ({ items }: SkippedReport) => items.map(place).sort()

const everything = [
  'gitea asset malformed provider/odd odd_prov 1.0.0 1.0.0 broken.zip',
  'gitea checksum_file bad_checksum_file provider/summed summed_prov 1.0.0 summed_prov.tar.gz.sha256',
  'gitea release malformed provider/odd odd_prov 2.0.0',
  'gitea repository duplicate provider/gcp gcp_provider',
  'gitea repository mirror provider/mirrored mirrored_prov',
  'gitea repository releases_off provider/unit unit_prov',
  'gitea tag not_semver provider/aws aws_prov nightly',
  'oci repository duplicate provider/twice twice_prov',
  'oci repository refused provider/written provider/written',
  'oci tag missing_content provider/gone provider/gone 2.0.0 2.0.0',
  'oci tag not_an_artifact provider/image provider/image 1.0.0 1.0.0',
  'oci tag not_semver provider/oci provider/oci latest'
]

await t.test('each kind of skipped item is reported with its place and its reason', async t => {
  const { app, counts } = await setUp(t)
  const report = app.catalog.skipped()
  t.strictSame(placesOf(report), everything)
  t.ok(report.items.every(({ since }) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(since)))
  matchStrictly(t, counts(), { 'gitea repository private': 1, 'oci repository refused': 2, 'gitea tag not_semver': 1 })
  t.strictSame(
    [...new Set(report.counts.map(({ instance }) => instance))],
    ['gitea', 'oci'],
    'in the order of ownership'
  )
})

await t.test('each instance logs the numbers in one info line, again only after a change', async t => {
  const { crawl, logged, gitea, registry } = await setUp(t)
  const first = [
    /^30 gitea skipped .*; 4 repositories: 1 duplicate, 1 mirror, 1 private, 1 releases_off; 1 tag: 1 not_semver$/,
    /^30 oci skipped 3 repositories: 2 refused, 1 duplicate; 3 tags: 1 missing_content, 1 not_an_artifact, 1 not_semver$/
  ]
  matchStrictly(t, logged().sort(), first)
  await crawl()
  await crawl()
  t.equal(logged().length, 2, 'not at each crawl')
  gitea.publish('good_cluster', plain('good_cluster', 'edge'))
  await crawl()
  t.equal(logged().length, 3)
  t.match(logged().at(-1), /^30 gitea .*2 not_semver$/)
  registry.content.delete('twice_prov')
  await crawl()
  t.match(logged().at(-1), /^30 oci skipped 2 repositories: 2 refused; 3 tags/)
})

await t.test('an item is removed when a complete crawl no longer finds it, and kept when a crawl could not ' +
  'read it', async t => {
  const { app, crawl, gitea, registry, counts } = await setUp(t)
  const since = app.catalog.skipped().items.map(item => item.since)
  gitea.fault = () => ({ status: 500, headers: { 'content-type': 'application/json' }, body: '{}' })
  registry.fault = ({ path }) => path.includes('/provider/image/') ? { status: 500, body: '' } : undefined
  await crawl()
  t.strictSame(placesOf(app.catalog.skipped()), everything, 'neither could be read completely')
  t.strictSame(app.catalog.skipped().items.map(item => item.since), since)

  gitea.fault = undefined
  registry.fault = undefined
  gitea.withdraw('aws_prov', 'nightly')
  for (const name of ['gcp_provider', 'mirrored_prov', 'unit_prov', 'summed_prov', 'canarysecret_prov']) {
    gitea.remove(name)
  }
  for (const repository of ['provider/image', 'twice_prov', 'provider/gone', 'provider/canaryhidden']) {
    registry.content.delete(repository)
  }
  registry.content.get('provider/oci')?.tags.delete('latest')
  registry.options.denied = undefined
  registry.revoke()
  await crawl()
  await crawl()
  t.strictSame(app.catalog.skipped(), { items: [], counts: [] }, JSON.stringify(counts()))
})

await t.test('a private repository and a refused repository outside the configuration are counted but never ' +
  'named', async t => {
  const { app, get, lines, crawl } = await setUp(t)
  await crawl()
  await get('/api/v1/extensions/provider/aws/versions')
  const pages = await Promise.all(
    ['/metrics', '/health', '/api/v1/extensions', '/api/v1/cache/stats', '/api/v1/extensions/search?q=canary'].map(
      async path => (await get(path)).body
    )
  )
  for (
    const text of [...lines.filter(line => !line.includes('q=canary')), ...pages, JSON.stringify(app.catalog.skipped())]
  ) t.notMatch(text, /canary/)
  t.ok(lines.some(line => line.includes('"level":20')), 'debug lines are included')
})

await t.test('duplicates that are private or refused, and private repositories that are a mirror or have no ' +
  'releases or versions, are counted but never named', async t => {
  const gitea = await createGiteaFake({
    owner: { login: 'team' },
    repositories: [
      ...['aws_prov', 'aws_provider', 'gcp_prov', 'gcp_provider', 'k8s_prov', 'k8s_provider'].map(name => ({
        name,
        private: name === 'gcp_provider',
        releases: [plain(name)]
      })),
      { name: 'canarynightly_prov', private: true, releases: [plain('canarynightly_prov', 'nightly')] },
      { name: 'shown_cluster', private: true, releases: [plain('shown_cluster'), plain('shown_cluster', 'nightly')] },
      { name: 'canarymirror_prov', private: true, mirror: true, releases: [plain('canarymirror_prov')] },
      { name: 'canaryunit_prov', private: true, has_releases: false, releases: [plain('canaryunit_prov')] }
    ]
  }, { tokens: { 'token-of-gitea': { scopes: ['all'] } } })
  t.teardown(gitea.close)
  gitea.fault = ({ path }) =>
    path.includes('/aws_provider/releases')
      ? { status: 403, headers: { 'content-type': 'application/json' }, body: '{"message":"no"}' }
      : undefined
  const { app, get, lines } = await startApp(t, {
    gitea: { url: gitea.url, organization: 'team', token: 'token-of-gitea' }
  })
  await app.health.firstRound
  for (
    const path of [
      '',
      '/provider/aws',
      '/provider/gcp/versions',
      '/provider/k8s/1.0.0',
      '/provider/canarymirror',
      '/provider/canarynightly'
    ]
  ) await get(`/api/v1/extensions${path}`)
  t.strictSame(placesOf(app.catalog.skipped()), [
    'gitea repository duplicate provider/k8s k8s_provider',
    'gitea tag not_semver cluster/shown shown_cluster nightly'
  ])
  t.strictSame(app.catalog.skipped().counts.map(({ reason, count }) => [reason, count]), [
    ['duplicate', 3],
    ['mirror', 1],
    ['refused', 1],
    ['releases_off', 1],
    ['not_semver', 2]
  ])
  for (const text of [...lines.filter(line => !line.includes('/api/v1/')), (await get('/metrics')).body]) {
    t.notMatch(text, /canary|aws_provider|gcp_provider/)
  }
})
