import { join } from 'node:path'
import t from 'tap'
import { createSearch, secretsOfConfig } from './canary.ts'

await t.test('secrets are found unchanged, escaped, and in base64 at any position', async t => {
  const folder = t.testdir({
    password: 'canary-password\n',
    'config.json': JSON.stringify({
      auths: { 'x.test': { auth: Buffer.from('user:canary-docker').toString('base64') } }
    })
  })
  const found = createSearch(
    secretsOfConfig({
      gitea: [{ token: 'canary-to/ken"' }],
      oci: [{ username: 'robot', password_file: join(folder, 'password') }, {
        docker_config: join(folder, 'config.json')
      }]
    })
  )
  for (
    const secret of [
      'canary-to/ken"',
      'canary-password',
      'canary-docker',
      'robot:canary-password',
      'user:canary-docker'
    ]
  ) {
    t.ok(found(`a ${secret} b`), secret)
    t.ok(found(encodeURIComponent(secret)), secret)
    t.ok(found(JSON.stringify({ secret })), secret)
    for (const before of ['', 'x', 'xy', 'user:', 'token ']) {
      for (const after of ['', 'z', 'zz']) {
        t.ok(found(Buffer.from(before + secret + after).toString('base64')), `${before}${secret}${after}`)
      }
    }
  }
  t.ok(found('https://storage.test/x?X-Amz-Signature=00'))
  for (const text of ['', 'canary', 'robot', 'password', '{"error":"not_found"}']) t.notOk(found(text), text)
})
