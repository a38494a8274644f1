import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createSecret, type SecretFileKey } from '../../lib/secret.ts'
import { createLog } from '../fakes/log.ts'
import { matchStrictly } from '../fakes/match.ts'

/** Creates a secret from a file with these bytes; returns it with the log lines about it. */
async function fromFile (t: Test, content: string | Buffer, key: SecretFileKey = 'token_file') {
  const file = join(t.testdir({}), 'secret')
  await writeFile(file, content)
  const { log, lines } = createLog()
  return { file, lines, secret: createSecret({ file, key, instance: 'gitea', log }) }
}
const utf16 = (text: string, bom = true) => Buffer.from(`${bom ? '\uFEFF' : ''}${text}`, 'utf16le')

await t.test('a secret from a file loses its trailing newline, and is read again after a symbolic link is ' +
  'swapped', async t => {
  const directory = t.testdir({ one: 'first\n', two: 'second' })
  const file = join(directory, 'token')
  await symlink(join(directory, 'one'), file)
  const secret = createSecret({ file, key: 'token_file', instance: 'gitea' })
  t.equal(await secret(), 'first')
  await symlink(join(directory, 'two'), `${file}.new`)
  await rename(`${file}.new`, file)
  t.equal(await secret(), 'second')
  await writeFile(join(directory, 'two'), 'a-longer-third-one\n')
  t.equal(await secret(), 'a-longer-third-one')
})

await t.test('a secret is read again after the data link of a Kubernetes volume changes', async t => {
  const directory = t.testdir({ '..one': { token: 'first' }, '..two': { token: 'other' } })
  const link = async (to: string) => {
    await symlink(to, join(directory, '..data_tmp'))
    await rename(join(directory, '..data_tmp'), join(directory, '..data'))
  }
  await link('..one')
  await symlink('..data/token', join(directory, 'token'))
  const secret = createSecret({ file: join(directory, 'token'), key: 'token_file', instance: 'gitea' })
  t.equal(await secret(), 'first')
  await link('..two')
  t.equal(await secret(), 'other')
})

await t.test('a BOM and surrounding blanks of a secret file are removed', async t => {
  for (const content of ['\uFEFFcanary', 'canary\r\n', '\n\n  canary\t\n', '\uFEFF \r\ncanary \n', 'canary\n\n\n']) {
    for (const key of ['token_file', 'password_file'] as const) {
      const { secret, lines } = await fromFile(t, content, key)
      t.equal(await secret(), 'canary', JSON.stringify(content))
      t.strictSame(lines, [])
    }
  }
})

await t.test('a password may contain any text of one line, a token only the characters of the inline form', async t => {
  for (const text of ['pass word', 'pässwörd', '密碼', '🔑']) {
    t.equal(await (await fromFile(t, `${text}\n`, 'password_file')).secret(), text)
    await t.rejects((await fromFile(t, `${text}\n`)).secret(), { code: 'config_error' }, text)
  }
  for (const text of ['a:b', '"quoted"', '$']) {
    for (const key of ['token_file', 'password_file'] as const) {
      t.equal(
        await (await fromFile(t, text, key)).secret(),
        text
      )
    }
  }
})

await t.test('a secret file that cannot be used is a config_error with instance and key, and the log line ' +
  'names the file', async t => {
  const files: Array<[what: string, content: string | Buffer, problem: string]> = [
    ['empty', '', 'expected a secret, but the file is empty'],
    ['blanks only', ' \r\n\t\n', 'expected a secret, but the file is empty'],
    ['a BOM only', '\uFEFF\n', 'expected a secret, but the file is empty'],
    ['UTF-16, little-endian', utf16('canary\n'), 'expected UTF-8, but the file is UTF-16'],
    ['UTF-16, big-endian', utf16('canary\n').swap16(), 'expected UTF-8, but the file is UTF-16'],
    ['UTF-16 without BOM', utf16('canary', false), 'expected text, but the file holds NUL characters'],
    ['a NUL', 'canary\0', 'expected text, but the file holds NUL characters'],
    ['Latin-1', Buffer.from('canäry', 'latin1'), 'expected UTF-8'],
    ['a second line', 'canary\nanother\n', 'expected one line, got more than one'],
    ['a second line, as old systems end them', 'canary\ranother', 'expected one line, got more than one'],
    ['a second line after an empty one', 'canary\r\n\r\nanother', 'expected one line, got more than one'],
    ['a line separator', 'canary\u2028another', 'expected one line, got more than one'],
    ['a control character', 'can\u0007ary', 'expected text without control characters'],
    ['a C1 control character', 'can\u0085ary', 'expected text without control characters'],
    ['too much', 'x'.repeat(65537), 'expected at most 65536 bytes']
  ]
  for (const [what, content, problem] of files) {
    for (const key of ['token_file', 'password_file'] as const) {
      const { secret, lines, file } = await fromFile(t, content, key)
      await t.rejects(secret(), {
        code: 'config_error',
        instance: 'gitea',
        message: `${key} of instance gitea cannot be used`,
        details: undefined
      }, what)
      await t.rejects(secret(), { code: 'config_error' }, what)
      matchStrictly(t, lines.map(line => JSON.parse(line) as unknown), [{
        level: 50,
        backend: 'gitea',
        key,
        file,
        msg: `${key} of instance gitea cannot be used: ${problem}; requests that need it fail until the file changes`
      }], what)
      t.equal(lines.length, 1, `${what}: logged once`)
      t.notMatch(lines.join(''), 'canary')
    }
  }
  for (
    const [content, problem] of [['can ary', 'expected printable characters without spaces'], [
      'canäry',
      'expected printable characters without spaces'
    ]] as const
  ) {
    const { secret, lines } = await fromFile(t, content)
    await t.rejects(secret(), { code: 'config_error' })
    t.equal(lines.length, 1)
    t.ok(lines[0]?.includes(`: ${problem};`), 'the log line names the problem')
  }
})

await t.test('a secret file that becomes invalid and valid again is logged once per change and used again', async t => {
  const { secret, lines, file } = await fromFile(t, 'first')
  t.equal(await secret(), 'first')
  for (const bad of ['', 'two\nlines', utf16('canary')]) {
    await writeFile(file, bad)
    for (let time = 0; time < 3; time++) await t.rejects(secret(), { code: 'config_error' })
  }
  await rm(file)
  for (let time = 0; time < 2; time++) {
    await t.rejects(secret(), { code: 'config_error', message: 'token_file of instance gitea cannot be used' })
  }
  await mkdir(file)
  for (let time = 0; time < 2; time++) await t.rejects(secret(), { code: 'config_error' })
  await rm(file, { recursive: true })
  await writeFile(file, 'second')
  t.equal(await secret(), 'second')
  const messages = lines.map(line => (JSON.parse(line) as { msg: string }).msg)
  matchStrictly(t, messages, [
    /the file is empty/,
    /one line/,
    /UTF-16/,
    /expected a file that can be read: no such file/,
    /expected a regular file/,
    /^token_file of instance gitea can be used again$/
  ])
  t.equal(messages.length, 6)
})

await t.test('a secret file that does not exist is a config_error without its path, as the path may be ' +
  'a secret under the wrong key', async t => {
  const { log, lines } = createLog()
  const secret = createSecret({ file: join(t.testdir({}), 'nowhere'), key: 'token_file', instance: 'gitea', log })
  await t.rejects(secret(), {
    code: 'config_error',
    instance: 'gitea',
    message: 'token_file of instance gitea cannot be used'
  })
  t.equal(lines.length, 1)
  t.notMatch(lines.join(''), 'nowhere')
})

await t.test('a configured value is returned unchanged, and without a secret the result is undefined', async t => {
  t.equal(await createSecret({ value: 'x', key: 'token_file', instance: 'gitea' })(), 'x')
  t.equal(await createSecret({ key: 'token_file', instance: 'gitea' })(), undefined)
})
