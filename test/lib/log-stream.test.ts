import { spawnSync } from 'node:child_process'
import { openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { createLogStream } from '../../lib/log-stream.ts'

/** Bytes that no test reaches. */
const maxUnread = 1024 * 1024

await t.test('lines are written in order, those of one turn of the event loop together', async t => {
  const file = join(t.testdir({}), 'log')
  const stream = createLogStream({ fd: openSync(file, 'w'), maxUnread })
  stream.write('1\n')
  stream.write('2\n')
  t.equal(readFileSync(file, 'utf8'), '')
  await turn()
  stream.write('3\n')
  await stream.written(10_000)
  t.equal(readFileSync(file, 'utf8'), '1\n2\n3\n')
})

await t.test('flushSync writes every line before it returns', async t => {
  const file = join(t.testdir({}), 'log')
  const stream = createLogStream({ fd: openSync(file, 'w'), maxUnread })
  await turn()
  stream.write('1\n')
  stream.write('2\n')
  stream.flushSync()
  t.equal(readFileSync(file, 'utf8'), '1\n2\n')
})

await t.test('a process that exits writes the lines of its last turn', async t => {
  const module = JSON.stringify(new URL('../../lib/log-stream.ts', import.meta.url))
  const program = `const { createLogStream } = await import(${module})
    const stream = createLogStream({ fd: 1, maxUnread: ${maxUnread} })
    await new Promise(resolve => setImmediate(resolve))
    stream.write('last line')
    process.exit(3)`
  const { status, stdout } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH }
  })
  t.strictSame([status, stdout], [3, 'last line'])
})

await t.test('while too many bytes wait to be written, further lines are dropped', async t => {
  const file = join(t.testdir({}), 'log')
  const stream = createLogStream({ fd: openSync(file, 'w'), maxUnread: 10 })
  stream.write('12345\n')
  await turn()
  stream.write('1234567\n')
  await stream.written(10_000)
  t.equal(readFileSync(file, 'utf8'), '12345\n')
})
