import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { createAtomicFile, writeAtomically } from '../../lib/atomic-file.ts'

await t.test('a file gets its name only on commit, and its handle stays open', async t => {
  const directory = t.testdir()
  const [aside, place] = [join(directory, 'tmp', '1'), join(directory, 'a', 'b', 'file')]
  const file = await createAtomicFile(aside)
  await file.handle.writeFile('content')
  await t.rejects(stat(place), { code: 'ENOENT' })
  await file.commit(place)
  t.equal(await readFile(place, 'utf8'), 'content')
  t.equal((await file.handle.read({ position: 0 })).bytesRead, 7, 'the handle reads the written bytes')
  await file.close()
  t.equal(await readFile(place, 'utf8'), 'content', 'the file remains after it is closed')
  t.strictSame(await readdir(join(directory, 'tmp')), [])
  t.equal((await stat(place)).mode & 0o777, 0o600)
  for (const made of ['tmp', 'a', 'a/b']) t.equal((await stat(join(directory, made))).mode & 0o777, 0o700, made)
})

await t.test('a file that is not committed is removed when it is closed', async t => {
  const directory = t.testdir({ file: 'old' })
  const file = await createAtomicFile(join(directory, 'aside'))
  await file.handle.writeFile('half')
  await file.close()
  t.strictSame(await readdir(directory), ['file'])
})

await t.test('an existing file is neither opened nor removed', async t => {
  const directory = t.testdir({ aside: 'of another process' })
  await t.rejects(createAtomicFile(join(directory, 'aside')), { code: 'EEXIST' })
  t.equal(await readFile(join(directory, 'aside'), 'utf8'), 'of another process')
})

await t.test('a file is replaced completely, or an error keeps it and removes the temporary file', async t => {
  const directory = t.testdir({ file: 'old' })
  const [aside, place] = [join(directory, 'aside'), join(directory, 'file')]
  const failure = new Error('no')
  await t.rejects(writeAtomically(aside, place, async handle => {
    await handle.writeFile('half')
    throw failure
  }), failure)
  t.equal(await readFile(place, 'utf8'), 'old')
  t.strictSame(await readdir(directory), ['file'])

  await writeAtomically(aside, place, async handle => { await handle.writeFile('new') })
  t.equal(await readFile(place, 'utf8'), 'new')
  t.strictSame(await readdir(directory), ['file'])
})

await t.test('an error of rename or close is reported after the temporary file is removed', async t => {
  const directory = t.testdir()
  const [aside, place] = [join(directory, 'aside'), join(directory, 'taken')]
  await mkdir(place)
  await writeFile(join(place, 'x'), '')
  const moved = writeAtomically(aside, place, async handle => { await handle.writeFile('new') })
  await t.rejects(moved, { code: /^(?:EISDIR|ENOTEMPTY|EEXIST)$/ })
  const closed = writeAtomically(aside, join(directory, 'file'), async handle => { await handle.close() })
  await t.rejects(closed, { code: 'EBADF' })
  t.strictSame(await readdir(directory), ['taken'])
})
