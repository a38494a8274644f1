import { mkdir, readdir, readFile, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { createBlobs, type BlobsOptions } from '../../../../plugins/downloads/store/blobs.ts'
import { createStoreHealth, createStorePaths } from '../../../../plugins/downloads/store/directory.ts'
import { createClock } from '../../../fakes/clock.ts'
import { createLog } from '../../../fakes/log.ts'
import { matchStrictly } from '../../../fakes/match.ts'
import { digestOf, fileOf } from '../../../fakes/storage.ts'

async function setUp (
  t: Test,
  { directory = t.testdir(), ...options }: { directory?: string } & Partial<BlobsOptions> = {}
) {
  const clock = createClock()
  const { log, lines } = createLog()
  const names = createStorePaths(directory)
  const health = createStoreHealth({ enabled: true, log, clock: clock.now })
  const blobs = createBlobs({ names, health, maxBytes: 1000, clock: clock.now, ...options })
  t.teardown(blobs.close)
  await blobs.ready
  const put = async (content: Buffer, digest = digestOf(content)) => {
    const partial = await blobs.create(content.length)
    if (partial === undefined) return false
    partial.grow(content.length)
    await partial.handle.write(content)
    const kept = await partial.commit(digest)
    await partial.close()
    return kept
  }
  const read = async (content: Buffer) => {
    const stored = await blobs.open(digestOf(content))
    if (stored === undefined) return undefined
    const { buffer } = await stored.handle.read(Buffer.alloc(stored.size), 0, stored.size, 0)
    stored.release()
    return buffer
  }
  return { directory, clock, names, health, blobs, put, read, lines }
}
const [a, b, c] = [fileOf(400, 'a'), fileOf(400, 'b'), fileOf(400, 'c')] as const
/** Waits until a file no longer exists. */
const gone = async (path: string) => { while (await stat(path).then(() => true, () => false)); }

await t.test('a stored file is found, even after a restart', async t => {
  const { directory, put, read, blobs, names } = await setUp(t)
  t.ok(await put(a))
  t.ok((await read(a))?.equals(a))
  t.equal(await read(b), undefined)
  matchStrictly(t, blobs.statistics(), { entries: 1, bytes: 400, hits: 1, misses: 1 })
  await blobs.close()
  const next = await setUp(t, { directory })
  matchStrictly(t, next.blobs.statistics(), { entries: 1, bytes: 400 })
  t.ok((await next.read(a))?.equals(a))
  t.equal((await stat(names.blob(digestOf(a)))).mode & 0o777, 0o600, 'only its user may read the file')
})

await t.test('the least recently used file is evicted first, and an open file remains', async t => {
  const { put, read, blobs, names } = await setUp(t)
  await put(a)
  await put(b)
  await read(a)
  await put(c)
  t.equal(await read(b), undefined)
  t.ok(await read(a))
  await gone(names.blob(digestOf(b)))
  matchStrictly(t, blobs.statistics(), { entries: 2, bytes: 800, evictions: 1 })
  const [held, other] = [await blobs.open(digestOf(a)), await blobs.open(digestOf(c))]
  t.notOk(await put(b), 'open files leave no room')
  held?.release()
  t.ok(await put(b))
  t.equal(await read(a), undefined)
  t.ok(await read(c))
  other?.release()
  t.notOk(await put(fileOf(1001)), 'a file larger than the store is not stored')
  t.equal(blobs.statistics().entries, 2, 'and evicts nothing')
})

await t.test('a counted file is on disk, even if it is opened while it would be evicted', async t => {
  const { directory, put, blobs } = await setUp(t)
  await put(a)
  await put(b)
  const [opened] = await Promise.all([blobs.open(digestOf(a)), put(c)])
  t.ok(opened, 'a file that is being opened remains, like an open file')
  opened?.release()
  const files = await readdir(join(directory, 'blobs'), { recursive: true, withFileTypes: true })
  t.strictSame(
    files.filter(file => file.isFile()).map(({ name }) => name).sort(),
    [a, c].map(content => digestOf(content).slice(7)).sort()
  )
  matchStrictly(t, blobs.statistics(), { entries: 2, bytes: 800 })
})

await t.test('a file that is opened during its eviction is not found, and can be stored again', async t => {
  const { put, read, blobs, names } = await setUp(t)
  await put(a)
  await put(b)
  const partial = await blobs.create(400)
  partial?.reserve(400)
  const stored = await blobs.open(digestOf(a))
  t.equal(stored, undefined)
  matchStrictly(t, blobs.statistics(), { entries: 1, bytes: 400, reserved: 400 })
  await partial?.close()
  t.ok(await put(a))
  t.ok((await stat(names.blob(digestOf(a)))).isFile())
  t.ok((await read(a))?.equals(a))
})

await t.test('the order of use is kept after a restart', async t => {
  const { directory, put, blobs, names } = await setUp(t)
  await put(a)
  await put(b)
  await blobs.close()
  await utimes(names.blob(digestOf(a)), new Date(), new Date())
  await utimes(names.blob(digestOf(b)), 1, 1)
  const next = await setUp(t, { directory })
  await next.put(c)
  t.ok(await next.read(a))
  t.equal(await next.read(b), undefined)
})

await t.test('partial files count, including those of unknown size', async t => {
  const { put, blobs } = await setUp(t)
  await put(a)
  const partial = await blobs.create()
  t.ok(partial?.grow(600))
  t.ok(partial?.grow(400), 'a is evicted')
  t.notOk(partial?.grow(1))
  matchStrictly(t, blobs.statistics(), { entries: 0, bytes: 0, reserved: 1000 })
  await partial?.close()
  t.equal(blobs.statistics().reserved, 0)
})

await t.test('a damaged or missing file is removed at its first use, and counted', async t => {
  const damages: Array<[string, (path: string) => Promise<void>]> = [
    ['another content', async path => { await writeFile(path, fileOf(400, 'wrong')) }],
    ['a shorter file', async path => { await truncate(path, 10) }],
    ['gone', async path => { await rm(path) }]
  ]
  for (const [name, damage] of damages) {
    const directory = join(t.testdir(), 'store')
    const { put, names, blobs } = await setUp(t, { directory })
    await put(a)
    const path = names.blob(digestOf(a))
    await blobs.close()
    const next = await setUp(t, { directory })
    await damage(path)
    t.equal(await next.read(a), undefined, name)
    await gone(path)
    matchStrictly(t, next.blobs.statistics(), { entries: 0, bytes: 0, damaged: name === 'gone' ? 0 : 1 })
    t.ok(await next.put(a))
    t.ok((await next.read(a))?.equals(a), `${name}: stored again`)
  }
})

await t.test('a file is removed when it cannot be flushed to disk', async t => {
  const { blobs, read, names, lines } = await setUp(t)
  const partial = await blobs.create(400)
  if (partial === undefined) throw new Error('no file')
  partial.grow(400)
  await partial.handle.write(a)
  const failed = Promise.withResolvers<undefined>()
  partial.handle.datasync = async () => await failed.promise
  t.ok(await partial.commit(digestOf(a)))
  t.ok((await read(a))?.equals(a), 'the file is used before it is flushed')
  failed.reject(Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' }))
  await partial.close()
  await gone(names.blob(digestOf(a)))
  matchStrictly(t, blobs.statistics(), { entries: 0, bytes: 0 })
  t.match(lines.at(-1), 'EIO')
})

await t.test('two processes may share one directory', async t => {
  const one = await setUp(t)
  const other = await setUp(t, { directory: one.directory })
  const partial = await one.blobs.create(400)
  await one.put(b)
  t.ok((await other.read(b))?.equals(b), 'a file of one process is found by the other')
  const third = await setUp(t, { directory: one.directory })
  await partial?.handle.write(a)
  t.ok(await partial?.commit(digestOf(a)), 'a start removes nothing of running processes')
  await partial?.close()
  await Promise.all([one.put(c), third.put(c)])
  t.ok((await third.read(c))?.equals(c), 'both processes may store the same file')
  await rm(one.names.blob(digestOf(a)))
  t.equal(await one.read(a), undefined, 'a file that another process evicted is not found')
  t.ok(await one.put(a))
})

await t.test('partial files of ended processes are removed at the start', async t => {
  const directory = t.testdir()
  const { names } = await setUp(t, { directory })
  const own = names.own.split('/').at(-1) ?? ''
  const [space = '', pid = ''] = own.split('-')
  const old = new Date(Date.now() - 3 * 60 * 60 * 1000)
  const cases: Record<string, { stays: boolean, old?: boolean }> = {
    [`${space}-999999999-1-aa`]: { stays: false },
    [`${space}-${pid}-1-bb`]: { stays: false },
    [`${space}-${process.ppid}-1-cc`]: { stays: false },
    'elsewhere0-1-1-dd': { stays: true },
    'elsewhere0-1-1-ee': { stays: false, old: true },
    [own]: { stays: true },
    nonsense: { stays: true }
  }
  for (const [name, { old: isOld = false }] of Object.entries(cases)) {
    const file = join(directory, 'tmp', name, 'half')
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, 'half')
    if (isOld) for (const path of [file, dirname(file)]) await utimes(path, old, old)
  }
  await setUp(t, { directory })
  t.strictSame(
    (await readdir(join(directory, 'tmp'))).sort(),
    Object.entries(cases).flatMap(([name, { stays }]) => stays ? [name] : []).sort()
  )
})

await t.test('a directory that cannot be written is logged once, not used for a while, and then used ' +
  'again', async t => {
  const file = join(t.testdir({ file: '' }), 'file')
  const { put, clock, lines, health } = await setUp(t, { directory: join(file, 'store') })
  t.notOk(await put(a))
  t.notOk(health.usable)
  t.notOk(await put(a))
  clock.forward(61)
  t.notOk(await put(a))
  t.equal(lines.filter(line => line.includes('"level":40')).length, 1)
  clock.forward(61)
  await rm(file)
  t.ok(await put(a))
  t.match(lines.at(-1), 'the store can write to its directory again')
  t.ok(
    (await readFile(join(file, 'store', 'blobs', 'sha256', digestOf(a).slice(7, 9), digestOf(a).slice(7)))).equals(a)
  )
})
