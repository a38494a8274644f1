import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { checkDockerConfig, createCredentials, knownAuthHosts } from '../../../../backends/oci/registry/credentials.ts'
import { ConfigError, parseConfig } from '../../../../lib/config/parse.ts'
import { createLog } from '../../../fakes/log.ts'
import { matchStrictly } from '../../../fakes/match.ts'

const encoded = (text: string) => Buffer.from(text).toString('base64')

async function source (t: Test, dockerConfig: unknown, { registry = 'https://ghcr.io', namespace = '' } = {}) {
  const file = join(t.testdir({}), 'config.json')
  await writeFile(
    file,
    typeof dockerConfig === 'string' || Buffer.isBuffer(dockerConfig) ? dockerConfig : JSON.stringify(dockerConfig)
  )
  const { oci: [oci] } = parseConfig({ oci: { registry, namespace, docker_config: file } })
  if (oci === undefined) throw new Error('no configuration')
  const { log, lines } = createLog()
  return {
    file,
    lines,
    check: async () => {
      await checkDockerConfig(oci)
    },
    read: createCredentials(oci, new URL(registry), log)
  }
}

await t.test('credentials in config.json of Docker', async t => {
  const me = { kind: 'basic', username: 'me', password: 'canary:1' }
  await t.test('the auths entry of the registry is used', async t => {
    const auth = { auth: encoded('me:canary:1') }
    const files: Array<
      [what: string, auths: object, gives: object, options?: { registry?: string, namespace?: string }]
    > = [
      ['by host', { 'ghcr.io': auth, 'quay.io': { auth: encoded('x:y') } }, me],
      ['by address', { 'https://ghcr.io': auth }, me],
      ['by a legacy address', { 'https://ghcr.io/v1/': auth }, me],
      ['by host and port', { 'registry.example.com:5000': auth }, me, { registry: 'http://registry.example.com:5000' }],
      ['by the address of Docker Hub', { 'https://index.docker.io/v1/': auth }, me, {
        registry: 'https://registry-1.docker.io'
      }],
      ['by a namespace of the registry', { 'ghcr.io': { auth: encoded('x:y') }, 'ghcr.io/org': auth }, me, {
        namespace: 'org/team'
      }],
      ['user and password', { 'ghcr.io': { username: 'me', password: 'canary:1' } }, me],
      ['auth has priority over them', { 'ghcr.io': { ...auth, username: 'x', password: 'y' } }, me],
      ['auth with a newline after the password', { 'ghcr.io': { auth: encoded('me:canary:1\n') } }, me],
      ['auth with NUL characters around the password', { 'ghcr.io': { auth: encoded('me:\0canary:1\0') } }, me],
      ['no password', { 'ghcr.io': { auth: encoded('me:') } }, { ...me, password: '' }],
      ['a ready token', { 'ghcr.io': { registrytoken: 'canary-token' } }, { kind: 'bearer', token: 'canary-token' }]
    ]
    for (const [what, auths, gives, options] of files) {
      t.strictSame(await (await source(t, { auths }, options)).read(), gives, what)
    }
  })

  await t.test('an unusable file stops the start with one line, without the content of the file', async t => {
    const files: Array<[what: string, content: unknown, line: string | RegExp]> = [
      ['not JSON', '{"auths": canary', 'expected a file that holds JSON'],
      ['another form', '["canary"]', "expected Docker's config.json"],
      [
        'a store',
        { auths: {}, credsStore: 'canary' },
        'expected a file without credsStore and credHelpers, for credential helpers are not supported'
      ],
      ['a helper', { credHelpers: { 'ghcr.io': 'canary' } }, /credential helpers are not supported/],
      [
        'nothing for the registry',
        { auths: { 'quay.io': { auth: encoded('canary:canary') } } },
        'expected a file with auths for ghcr.io'
      ],
      ['an identity token', { auths: { 'ghcr.io': { identitytoken: 'canary' } } }, /identitytoken is not supported/],
      [
        'neither user nor password',
        { auths: { 'ghcr.io': { auth: encoded('canary') } } },
        'expected auth, username and password or registrytoken'
      ],
      [
        'a password of two lines',
        { auths: { 'ghcr.io': { auth: encoded('me:canary\ncanary') } } },
        'expected one line, got more than one'
      ],
      ['a password that is not UTF-8', {
        auths: { 'ghcr.io': { auth: Buffer.from('me:canäry', 'latin1').toString('base64') } }
      }, 'expected UTF-8'],
      [
        'a token with a blank',
        { auths: { 'ghcr.io': { registrytoken: 'canary x' } } },
        'expected a registrytoken of printable characters'
      ],
      ['nothing', '', 'expected JSON, but the file is empty'],
      ['only a BOM', '\uFEFF\n', 'expected JSON, but the file is empty'],
      ['UTF-16', Buffer.from('\uFEFF{"auths":{}}', 'utf16le'), 'expected UTF-8, but the file is UTF-16'],
      [
        'an empty entry',
        { auths: { 'ghcr.io': {} } },
        /expected auth, username and password or registrytoken/
      ]
    ]
    for (const [what, content, problem] of files) {
      const { check, read, file, lines } = await source(t, content)
      const error = await check().catch((error: unknown) => error)
      if (!(error instanceof ConfigError)) throw error
      t.match(
        error.message,
        typeof problem === 'string' ? `docker_config: file ${file}: ${problem} (in instance oci)` : problem,
        what
      )
      await t.rejects(read(), {
        code: 'config_error',
        message: 'docker_config of instance oci cannot be used',
        details: undefined
      }, what)
      t.notMatch([error.message, ...lines].join(), /canary/)
    }
    const { oci: [oci] } = parseConfig({ oci: { registry: 'https://ghcr.io', docker_config: '/nowhere/config.json' } })
    await t.rejects(async () => {
      if (oci !== undefined) await checkDockerConfig(oci)
    }, { message: 'docker_config: expected a file that can be read (in instance oci)' })
  })

  await t.test('a changed file is read again', async t => {
    const { file, read, lines } = await source(
      t,
      `\uFEFF${JSON.stringify({ auths: { 'ghcr.io': { auth: encoded('me:one') } } })}`
    )
    matchStrictly(t, await read(), { password: 'one' })
    await writeFile(file, JSON.stringify({ auths: { 'ghcr.io': { auth: encoded('me:another') } } }))
    matchStrictly(t, await read(), { password: 'another' })
    await writeFile(file, JSON.stringify({ credsStore: 'canary-store' }))
    for (let time = 0; time < 2; time++) {
      await t.rejects(read(), { code: 'config_error', message: 'docker_config of instance oci cannot be used' })
    }
    matchStrictly(t, lines.map(line => JSON.parse(line) as unknown), [{
      key: 'docker_config',
      file,
      msg: /credential helpers are not supported/
    }])
  })
})

await t.test('the token server of Docker Hub is known', t => {
  t.strictSame(knownAuthHosts(new URL('https://registry-1.docker.io')), ['auth.docker.io'])
  t.strictSame(knownAuthHosts(new URL('https://ghcr.io')), [])
  t.end()
})
