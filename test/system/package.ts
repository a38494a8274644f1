import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import t from 'tap'
import { declarationsOf, typedExports, type Exports } from '../../scripts/declarations.ts'
import { startProgram } from './server.ts'
import { matchStrictly } from '../fakes/match.ts'

const root = resolve(import.meta.dirname, '../..')
const { version, exports, peerDependencies, devDependencies } = JSON.parse(
  readFileSync(join(root, 'package.json'), 'utf8')
) as {
  version: string,
  exports: Exports,
  peerDependencies: Record<string, string>,
  devDependencies: Record<string, string>
}

// The machine of a user has its own Node.js: the test uses its own, without the programs of this project.
const path = [
  dirname(process.execPath),
  ...(process.env.PATH ?? '').split(':').filter(part => !part.includes('node_modules'))
].join(':')
const run = (cwd: string, command: string, args: string[]): string =>
  execFileSync(command, args, {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, PATH: path },
    stdio: ['ignore', 'pipe', 'inherit']
  })

/**
 * Packs this project as `npm publish` would, and returns the path of the archive. The `prepare` script is skipped: it
 * rebuilds the running test runner.
 */
function pack (destination: string): string {
  run(root, 'npm', ['run', '--silent', 'prepack'])
  const [packed] = JSON.parse(
    run(root, 'npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', destination])
  ) as Array<{ filename: string }>
  return join(destination, packed?.filename ?? '')
}

// The folder is outside this project: below it, the packages of this project would be found.
const folder = await mkdtemp(join(tmpdir(), 'extension-registry-'))
t.teardown(async () => { await rm(folder, { recursive: true }) })
const host = join(folder, 'host')
const installed = join(host, 'node_modules')
await mkdir(host)
await writeFile(join(host, 'package.json'), JSON.stringify({ private: true, type: 'module' }))
run(host, 'npm', ['install', '--no-audit', '--no-fund', `fastify@${peerDependencies['fastify']}`, pack(folder)])

await t.test('the package contains its required files, and does not install Node.js', async t => {
  t.ok(existsSync(join(installed, '.bin/extension-registry')))
  t.notOk(existsSync(join(installed, '.bin/node')), 'no node in .bin')
  t.strictSame(readdirSync(installed).filter(name => /^node-(linux|bin)|^extension-registry-/.test(name)), [])
  t.strictSame(readdirSync(join(installed, 'extension-registry')).sort(), [
    'CHANGELOG.md',
    'LICENSE',
    'README.md',
    'SECURITY.md',
    'config.example.toml',
    'dist',
    'docs',
    'examples',
    'openapi.yaml',
    'package.json'
  ])
  t.notOk(existsSync(join(installed, 'extension-registry/node_modules/fastify')), 'Fastify is installed by the host')
  const { resolve } = createRequire(join(host, 'host.js'))
  t.equal(
    readFileSync(resolve('extension-registry/openapi.yaml'), 'utf8'),
    readFileSync(join(root, 'openapi.yaml'), 'utf8')
  )
  matchStrictly(t, JSON.parse(readFileSync(resolve('extension-registry/package.json'), 'utf8')), { version })
})

await t.test('the installed program serves the embedded examples and exits on SIGTERM', async t => {
  const program = join(installed, '.bin/extension-registry')
  t.equal(run(host, program, ['--version']), `${version}\n`)
  t.match(run(host, program, ['--help']), /^Usage: extension-registry /)
  const { address, stop } = await startProgram(t, { command: [program], cwd: host, env: { PATH: path } })
  const list = await fetch(`${address}/api/v1/extensions?limit=1`)
  t.equal(list.headers.get('x-total-count'), '16')
  matchStrictly(t, await list.json(), [{ name: 'aws', type: 'provider' }])
  matchStrictly(t, await (await fetch(`${address}/health`)).json(), { version })
  t.equal((await fetch(`${address}/docs`)).status, 200)
  t.equal(await stop(), 0)
})

await t.test('the example host serves the embedded registry', async t => {
  await cp(join(installed, 'extension-registry/examples/registry'), join(host, 'extensions'), { recursive: true })
  await cp(join(root, 'examples/host.js'), join(host, 'host.js'))
  const { address } = await startProgram(t, { command: [process.execPath, 'host.js'], cwd: host, env: { PORT: '0' } })
  const { catalog } = await (await fetch(address)).json() as { catalog: string }
  const list = await fetch(`${address}${catalog}?type=cluster`)
  t.equal(list.status, 200)
  t.equal(list.headers.get('x-total-count'), '4')
  matchStrictly(t, await (await fetch(`${address}/registry/readyz`)).json(), { status: 'ok' })
  const long = await fetch(`${address}${catalog}/provider/${'a'.repeat(600)}`)
  matchStrictly(
    t,
    await long.json(),
    { error: 'invalid_request', message: 'A part of the path is too long' },
    'serverOptions sets the maximum length'
  )
})

await t.test('the package has only the declarations that its exports load, and only ./global extends a type of ' +
  'Fastify', async t => {
  const folder = join(installed, 'extension-registry')
  const loaded = Object.entries(typedExports(exports)).map(([subpath, types]) => ({
    subpath,
    ...declarationsOf(folder, types)
  }))
  t.strictSame(loaded.map(({ subpath, augmentations }) => [subpath, augmentations.map(({ file }) => file)]), [
    ['.', []],
    ['./global', ['dist/global.d.ts']]
  ])
  const files = readdirSync(join(folder, 'dist'), { recursive: true, encoding: 'utf8' }).filter(file =>
    file.endsWith('.d.ts')
  ).map(file => join('dist', file))
  t.strictSame(files.sort(), [...new Set(loaded.flatMap(({ files }) => files))].sort())
})

await t.test('TypeScript hosts compile against the declarations of the package and its libraries, and fail with ' +
  'invalid code', async t => {
  const compilerOptions = {
    target: 'ES2022',
    module: 'NodeNext',
    types: ['node'],
    strict: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    noEmit: true
  }
  const expected = ['@types/node', 'typescript'].map(name => `${name}@${devDependencies[name]}`)
  run(host, 'npm', ['install', '--no-audit', '--no-fund', '--save-dev', ...expected])
  // Separate programs: an import of the second export extends the types of Fastify in all files of a program.
  for (
    const [name, ...files] of [['encapsulated', 'test/types/encapsulated.ts'], [
      'global',
      'test/types/global.ts',
      'examples/host.ts'
    ]] as const
  ) {
    await mkdir(join(host, name))
    for (const file of files) await cp(join(root, file), join(host, name, basename(file)))
    await writeFile(join(host, name, 'tsconfig.json'), JSON.stringify({ compilerOptions }))
    t.equal(run(host, join(installed, '.bin/tsc'), ['-p', name]), '', name)
  }
})

await t.test('the example of a host without encapsulation reads the catalog', async t => {
  const program =
    "const { createHost } = await import('./global/host.ts'); const host = await createHost(); console.log((await " +
      "host.inject('/names')).body); await host.close()"
  const names = JSON.parse(run(host, process.execPath, ['--input-type=module', '--eval', program])) as string[]
  t.equal(names.length, 16)
  t.ok(names.includes('kubernetes'))
})

await t.test('a CommonJS host can require both exports', async t => {
  const program =
    "const { default: one } = require('extension-registry'); const { default: two } = " +
      "require('extension-registry/global'); console.log(typeof one, typeof two, one === two)"
  t.equal(run(host, process.execPath, ['--input-type=commonjs', '--eval', program]), 'function function false\n')
})
