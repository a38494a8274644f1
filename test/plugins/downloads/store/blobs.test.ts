import { mkdir, readdir, readFile, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { createBlobs, type BlobsOptions } from '../../../../plugins/downloads/store/blobs.ts'
import { createStoreHealth } from '../../../../plugins/downloads/store/health.ts'
import { createStorePaths } from '../../../../plugins/downloads/store/paths.ts'
import { createClock } from '../../../fakes/clock.ts'
import { createLog } from '../../../fakes/log.ts'
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
/** Waits until something is no longer on disk. */
const gone = async (path: string) => { while (await stat(path).then(() => true, () => false)); }

await t.test('what was kept is there, also after a restart', async t => {
  const { directory, put, read, blobs, names } = await setUp(t)
  t.ok(await put(a))
  t.ok((await read(a))?.equals(a))
  t.equal(await read(b), undefined)
  t.match(blobs.statistics(), { entries: 1, bytes: 400, hits: 1, misses: 1 })
  await blobs.close()
  const next = await setUp(t, { directory })
  t.match(next.blobs.statistics(), { entries: 1, bytes: 400 })
  t.ok((await next.read(a))?.equals(a))
  t.equal((await stat(names.blob(digestOf(a)))).mode & 0o777, 0o600, 'for its own user alone')
})

await t.test('what was used longest ago goes first, and what is being read stays', async t => {
  const { put, read, blobs, names } = await setUp(t)
  await put(a)
  await put(b)
  await read(a)
  await put(c)
  t.equal(await read(b), undefined)
  t.ok(await read(a))
  await gone(names.blob(digestOf(b)))
  t.match(blobs.statistics(), { entries: 2, bytes: 800, evictions: 1 })
  const [held, other] = [await blobs.open(digestOf(a)), await blobs.open(digestOf(c))]
  t.notOk(await put(b), 'there is no room beside what is read')
  held?.release()
  t.ok(await put(b))
  t.equal(await read(a), undefined)
  t.ok(await read(c))
  other?.release()
  t.notOk(await put(fileOf(1001)), 'nor for what is larger than all of it')
  t.equal(blobs.statistics().entries, 2, 'for which nothing goes')
})

await t.test('what is counted is on disk, also when it would be pushed out while somebody opens it', async t => {
  const { directory, put, blobs } = await setUp(t)
  await put(a)
  await put(b)
  const [opened] = await Promise.all([blobs.open(digestOf(a)), put(c)])
  t.ok(opened, 'what is being opened stays, as what is being read does')
  opened?.release()
  const files = await readdir(join(directory, 'blobs'), { recursive: true, withFileTypes: true })
  t.strictSame(
    files.filter(file => file.isFile()).map(({ name }) => name).sort(),
    [a, c].map(content => digestOf(content).slice(7)).sort()
  )
  t.match(blobs.statistics(), { entries: 2, bytes: 800 })
})

await t.test('what is opened or brought back while it is being removed is there, or is not', async t => {
  const { put, read, blobs, names } = await setUp(t)
  await put(a)
  await put(b)
  const partial = await blobs.create(400)
  partial?.reserve(400)
  const stored = await blobs.open(digestOf(a))
  t.equal(stored, undefined)
  t.match(blobs.statistics(), { entries: 1, bytes: 400, reserved: 400 })
  await partial?.close()
  t.ok(await put(a))
  t.ok((await stat(names.blob(digestOf(a)))).isFile())
  t.ok((await read(a))?.equals(a))
})

await t.test('the order of use survives a restart', async t => {
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

await t.test('half files count, also those of unknown size', async t => {
  const { put, blobs } = await setUp(t)
  await put(a)
  const partial = await blobs.create()
  t.ok(partial?.grow(600))
  t.ok(partial?.grow(400), 'a goes for it')
  t.notOk(partial?.grow(1))
  t.match(blobs.statistics(), { entries: 0, bytes: 0, reserved: 1000 })
  await partial?.close()
  t.equal(blobs.statistics().reserved, 0)
})

await t.test('what is no longer what it was is removed when it is first used, and told', async t => {
  const damages: Array<[string, (path: string) => Promise<void>]> = [
    ['another content', async path => { await writeFile(path, fileOf(400, 'wrong')) }],
    ['a shorter one', async path => { await truncate(path, 10) }],
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
    t.match(next.blobs.statistics(), { entries: 0, bytes: 0, damaged: name === 'gone' ? 0 : 1 })
    t.ok(await next.put(a))
    t.ok((await next.read(a))?.equals(a), `${name} heals`)
  }
})

await t.test('two processes may share one directory', async t => {
  const one = await setUp(t)
  const other = await setUp(t, { directory: one.directory })
  const partial = await one.blobs.create(400)
  await one.put(b)
  t.ok((await other.read(b))?.equals(b), 'what the one kept the other finds')
  const third = await setUp(t, { directory: one.directory })
  await partial?.handle.write(a)
  t.ok(await partial?.commit(digestOf(a)), 'a start takes nothing from those who live')
  await partial?.close()
  await Promise.all([one.put(c), third.put(c)])
  t.ok((await third.read(c))?.equals(c), 'both may keep the same')
  await rm(one.names.blob(digestOf(a)))
  t.equal(await one.read(a), undefined, 'what another has pushed out is not there')
  t.ok(await one.put(a))
})

await t.test('half files of processes that are gone are removed at the start', async t => {
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

await t.test('a directory that can not be written is told once, left alone for a while, and found to work ' +
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
