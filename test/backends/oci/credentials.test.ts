import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createCredentials, knownAuthHosts } from '../../../backends/oci/credentials.ts'
import { ConfigError, parseConfig } from '../../../plugins/config.ts'

const encoded = (text: string) => Buffer.from(text).toString('base64')

function source (t: Test, dockerConfig: unknown, { registry = 'https://ghcr.io', namespace = '' } = {}) {
  const file = join(t.testdir({ 'config.json': typeof dockerConfig === 'string' ? dockerConfig : JSON.stringify(dockerConfig) }), 'config.json')
  const { oci: [oci] } = parseConfig({ oci: { registry, namespace, docker_config: file } })
  if (oci === undefined) throw new Error('no configuration')
  return { file, read: createCredentials(oci, new URL(registry)) }
}

await t.test("Docker's config.json", async t => {
  const me = { kind: 'basic', username: 'me', password: 'canary:1' }
  await t.test('gives what auths has for the registry', async t => {
    const auth = { auth: encoded('me:canary:1') }
    const files: Array<[what: string, auths: object, gives: object, options?: { registry?: string, namespace?: string }]> = [
      ['by host', { 'ghcr.io': auth, 'quay.io': { auth: encoded('x:y') } }, me],
      ['by address', { 'https://ghcr.io': auth }, me],
      ['by a legacy address', { 'https://ghcr.io/v1/': auth }, me],
      ['by host and port', { 'registry.example.com:5000': auth }, me, { registry: 'http://registry.example.com:5000' }],
      ["by Docker Hub's own name", { 'https://index.docker.io/v1/': auth }, me, { registry: 'https://registry-1.docker.io' }],
      ['by a part of the registry', { 'ghcr.io': { auth: encoded('x:y') }, 'ghcr.io/org': auth }, me, { namespace: 'org/team' }],
      ['user and password', { 'ghcr.io': { username: 'me', password: 'canary:1' } }, me],
      ['auth before them', { 'ghcr.io': { ...auth, username: 'x', password: 'y' } }, me],
      ['a ready token', { 'ghcr.io': { registrytoken: 'canary-token' } }, { kind: 'bearer', token: 'canary-token' }]
    ]
    for (const [what, auths, gives, options] of files) t.strictSame(await source(t, { auths }, options).read(), gives, what)
  })

  await t.test('that cannot be used stops the start with one line, without what is in it', t => {
    const files: Array<[what: string, content: unknown, line: string | RegExp]> = [
      ['no JSON', '{"auths": canary', 'docker_config: expected a file that holds JSON (in instance oci)'],
      ['another form', '["canary"]', "docker_config: expected Docker's config.json (in instance oci)"],
      ['a store', { auths: {}, credsStore: 'canary' }, 'docker_config: expected a file without credsStore and credHelpers, for credential helpers are not supported (in instance oci)'],
      ['a helper', { credHelpers: { 'ghcr.io': 'canary' } }, /credential helpers are not supported/],
      ['nothing for the registry', { auths: { 'quay.io': { auth: encoded('canary:canary') } } }, 'docker_config: expected a file with auths for ghcr.io (in instance oci)'],
      ['an identity token', { auths: { 'ghcr.io': { identitytoken: 'canary' } } }, /identitytoken is not supported/],
      ['no pair', { auths: { 'ghcr.io': { auth: encoded('canary') } } }, 'docker_config: expected auth, username and password or registrytoken (in instance oci)'],
      ['an entry without anything', { auths: { 'ghcr.io': {} } }, /expected auth, username and password or registrytoken/]
    ]
    for (const [what, content, line] of files) {
      try {
        source(t, content)
        t.fail(what)
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error
        t.match(error.message, line, what)
        t.notMatch(error.message, /canary/)
      }
    }
    const { oci: [oci] } = parseConfig({ oci: { registry: 'https://ghcr.io', docker_config: '/nowhere/config.json' } })
    t.throws(() => oci && createCredentials(oci, new URL('https://ghcr.io')), { message: 'docker_config: expected a file that can be read (in instance oci)' })
    t.end()
  })

  await t.test('is read again when it changes', async t => {
    const { file, read } = source(t, { auths: { 'ghcr.io': { auth: encoded('me:one') } } })
    t.match(await read(), { password: 'one' })
    await writeFile(file, JSON.stringify({ auths: { 'ghcr.io': { auth: encoded('me:another') } } }))
    t.match(await read(), { password: 'another' })
    await writeFile(file, JSON.stringify({ credsStore: 'canary-store' }))
    await t.rejects(read(), { code: 'config_error', details: /credential helpers are not supported/ })
  })
})

await t.test("Docker Hub's token server is known", t => {
  t.strictSame(knownAuthHosts(new URL('https://registry-1.docker.io')), ['auth.docker.io'])
  t.strictSame(knownAuthHosts(new URL('https://ghcr.io')), [])
  t.end()
})
