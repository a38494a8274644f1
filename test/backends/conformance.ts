import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import type { Test } from 'tap'
import type { Driver, Release } from '../../backends/driver/driver.ts'
import { currentRelease } from '../../backends/driver/version.ts'
import { isRegistryError } from '../../lib/errors.ts'
import type { ExtensionType } from '../../schemas/extension.ts'
import { matchStrictly } from '../fakes/match.ts'

export interface Subject {
  driver: Driver
  /** Makes the upstream unavailable; absent where the test cannot do this. */
  stop?: () => Promise<void>
}

/** Content of every upstream of the suite, written by hand; an upstream may hold more. */
const content: Array<
  {
    type: ExtensionType,
    name: string,
    current: string,
    versions: string[],
    file?: string,
    description: string,
    tags?: string[]
  }
> = [
  {
    type: 'provider',
    name: 'aws',
    current: '1.2.0',
    versions: ['2.0.0-rc.1', '1.2.0', '1.1.0', '1.0.0'],
    file: 'aws_prov.tar.gz',
    description: 'AWS provider for provisioning infrastructure',
    tags: ['aws', 'cloud', 'infrastructure']
  },
  {
    type: 'provider',
    name: 'onlyrc',
    current: '0.1.0-alpha.10',
    versions: ['0.1.0-alpha.10', '0.1.0-alpha.9', '0.1.0-alpha.1'],
    file: 'onlyrc_prov.tar.gz',
    description: 'Nothing but pre-releases'
  },
  {
    type: 'taskserv',
    name: 'kubernetes',
    current: '1.28.0',
    versions: ['1.28.0', '1.27.5', '1.27.4'],
    file: 'kubernetes_taskserv.tar.gz',
    description: 'Kubernetes container orchestration platform',
    tags: ['containers']
  },
  {
    type: 'taskserv',
    name: 'k3s',
    current: '1.27.5+k3s1',
    versions: ['1.27.5+k3s1'],
    file: 'k3s_taskserv.tar.gz',
    description: 'Lightweight Kubernetes distribution'
  },
  {
    type: 'cluster',
    name: 'web',
    current: '0.9.0',
    versions: ['0.9.0'],
    description: 'Web tier: load balancer, app servers, database'
  }
]

/** Returns a release with its checksum, which is looked up where the driver postponed it. */
async function looked (driver: Driver, release: Release | undefined): Promise<Release | undefined> {
  const { checksumLocator, ...file } = release?.file ?? {}
  if (release?.file === undefined || checksumLocator === undefined) return release
  return { ...release, file: { ...file, ...await driver.checksum?.(release.file) } as Release['file'] & object }
}

/** Tests the behaviour that the driver of each backend must have; `open` returns a driver and its upstream. */
export async function conformance (t: Test, open: (t: Test) => Promise<Subject>): Promise<void> {
  const { driver, stop } = await open(t)
  const signal = () => AbortSignal.timeout(30_000)

  await t.test('a ping succeeds', async t => { await t.resolves(driver.ping(signal())) })

  await t.test('a list has every extension once, at its current version', async t => {
    const { found, failed } = await driver.list()
    t.strictSame(failed, [])
    for (const { type, name, current, file, description, tags } of content) {
      const those = found.filter(({ metadata }) => metadata.type === type && metadata.name === name)
      t.equal(those.length, 1, `${type}/${name}`)
      matchStrictly(t, those[0]?.metadata, { type, name, description, author: 'Provisioning team' })
      t.strictSame(those[0]?.metadata.tags, tags)
      matchStrictly(t, those[0]?.release, { version: current, published_at: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/ })
      t.equal(those[0]?.release.file?.name, file)
    }
  })

  await t.test('a load returns all versions, highest first, and its current version equals that of the ' +
    'list', async t => {
    const { found } = await driver.list()
    for (const { type, name, versions } of content) {
      const loaded = await driver.load(type, name)
      t.strictSame(loaded?.releases.map(({ version }) => version), versions, `${type}/${name}`)
      const listed = found.find(({ metadata }) => metadata.type === type && metadata.name === name)
      t.strictSame(loaded?.metadata, listed?.metadata)
      t.strictSame(await looked(driver, currentRelease(loaded?.releases ?? [])), listed?.release)
      t.equal(listed?.release.file?.checksumLocator, undefined, 'a listed release already has its checksum')
    }
  })

  await t.test('absent extensions are undefined, also under another type or spelling', async t => {
    const absent: Array<[ExtensionType, string]> = [['provider', 'nowhere'], ['cluster', 'aws'], ['provider', 'AWS'], [
      'taskserv',
      'kubernetes_taskserv'
    ]]
    for (const [type, name] of absent) t.equal(await driver.load(type, name), undefined, `${type}/${name}`)
  })

  await t.test('an opened file has the published size and checksum', async t => {
    for (const { type, name, current, file } of content) {
      if (file === undefined) continue
      const release = await looked(
        driver,
        (await driver.load(type, name))?.releases.find(({ version }) => version === current)
      )
      if (release?.file === undefined) return t.fail(`${type}/${name} has no file`)
      const artifact = await driver.open(release.file, { signal: signal() })
      const bytes = await buffer(artifact?.stream ?? Readable.from([]))
      t.equal(bytes.length, release.file.size, `${type}/${name}`)
      t.equal(artifact?.length, release.file.size)
      if (release.file.checksum !== undefined) {
        t.equal(`sha256:${createHash('sha256').update(bytes).digest('hex')}`, release.file.checksum)
      }
    }
  })

  await t.test('the validator of a file is constant, and different files have different validators', async t => {
    const [first, second] = [await driver.load('provider', 'aws'), await driver.load('provider', 'aws')]
    const validators = first?.releases.map(({ file }) => file?.validator)
    t.strictSame(validators, second?.releases.map(({ file }) => file?.validator))
    t.equal(new Set(validators).size, 4)
  })

  await t.test('an aborted transfer ends', async t => {
    const file = (await driver.load('taskserv', 'kubernetes'))?.releases[0]?.file
    if (file === undefined) return t.fail('no file')
    const hangUp = new AbortController()
    const artifact = await driver.open(file, { signal: hangUp.signal })
    hangUp.abort()
    await t.rejects(buffer(artifact?.stream ?? Readable.from([])))
  })

  if (stop === undefined) return
  await t.test('an unavailable upstream fails with a registry error that has its name and the cause', async t => {
    await stop()
    const operations = [
      driver.list(),
      driver.load('provider', 'aws'),
      driver.load('provider', 'nowhere'),
      driver.ping(signal())
    ]
    for (const outcome of await Promise.allSettled<unknown>(operations)) {
      const error: unknown = outcome.status === 'rejected' ? outcome.reason : undefined
      if (!isRegistryError(error)) return t.fail('not a registry error', { outcome })
      matchStrictly(t, error, { code: 'service_unavailable', instance: driver.name, cause: Error })
      t.notMatch(error.message + (error.details ?? ''), /127\.0\.0\.1|\/tmp|token/)
    }
  })
}
