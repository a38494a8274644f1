import t, { type Test } from 'tap'
import type { Extension, ExtensionVersion } from '../../../schemas/extension.ts'
import { startApp } from '../../fakes/app.ts'
import { createGiteaFake, type GiteaContent } from '../../fakes/gitea.ts'
import { sha256 } from '../../fakes/gitea/provisioning.ts'
import { fillGitea } from '../../real/gitea-content.ts'
import { matchStrictly } from '../../fakes/match.ts'

const file = 'shapes_prov.tar.gz'
const other = 'b'.repeat(64)

/** Checksum files in the forms of publishers: name, and content for a digest. */
const shapes: Array<[name: string, content: (digest: string) => string | Buffer, fits?: false]> = [
  ['SHA256SUMS.txt', digest => `${digest}  dist/${file}\n`],
  ['sha256sums.txt', digest => `${digest} */home/runner/${file}\n`],
  ['checksums.txt', digest => `${digest}  dist\\${file}\r\n`],
  ['SHA256SUMS', digest => `SHA256 (${file}) = ${digest}\n`],
  [`${file}.sha256`, digest => `sha256:${digest}\n`],
  [`${file}.sha256`, digest => `\ufeff${digest}  ${file}\r\n`],
  [`${file}.sha256`, digest => `${digest}  -\n`],
  [`${file}.sha256`, digest => Buffer.from(`\ufeff${digest}  ${file}\r\n`, 'utf16le')],
  ['shapes_1.8.0_checksums.txt', digest => `${digest}  ${file}\n`],
  ['shapes_prov_1.9.0_checksums.txt', digest => `${digest}  ${file}\n`],
  [`${file}.sha256sum`, digest => `${digest}  ${file}\n`],
  ['SHA256SUMS', digest => `${digest}  a/${file}\n${other}  b/${file}\n`, false]
]
const platforms = ['plat_1.0.0_linux_arm64.tar.gz', 'plat_1.0.0_Linux_x86_64.tar.gz', 'plat_1.0.0_darwin_arm64.tar.gz']

const content = (login: string): GiteaContent => ({
  owner: { login, full_name: 'Shapes' },
  repositories: [
    {
      name: 'shapes_prov',
      releases: shapes.map(([name, write], minor) => ({
        tag: `1.${minor}.0`,
        assets: [{ name: file, content: `archive ${minor}` }, { name, content: write(sha256(`archive ${minor}`)) }]
      }))
    },
    { name: 'flag_prov', releases: [{ tag: 'v1.0.0' }, { tag: 'v2.0.0', prerelease: true }] },
    {
      name: 'notes_prov',
      releases: Array.from({ length: 50 }, (_, minor) => ({ tag: `1.${minor}.0`, notes: 'n'.repeat(345_000) }))
    },
    { name: 'plat_prov', releases: [{ tag: '1.0.0', assets: platforms.map(name => ({ name, content: name })) }] }
  ]
})

async function check (t: Test, url: string, organization: string): Promise<void> {
  const gitea = { url, organization, timeout_seconds: 60 }
  const { get } = await startApp(t, { gitea, server: { request_budget_seconds: 120 } })
  const versions = async (name: string) =>
    (await get(`/api/v1/extensions/provider/${name}/versions`)).json<ExtensionVersion[]>()

  await t.test('each form of a checksum file is read, and an ambiguous one is rejected', async t => {
    const expected = shapes.map((
      [, , fits],
      minor
    ) => [`1.${minor}.0`, fits === false ? undefined : `sha256:${sha256(`archive ${minor}`)}`]).reverse()
    t.strictSame((await versions('shapes')).map(({ version, checksum }) => [version, checksum]), expected)
    t.equal((await get('/api/v1/extensions/provider/shapes/1.0.0')).body, 'archive 0')
  })

  await t.test('the current version equals the latest release of the server', async t => {
    t.equal((await get('/api/v1/extensions/provider/flag')).json<Extension>().version, '1.0.0')
    const latest = await fetch(`${url}/api/v1/repos/${organization}/flag_prov/releases/latest`)
    matchStrictly(t, await latest.json(), { tag_name: 'v1.0.0' })
  })

  await t.test('releases with large notes are read completely, in smaller pages', async t => {
    t.equal((await versions('notes')).length, 50)
    t.equal((await get('/api/v1/extensions')).headers['x-partial'], undefined)
  })

  await t.test('the file of the configured platform is served', async t => {
    for (
      const [platform, name] of [['linux/arm64', platforms[0]], ['linux/amd64', platforms[1]], [
        'macos/aarch64',
        platforms[2]
      ]]
    ) {
      const one = await startApp(t, { gitea: { ...gitea, platform } })
      t.equal((await one.get('/api/v1/extensions/provider/plat/1.0.0')).body, name)
    }
  })
}

await t.test('releases as publishers create them, on a fake', async t => {
  const gitea = await createGiteaFake(content('shapes'))
  t.teardown(gitea.close)
  await check(t, gitea.url, 'shapes')
})

const { TEST_GITEA_URL: url, TEST_GITEA_TOKEN: token } = process.env
await t.test('releases as publishers create them, on a real Gitea', {
  skip: url === undefined || token === undefined
    ? "set TEST_GITEA_URL and TEST_GITEA_TOKEN (an administrator's) to run it"
    : false
}, async t => {
  const organization = `shapes-${process.pid}-${Date.now()}`
  await fillGitea(url ?? '', token ?? '', organization, content(organization))
  await check(t, url ?? '', organization)
})
