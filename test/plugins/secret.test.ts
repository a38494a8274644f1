import { rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { createSecret } from '../../plugins/secret.ts'

await t.test('a secret from a file loses its trailing newline, and follows the file when a link is swapped', async t => {
  const directory = t.testdir({ one: 'first\n', two: 'second' })
  const file = join(directory, 'token')
  await symlink(join(directory, 'one'), file)
  const secret = createSecret({ file, instance: 'gitea' })
  t.equal(await secret(), 'first')
  await symlink(join(directory, 'two'), `${file}.new`)
  await rename(`${file}.new`, file)
  t.equal(await secret(), 'second')
  await writeFile(join(directory, 'two'), 'a longer third one\n')
  t.equal(await secret(), 'a longer third one')
})

await t.test('a file that cannot be read is a config_error that does not tell where it is', async t => {
  const secret = createSecret({ file: join(t.testdir({}), 'nowhere'), instance: 'gitea' })
  await t.rejects(secret(), { code: 'config_error', instance: 'gitea', message: 'The secret of instance gitea cannot be read' })
})

await t.test('a configured value is itself, and no secret is undefined', async t => {
  t.equal(await createSecret({ value: 'x', instance: 'gitea' })(), 'x')
  t.equal(await createSecret({ instance: 'gitea' })(), undefined)
})
