import { execFile, execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { parse } from 'yaml'
import { errorTable } from '../../lib/errors.ts'
import { createGiteaFake, provisioningContent } from '../fakes/gitea.ts'
import { startServer } from './server.ts'

const root = resolve(import.meta.dirname, '../..')
const client = join(root, 'test/clients/typescript')
const npm = (...args: string[]): void => {
  execFileSync('npm', args, { cwd: client, stdio: ['ignore', process.stderr, process.stderr] })
}

/** Errors caused by the registry or by a publisher: a request cannot cause them. */
const ofTheRegistry = ['config_error', 'internal_error', 'conflict']

await t.test('a client generated from openapi.yaml compiles strictly, calls every operation and recognises every ' +
  'error', async t => {
  npm('ci', '--no-audit', '--no-fund')
  npm('run', 'generate')
  npm('run', 'build')

  // Each Gitea server has a different fault and its own registry.
  const [gone, refusing, limiting] = await Promise.all([
    createGiteaFake(provisioningContent()),
    createGiteaFake(provisioningContent()),
    createGiteaFake(provisioningContent())
  ])
  t.teardown(async () => {
    await Promise.all([refusing.close(), limiting.close()])
  })
  await gone.stop()
  limiting.fault = () => ({ status: 429, headers: { 'retry-after': '7' } })
  const startOver = async (url: string): Promise<string> =>
    await startServer(t, {
      REGISTRY_GITEA_URL: url,
      REGISTRY_GITEA_ORGANIZATION: 'provisioning',
      REGISTRY_GITEA_TOKEN: 'unknown-to-gitea'
    })
  const [registry, unavailable, refused, limited] = await Promise.all([
    startServer(t),
    startOver(gone.url),
    startOver(refusing.url),
    startOver(limiting.url)
  ])

  const args = Object.entries({ registry, unavailable, refused, limited }).flatMap((
    [name, address]
  ) => [`--${name}`, address])
  const { stdout } = await promisify(execFile)(process.execPath, ['dist/client.js', ...args], { cwd: client })
  const observed = (kind: string): string[] =>
    [...stdout.matchAll(new RegExp(`^${kind} (.*)$`, 'gm'))].map(([, name = '']) => name).sort()

  // The program in the README, with the address of this registry.
  const folder = t.testdir({})
  await promisify(execFile)(process.execPath, [join(client, 'dist/example.js')], {
    cwd: folder,
    env: { REGISTRY: registry }
  })
  t.equal(
    createHash('sha256').update(readFileSync(join(folder, 'kubernetes.tar.gz'))).digest('hex'),
    'b69ff7314a1da5e9bb96b0cd1b25633c02ecf1e68ccd6411985c6d28759b4015'
  )

  const { paths } = parse(readFileSync(join(root, 'openapi.yaml'), 'utf8')) as {
    paths: Record<string, Record<string, { operationId: string }>>
  }
  t.strictSame(
    observed('operation'),
    Object.values(paths).flatMap(methods => Object.values(methods).map(({ operationId }) => operationId)).sort()
  )
  t.strictSame(observed('error'), Object.keys(errorTable).filter(type => !ofTheRegistry.includes(type)).sort())
})
