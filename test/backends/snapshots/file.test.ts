import { chmod, mkdir, readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createSnapshotFiles } from '../../../backends/snapshots/file.ts'
import type { SnapshotRecord } from '../../../schemas/snapshot.ts'

const extension = {
  name: 'aws',
  type: 'provider',
  version: '1.2.0',
  description: 'AWS\n"provider"',
  source: 'gitea',
  published_at: '2025-01-01T00:00:00Z',
  tags: ['cloud']
} as const
const records: SnapshotRecord[] = [
  { kind: 'listing', type: 'provider', at: 1000, missing: false, unread: [], proof: { at: 1000, names: ['aws'] } },
  { kind: 'extensions', extensions: [{ ...extension, tags: ['cloud'] }] },
  {
    kind: 'versions',
    at: 2000,
    extension: { ...extension, tags: ['cloud'] },
    releases: [{
      version: '1.2.0',
      published_at: '2025-01-01T00:00:00Z',
      file: { name: 'aws.tar.gz', size: 5, validator: 'sha256:0', locator: 'x' }
    }]
  }
]

async function setUp (t: Test) {
  const directory = join(t.testdir({}), 'below', 'catalog')
  const snapshots = createSnapshotFiles(directory)
  await snapshots.write('gitea', 'identity', records)
  return { directory, file: join(directory, 'gitea.ndjson'), snapshots }
}

await t.test('a snapshot is read only for the same instance and configuration', async t => {
  const { snapshots, directory, file } = await setUp(t)
  t.strictSame(await snapshots.read('gitea', 'identity'), records)
  t.equal(await snapshots.read('oci', 'identity'), undefined)
  await t.rejects(snapshots.read('gitea', 'another'), { message: 'The snapshot is of another configuration' })
  await snapshots.write('gitea', 'another', records.slice(0, 1))
  t.strictSame(await snapshots.read('gitea', 'another'), records.slice(0, 1))
  t.strictSame(await readdir(directory), ['gitea.ndjson'], 'no other file remains')
  t.equal((await stat(file)).mode & 0o777, 0o600, 'other users cannot read it')
  t.equal((await stat(directory)).mode & 0o777, 0o700)
})

await t.test('a snapshot that is damaged or truncated at any byte is not used', async t => {
  const { snapshots, file } = await setUp(t)
  const whole = await readFile(file)
  for (let at = 0; at < whole.length; at += 7) {
    const flipped = Buffer.from(whole)
    flipped[at] = (flipped[at] ?? 0) ^ 1
    await writeFile(file, flipped)
    await t.rejects(snapshots.read('gitea', 'identity'), { name: 'SnapshotError' }, `flipped at ${at}`)
    await writeFile(file, whole.subarray(0, at))
    await t.rejects(snapshots.read('gitea', 'identity'), { name: 'SnapshotError' }, `truncated at ${at}`)
  }
  await writeFile(file, whole)
  t.strictSame(await snapshots.read('gitea', 'identity'), records)
})

await t.test('a snapshot with a valid checksum and another format is not used', async t => {
  const { snapshots, directory } = await setUp(t)
  const strange = [
    { kind: 'extensions', extensions: [{ ...extension, name: '../x' }] },
    { kind: 'versions', at: 'x' },
    { kind: 'other' },
    { kind: 'listing', type: 'plugin', at: 1, missing: false, unread: [] },
    7
  ]
  for (const record of strange) {
    await snapshots.write('strange', 'identity', [record as unknown as SnapshotRecord])
    await t.rejects(
      snapshots.read('strange', 'identity'),
      { message: 'The snapshot has another format' },
      JSON.stringify(record)
    )
  }
  t.strictSame((await readdir(directory)).sort(), ['gitea.ndjson', 'strange.ndjson'])
})

await t.test('a failed write leaves only the last snapshot', async t => {
  const { snapshots, directory } = await setUp(t)
  function * broken (): Generator<SnapshotRecord> {
    yield * records
    throw new Error('in the middle')
  }
  await t.rejects(snapshots.write('gitea', 'identity', broken()), { message: 'in the middle' })
  t.strictSame(await snapshots.read('gitea', 'identity'), records)
  t.strictSame(await readdir(directory), ['gitea.ndjson'])
})

await t.test('a file of a process that ended during its write is removed, and a recent file of another process ' +
  'stays', async t => {
  const { snapshots, directory } = await setUp(t)
  for (const name of ['gitea.1.tmp', 'gitea.2.tmp', 'oci.1.tmp']) await writeFile(join(directory, name), 'half')
  const past = new Date(Date.now() - 3_600_000)
  await utimes(join(directory, 'gitea.1.tmp'), past, past)
  await snapshots.write('gitea', 'identity', records)
  t.strictSame((await readdir(directory)).sort(), ['gitea.2.tmp', 'gitea.ndjson', 'oci.1.tmp'])
})

await t.test('a failed read or write is reported', async t => {
  const { snapshots, directory } = await setUp(t)
  await mkdir(join(directory, 'oci.ndjson'))
  await t.rejects(snapshots.read('oci', 'identity'), { code: 'EISDIR' })
  await t.rejects(createSnapshotFiles(join(directory, 'gitea.ndjson', 'x')).write('gitea', 'identity', records), {
    code: 'ENOTDIR'
  })
  await chmod(directory, 0o700)
})

await t.test('concurrent writers of one file damage neither the file nor the other writes', async t => {
  const { directory } = await setUp(t)
  await Promise.all(Array.from({ length: 30 }, async () => {
    await createSnapshotFiles(directory).write('gitea', 'identity', records)
  }))
  t.strictSame(await createSnapshotFiles(directory).read('gitea', 'identity'), records)
  t.strictSame(await readdir(directory), ['gitea.ndjson'])
})
