import t, { type Test } from 'tap'
import type { Extension, ExtensionVersion } from '../../../schemas/extension.ts'
import { startApp } from '../../fakes/app.ts'
import { createGiteaFake, type ReleaseContent } from '../../fakes/gitea.ts'
import { matchStrictly } from '../../fakes/match.ts'

const path = '/api/v1/extensions/provider/x'

async function setUp (t: Test, releases: ReleaseContent[], config: object = {}) {
  const gitea = await createGiteaFake({ owner: { login: 'org' }, repositories: [{ name: 'x_prov', releases }] })
  t.teardown(gitea.close)
  const started = await startApp(t, { gitea: { url: gitea.url, organization: 'org', ...config } })
  const { get } = started
  /** Returns the current version of each route. */
  const current = async () => {
    const [listed] = (await get('/api/v1/extensions')).json<Extension[]>()
    const [found] = (await get('/api/v1/extensions/search?q=x')).json<Extension[]>()
    const latest = (await get(`${path}/latest`)).headers.location
    return [
      listed?.version,
      found?.version,
      (await get(path)).json<Extension>().version,
      String(latest).split('/').at(-1)
    ]
  }
  return { gitea, ...started, current }
}
const four = (version: string) => [version, version, version, version]

await t.test('a release that is marked as a pre-release does not become the current version while another release ' +
  'exists', async t => {
  const { get, current } = await setUp(t, [{ tag: 'v1.0.0' }, { tag: 'v2.0.0', prerelease: true }, { tag: '0.9.0' }])
  t.strictSame(await current(), four('1.0.0'))
  t.strictSame((await get(`${path}/versions`)).json<ExtensionVersion[]>().map(({ version }) => version), [
    '2.0.0',
    '1.0.0',
    '0.9.0'
  ], 'versions are ordered by semver')
  t.strictSame(await current(), four('1.0.0'), 'the same after the versions were read')
})

await t.test('both kinds of pre-releases are treated alike', async t => {
  const cases: Array<[ReleaseContent[], string]> = [
    [[{ tag: '1.0.0', prerelease: true }, { tag: '2.0.0-rc.1' }], '2.0.0-rc.1'],
    [[{ tag: '2.0.0', prerelease: true }, { tag: '2.0.0-rc.1', prerelease: true }], '2.0.0'],
    [[{ tag: '3.0.0-rc.1', prerelease: true }, { tag: '2.0.0', prerelease: true }, { tag: '1.0.0-rc.1' }, {
      tag: '0.1.0'
    }], '0.1.0'],
    [[{ tag: '1.0.0', prerelease: true }], '1.0.0']
  ]
  for (const [releases, version] of cases) t.strictSame(await (await setUp(t, releases)).current(), four(version))
})

await t.test('a removed mark takes effect when the repository is read again', async t => {
  const { gitea, clock, current } = await setUp(t, [{ tag: '1.0.0' }, { tag: '2.0.0', prerelease: true }], {
    reconcile_seconds: 0
  })
  t.strictSame(await current(), four('1.0.0'))
  const [, second] = gitea.repository('x_prov').releases
  if (second !== undefined) second.prerelease = false
  clock.forward(301)
  t.strictSame(await current(), four('2.0.0'))
})

await t.test('a mark that is not a boolean does not affect the release', async t => {
  const { gitea, clock, current } = await setUp(t, [{ tag: '1.0.0' }, { tag: '2.0.0' }], { reconcile_seconds: 0 })
  await current()
  for (const prerelease of ['true', null, 1]) {
    for (const release of gitea.repository('x_prov').releases) Object.assign(release, { prerelease })
    clock.forward(301)
    t.strictSame(await current(), four('2.0.0'), String(prerelease))
  }
})

await t.test('after a restart without an upstream a marked release is still not the current version', async t => {
  const gitea = await createGiteaFake({
    owner: { login: 'org' },
    repositories: [{ name: 'x_prov', releases: [{ tag: '1.0.0' }, { tag: '2.0.0', prerelease: true }] }]
  })
  t.teardown(gitea.close)
  const config = {
    cache: { directory: t.testdir({}) },
    gitea: { url: gitea.url, organization: 'org', timeout_seconds: 1 }
  }
  const former = await startApp(t, config)
  await former.get('/api/v1/extensions')
  await former.get(`${path}/versions`)
  await former.app.close()
  await gitea.stop()
  const { get } = await startApp(t, config)
  matchStrictly(t, (await get(path)).json(), { version: '1.0.0' })
  t.strictSame((await get(`${path}/versions`)).json<ExtensionVersion[]>().map(({ version }) => version), [
    '2.0.0',
    '1.0.0'
  ])
})
