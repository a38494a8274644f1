import t, { type Test } from 'tap'
import type { ExtensionVersion } from '../../../schemas/extension.ts'
import { startApp } from '../../fakes/app.ts'
import { createGiteaFake } from '../../fakes/gitea.ts'
import { matchStrictly } from '../../fakes/match.ts'
import { chooseFile } from '../../../backends/gitea/release-files.ts'

const path = '/api/v1/extensions/provider/x'

async function setUp (t: Test, releases: Record<string, string[]>, config: object = {}) {
  const gitea = await createGiteaFake({
    owner: { login: 'org' },
    repositories: [{
      name: 'x_prov',
      releases: Object.entries(releases).map(([tag, names]) => ({
        tag,
        assets: names.map(name => ({ name, content: name }))
      }))
    }]
  })
  t.teardown(gitea.close)
  const { app, get } = await startApp(t, { gitea: { url: gitea.url, organization: 'org', ...config } })
  const response = await get(`${path}/versions`)
  const files = response.statusCode !== 200
    ? response.statusCode
    : Object.fromEntries(
      response.json<ExtensionVersion[]>().map(({ version, download_url: url }) => [version, url?.split('/').at(-1)])
    )
  const skipped = () =>
    app.catalog.skipped().items.map(({ kind, reason, version, file, chosen }) =>
      [kind, reason, version, file, chosen].filter(text => text !== undefined).join(' ')
    ).sort()
  return { get, files, skipped }
}
const all = [
  'x_1.0.0_linux_arm64.tar.gz',
  'x_1.0.0_darwin_arm64.tar.gz',
  'x_1.0.0_Linux_x86_64.tar.gz',
  'x_1.0.0_windows_amd64.zip',
  'x_1.0.0_linux_armv7.tar.gz'
]

await t.test('with a configured platform the file whose name ends with it is served', async t => {
  const cases: Record<string, string> = {
    'linux/arm64': all[0] ?? '',
    'linux/aarch64': all[0] ?? '',
    'darwin/arm64': all[1] ?? '',
    'linux/amd64': all[2] ?? '',
    'windows/amd64': all[3] ?? '',
    'linux/arm/v7': all[4] ?? ''
  }
  for (const [platform, file] of Object.entries(cases)) {
    const { get, files } = await setUp(t, { '1.0.0': all }, { platform })
    t.strictSame(files, { '1.0.0': file }, platform)
    t.equal((await get(`${path}/1.0.0`)).body, file)
  }
})

await t.test('without a configured platform the first uploaded file is served, and the others are ' +
  'reported', async t => {
  const { files, skipped, get } = await setUp(t, { '1.0.0': all })
  t.strictSame(files, { '1.0.0': all[0] })
  t.strictSame(skipped(), all.slice(1).map(file => `asset other_platform 1.0.0 ${file} ${String(all[0])}`).sort())
  t.equal((await get(`${path}/1.0.0`)).statusCode, 200)
})

await t.test('a release with files of only other platforms is skipped, and a file without a platform is served for ' +
  'each platform', async t => {
  const { files, skipped } = await setUp(t, {
    '1.0.0': ['x_linux_amd64.tar.gz', 'x_linux_amd64.tar.gz.sha256'],
    '2.0.0': ['x-linux-amd64.tar.gz', 'x.tar.gz'],
    '3.0.0': ['x_linux_amd64.tar.gz', 'bundle.zip'],
    '4.0.0': ['notes.txt']
  }, { platform: 'linux/arm64' })
  t.strictSame(files, { '4.0.0': undefined, '3.0.0': 'bundle.zip', '2.0.0': 'x.tar.gz' })
  t.strictSame(skipped(), [
    'asset other_platform 2.0.0 x-linux-amd64.tar.gz x.tar.gz',
    'asset other_platform 3.0.0 x_linux_amd64.tar.gz bundle.zip',
    'release other_platform 1.0.0'
  ])
  t.equal((await setUp(t, { '1.0.0': ['x_linux_amd64.tar.gz'] }, { platform: 'linux/arm64' })).files, 404)
})

await t.test('an archive of the configured platform has priority over one without a platform, as in an ' +
  'index', async t => {
  const releases = {
    '1.0.0': ['x_prov.tar.gz', 'x_linux_arm64.tar.gz'],
    '2.0.0': ['x_prov-2.0.0.zip', 'x_2.0.0_linux_amd64.zip']
  }
  const { files, skipped } = await setUp(t, releases, { platform: 'linux/arm64' })
  t.strictSame(files, { '2.0.0': 'x_prov-2.0.0.zip', '1.0.0': 'x_linux_arm64.tar.gz' })
  t.strictSame(skipped(), [
    'asset not_chosen 1.0.0 x_prov.tar.gz x_linux_arm64.tar.gz',
    'asset other_platform 2.0.0 x_2.0.0_linux_amd64.zip x_prov-2.0.0.zip'
  ])
  t.strictSame(
    (await setUp(t, releases)).files,
    { '2.0.0': 'x_prov-2.0.0.zip', '1.0.0': 'x_prov.tar.gz' },
    'without a platform the name decides'
  )
})

await t.test('without a configured platform the only archive is served, regardless of its platform', async t => {
  const { files, skipped } = await setUp(t, {
    '1.0.0': ['tool-linux-amd64.tgz', 'notes.txt'],
    '2.0.0': ['one.zip', 'two.zip']
  })
  t.strictSame(files, { '2.0.0': undefined, '1.0.0': 'tool-linux-amd64.tgz' })
  t.strictSame(skipped(), ['asset not_chosen 2.0.0 one.zip', 'asset not_chosen 2.0.0 two.zip'])
})

await t.test('files with the name of the extension have priority over files of other programs', t => {
  const assets = ['tool_linux_arm64.tar.gz', 'x_1.0.0_linux_arm64.tar.gz', 'x_linux_arm64.tar.gz.sig'].map((
    name,
    id
  ) => ({ id, name, size: 1, uuid: String(id) }))
  for (const platform of ['linux/arm64', undefined]) {
    const chosen = chooseFile(assets, { repository: 'x_prov', name: 'x', versions: ['1.0.0', 'v1.0.0'], platform })
    matchStrictly(t, chosen, {
      asset: { name: 'x_1.0.0_linux_arm64.tar.gz' },
      passedOver: [{ file: 'tool_linux_arm64.tar.gz', reason: 'not_chosen' }]
    })
  }
  t.end()
})

await t.test('a name that only resembles a platform is not a platform', t => {
  const of = (...names: string[]) =>
    chooseFile(names.map((name, id) => ({ id, name, size: 1, uuid: String(id) })), {
      repository: 'x_prov',
      name: 'x',
      versions: ['1.0.0'],
      platform: 'linux/arm64'
    })
  for (
    const name of ['linux_arm64.tar.gz', 'x_linux_arm64_musl.tar.gz', 'xlinux-arm64.tar.gz', 'x_linuxarm64.tar.gz']
  ) { matchStrictly(t, of(name, 'x_linux_amd64.zip'), { asset: { name } }, name) }
  t.equal(of('x_linux_amd64.tar.gz', 'x_darwin_arm64.tar.gz'), 'other_platform')
  const started = performance.now()
  of(`${'_linux'.repeat(40_000)}.zip`)
  t.ok(performance.now() - started < 1000)
  t.end()
})

await t.test('the choice of a first platform is logged once, and again when it changes', async t => {
  const { createGiteaDriver } = await import('../../../backends/gitea/driver.ts')
  const { createMapping } = await import('../../../backends/driver/mapping.ts')
  const choices: unknown[] = []
  let names = all
  const repository = { id: 1, name: 'x_prov', owner: { login: 'org' }, private: false, release_counter: 1, topics: [] }
  const asset = (name: string, id: number) => ({ id, name, size: 1, uuid: '11111111-1111-4111-8111-111111111111' })
  const api = {
    repository: async (name: string) => name === 'x_prov' ? repository : undefined,
    releases: async () => ({
      found: [{ tag_name: '1.0.0', draft: false, published_at: '2025-01-01T00:00:00Z', assets: names.map(asset) }],
      whole: true
    })
  }
  const driver = createGiteaDriver(api as never, { of: () => ({}), look: async () => ({}) }, {
    name: 'gitea',
    publicUrl: '',
    includePrivate: true,
    concurrency: 1,
    mapping: createMapping({ provider: ['{name}_prov'], taskserv: [], cluster: [] }),
    onFirstPlatform: choice => {
      choices.push(choice)
    }
  })
  for (let round = 0; round < 3; round++) await driver.load('provider', 'x')
  t.strictSame(choices, [{ type: 'provider', name: 'x', file: all[0], platform: 'linux/arm64' }])
  names = all.slice(1)
  await driver.load('provider', 'x')
  t.equal(choices.length, 2)
})
