import { mkdir, rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { createGiteaFake, provisioningContent } from '../../fakes/gitea.ts'
import { run, start } from '../../fakes/process.ts'

const utf16 = Buffer.from('\uFEFFcanary-token\n', 'utf16le')
const bad: Array<[what: string, content: string | Buffer, problem: string]> = [
  ['nothing', '', 'expected a secret, but the file is empty'],
  ['UTF-16', utf16, 'expected UTF-8, but the file is UTF-16'],
  ['a second line', 'canary-token\nanother\n', 'expected one line, got more than one'],
  ['a NUL', 'canary-token\0', 'expected text, but the file holds NUL characters']
]

await t.test('an unusable secret file fails the start and --check-config with one line that names its key and ' +
  'path', async t => {
  const file = join(t.testdir({}), 'secret')
  const instances: Array<[key: string, env: Record<string, string>]> = [
    ['gitea[0].token_file', {
      REGISTRY_GITEA_URL: 'http://127.0.0.1:9',
      REGISTRY_GITEA_ORGANIZATION: 'infra',
      REGISTRY_GITEA_TOKEN_FILE: file
    }],
    ['oci[0].token_file', { REGISTRY_OCI_REGISTRY: 'http://127.0.0.1:9', REGISTRY_OCI_TOKEN_FILE: file }],
    ['oci[0].password_file', {
      REGISTRY_OCI_REGISTRY: 'http://127.0.0.1:9',
      REGISTRY_OCI_USERNAME: 'robot',
      REGISTRY_OCI_PASSWORD_FILE: file
    }]
  ]
  for (const [what, content, problem] of bad) {
    await writeFile(file, content)
    for (const [key, env] of instances) {
      const variable = Object.keys(env).at(-1)
      const stderr = `${key}: file ${file}: ${problem} (in ${variable})\n`
      if (what === 'nothing' || key === 'gitea[0].token_file') {
        t.strictSame(
          await run(t, { args: ['--check-config'], env }).end,
          { code: 78, stdout: [], stderr },
          `${key}, ${what}`
        )
      }
      if (what === 'nothing' && key !== 'oci[0].token_file') {
        t.strictSame(await run(t, { env }).end, { code: 78, stdout: [], stderr }, `${key}, ${what}, start`)
      }
    }
  }
  await writeFile(file, '{"auths":')
  const env = { REGISTRY_OCI_REGISTRY: 'http://127.0.0.1:9', REGISTRY_OCI_DOCKER_CONFIG: file }
  t.strictSame(await run(t, { args: ['--check-config'], env }).end, {
    code: 78,
    stdout: [],
    stderr: `oci[0].docker_config: file ${file}: expected a file that holds JSON (in REGISTRY_OCI_DOCKER_CONFIG)\n`
  })
})

await t.test('a token file that becomes unusable fails only the requests that require it, until it is usable ' +
  'again', async t => {
  const token = 'canary-token'
  const gitea = await createGiteaFake(provisioningContent(), {
    tokens: { [token]: { scopes: ['all'] } },
    requireSignin: true
  })
  t.teardown(gitea.close)
  const folder = t.testdir({ layouts: {}, secrets: {} })
  const directory = join(folder, 'secrets')
  // Kubernetes updates a mounted Secret in this way: it replaces a link to a folder.
  let generation = 0
  const put = async (content: string | Buffer) => {
    const name = `..${generation++}`
    await mkdir(join(directory, name))
    await writeFile(join(directory, name, 'token'), content)
    await symlink(name, join(directory, '..data_tmp'))
    await rename(join(directory, '..data_tmp'), join(directory, '..data'))
  }
  const file = join(directory, '..data', 'token')
  await put(`\uFEFF${token}\r\n`)
  const server = await start(t, {
    REGISTRY_OCI_REGISTRY: join(folder, 'layouts'),
    REGISTRY_GITEA_URL: gitea.url,
    REGISTRY_GITEA_ORGANIZATION: 'provisioning',
    REGISTRY_GITEA_TOKEN_FILE: file,
    REGISTRY_CACHE_NEGATIVE_TTL_SECONDS: '0',
    REGISTRY_CACHE_TTL_SECONDS: '1'
  })
  const known = '/api/v1/extensions/taskserv/kubernetes'
  t.equal((await server.get(known)).status, 200)
  const download = '/api/v1/extensions/taskserv/kubernetes/1.28.0'
  for (const [what, content, problem] of bad) {
    await put(content)
    const refused = await server.get('/api/v1/extensions/taskserv/unheard-of')
    t.equal(refused.status, 500, what)
    const body = await refused.text()
    t.strictSame(
      JSON.parse(body),
      { error: 'config_error', message: 'token_file of instance gitea cannot be used' },
      what
    )
    const stale = await server.get(known)
    t.equal(stale.status, 200, `${what}: known data is served`)
    await server.line(new RegExp(`"level":50,.*"backend":"gitea","key":"token_file","file":"${file}".*${problem}`))
  }
  await put(token)
  await server.line(/token_file of instance gitea can be used again/)
  const recovered = await server.get(download)
  t.equal(recovered.status, 200)
  await recovered.arrayBuffer()
  server.kill('SIGTERM')
  const { stdout, stderr } = await server.end
  t.equal(stdout.filter(line => line.includes('requests that need it fail')).length, bad.length, 'one line per change')
  t.notMatch(`${stdout.join('')}${stderr}`, 'canary')
  t.strictSame(gitea.requests.filter(({ headers }) => headers.authorization !== `token ${token}`), [])
})
