import { rm, writeFile } from 'node:fs/promises'
import t from 'tap'
import { createStoreHealth, createStorePaths } from '../../../plugins/downloads/store/directory.ts'
import { createPins, createRereleases, type RereleasesOptions } from '../../../plugins/downloads/rereleases.ts'
import { createLog } from '../../fakes/log.ts'
import { matchStrictly } from '../../fakes/match.ts'

const digest = (digit: string) => `sha256:${digit.repeat(64)}`
const subject = { instance: 'gitea', type: 'provider', name: 'aws', version: '1.0.0' }
const first = { name: 'aws.tar.gz', size: 5, validator: 'one' }
const second = { ...first, validator: 'two' }
const known = async (releases: ReturnType<typeof createRereleases>, file = first) =>
  (await releases.look(subject, file)).digest

function setUp (directory: string | undefined, options: Partial<RereleasesOptions> = {}) {
  const { log, lines } = createLog()
  const names = directory === undefined ? undefined : createStorePaths(directory)
  const health = createStoreHealth({ enabled: true, log, clock: () => 0 })
  const found: string[] = []
  const releases = createRereleases({
    pins: createPins({ names, health }),
    onRerelease: 'serve',
    identities: new Map([['gitea', 'gitea at home']]),
    log,
    onFound: instance => {
      found.push(instance)
    },
    ...options
  })
  return { names, releases, found, lines }
}

await t.test('a file is pinned when it is first complete, and remains pinned after a restart', async t => {
  for (const directory of [t.testdir(), undefined]) {
    const { releases, found } = setUp(directory)
    t.strictSame(await releases.look(subject, first), { doubtful: false })
    await releases.settle(subject, first, digest('a'), 5)
    t.equal(await known(releases), digest('a'))
    t.equal(await known(releases, second), undefined, 'the pin does not identify another file')
    if (directory !== undefined) t.equal(await known(setUp(directory).releases), digest('a'))
    await releases.settle(subject, second, digest('a'), 5)
    t.equal(await known(releases, second), digest('a'), 'the same content under a new upload is the same file')
    t.strictSame(found, [])
  }
})

await t.test('a rerelease with on_rerelease = serve is served, logged once, and pinned', async t => {
  const { releases, found, lines } = setUp(t.testdir())
  await releases.settle(subject, first, digest('a'), 5)
  await releases.settle(subject, second, digest('b'), 5)
  await releases.settle(subject, second, digest('b'), 5)
  t.strictSame(found, ['gitea'])
  t.equal(lines.filter(line => line.includes('published again')).length, 1)
  t.equal(await known(releases, second), digest('b'))
})

await t.test('a rerelease with on_rerelease = refuse is refused and logged once, later without a transfer', async t => {
  const directory = t.testdir()
  const { releases, found } = setUp(directory, { onRerelease: 'refuse' })
  await releases.settle(subject, first, digest('a'), 5)
  matchStrictly(t, await releases.look(subject, second), { doubtful: true })
  const conflict = {
    code: 'conflict',
    statusCode: 409,
    message: 'Extension provider/aws version 1.0.0 was published again with different content'
  }
  await t.rejects(releases.settle(subject, second, digest('b'), 5), conflict)
  await t.rejects(releases.look(subject, second), conflict)
  await t.rejects(
    setUp(directory, { onRerelease: 'refuse' }).releases.look(subject, second),
    conflict,
    'after a restart'
  )
  t.strictSame(found, ['gitea'])
  t.equal(await known(releases), digest('a'), 'the first file remains valid')
  await setUp(directory).releases.look(subject, second)
})

await t.test('a refused file is accepted after its pin is removed, even while the registry runs', async t => {
  const { releases, names } = setUp(t.testdir(), { onRerelease: 'refuse' })
  await releases.settle(subject, first, digest('a'), 5)
  await t.rejects(releases.settle(subject, second, digest('b'), 5), { code: 'conflict' })
  await t.rejects(releases.look(subject, second), { code: 'conflict' })
  await rm(names?.pin(JSON.stringify(['gitea at home', 'provider', 'aws', '1.0.0'])) ?? '')
  t.strictSame(await releases.look(subject, second), { doubtful: false })
  await releases.settle(subject, second, digest('b'), 5)
  t.equal(await known(releases, second), digest('b'))
})

await t.test('a checksum that is published later is compared with the pin at once', async t => {
  const { releases, found } = setUp(t.testdir(), { onRerelease: 'refuse' })
  await releases.settle(subject, first, digest('a'), 5)
  t.equal(await known(releases, { ...first, checksum: digest('a') } as typeof first), digest('a'))
  await t.rejects(releases.look(subject, { ...second, checksum: digest('b') } as typeof first), { code: 'conflict' })
  await releases.look(subject, { ...second, validator: 'three', checksum: `sha512:${'c'.repeat(128)}` } as typeof first)
  t.strictSame(found, ['gitea'], 'digests of different algorithms are not compared')
})

await t.test('a file with a checksum is not pinned, and a pin of one instance does not apply to another', async t => {
  const directory = t.testdir()
  const { releases, names } = setUp(directory)
  const observed = { ...first, checksum: digest('a') } as typeof first
  await releases.settle(subject, observed, digest('a'), 5)
  t.equal(await known(releases), undefined)
  await releases.settle(subject, first, digest('a'), 5)
  t.equal(await known(setUp(directory, { identities: new Map([['gitea', 'gitea elsewhere']]) }).releases), undefined)
  const path = names?.pin(JSON.stringify(['gitea at home', 'provider', 'aws', '1.0.0'])) ?? ''
  for (const damage of ['', '{', '{"digest":"sha256:0","size":1,"validator":"x"}', '[]']) {
    await writeFile(path, damage)
    t.equal(await known(setUp(directory).releases), undefined, `damaged: ${damage}`)
  }
})
