import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import t from 'tap'
import { startProgram } from './server.ts'

const root = resolve(import.meta.dirname, '../..')
const { version, dependencies, devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  version: string, dependencies: Record<string, string>, devDependencies: Record<string, string>
}

// A user's machine has a Node.js of its own: the one that runs this test, without what this project has beside it.
const path = [dirname(process.execPath), ...(process.env.PATH ?? '').split(':').filter(part => !part.includes('node_modules'))].join(':')
const run = (cwd: string, command: string, args: string[]): string =>
  execFileSync(command, args, { cwd, encoding: 'utf8', env: { ...process.env, PATH: path }, stdio: ['ignore', 'pipe', 'inherit'] })

/** Packs this project as `npm publish` would, and gives the archive. The `prepare` script is left out: it rebuilds the test runner that runs this. */
function pack (destination: string): string {
  run(root, 'npm', ['run', '--silent', 'prepack'])
  const [packed] = JSON.parse(run(root, 'npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', destination])) as Array<{ filename: string }>
  return join(destination, packed?.filename ?? '')
}

// Outside of this project, whose own packages would be found from below it.
const folder = await mkdtemp(join(tmpdir(), 'extension-registry-'))
t.teardown(async () => { await rm(folder, { recursive: true }) })
const host = join(folder, 'host')
const installed = join(host, 'node_modules')
await mkdir(host)
await writeFile(join(host, 'package.json'), JSON.stringify({ private: true, type: 'module' }))
run(host, 'npm', ['install', '--no-audit', '--no-fund', `fastify@${dependencies['fastify']}`, pack(folder)])

await t.test('the package brings what it needs, and no Node.js', async t => {
  t.ok(existsSync(join(installed, '.bin/extension-registry')))
  t.notOk(existsSync(join(installed, '.bin/node')), 'no node in .bin')
  t.strictSame(readdirSync(installed).filter(name => /^node-(linux|bin)|^extension-registry-/.test(name)), [])
  t.strictSame(readdirSync(join(installed, 'extension-registry')).sort(), [
    'CHANGELOG.md', 'LICENSE', 'README.md', 'SECURITY.md', 'config.example.toml', 'dist', 'docs', 'examples', 'openapi.yaml', 'package.json'
  ])
  const { resolve } = createRequire(join(host, 'host.js'))
  t.equal(readFileSync(resolve('extension-registry/openapi.yaml'), 'utf8'), readFileSync(join(root, 'openapi.yaml'), 'utf8'))
  t.match(JSON.parse(readFileSync(resolve('extension-registry/package.json'), 'utf8')), { version })
})

await t.test('its program serves the embedded examples, and ends on SIGTERM', async t => {
  const program = join(installed, '.bin/extension-registry')
  t.equal(run(host, program, ['--version']), `${version}\n`)
  t.match(run(host, program, ['--help']), /^Usage: extension-registry /)
  const { address, stop } = await startProgram(t, { command: [program], cwd: host, env: { PATH: path } })
  const list = await fetch(`${address}/api/v1/extensions?limit=1`)
  t.equal(list.headers.get('x-total-count'), '16')
  t.match(await list.json(), [{ name: 'aws', type: 'provider' }])
  t.match(await (await fetch(`${address}/health`)).json(), { version })
  t.equal((await fetch(`${address}/docs`)).status, 200)
  t.equal(await stop(), 0)
})

await t.test('the example host embeds it', async t => {
  await cp(join(installed, 'extension-registry/examples/registry'), join(host, 'extensions'), { recursive: true })
  await cp(join(root, 'examples/host.js'), join(host, 'host.js'))
  const { address } = await startProgram(t, { command: [process.execPath, 'host.js'], cwd: host, env: { PORT: '0' } })
  const { catalog } = await (await fetch(address)).json() as { catalog: string }
  const list = await fetch(`${address}${catalog}?type=cluster`)
  t.equal(list.status, 200)
  t.equal(list.headers.get('x-total-count'), '4')
  t.match(await (await fetch(`${address}/registry/readyz`)).json(), { status: 'ok' })
  const long = await fetch(`${address}${catalog}/provider/${'a'.repeat(600)}`)
  t.match(await long.json(), { error: 'invalid_request', message: 'A part of the path is too long' }, 'by serverOptions')
})

await t.test('a TypeScript host compiles against its declarations, those of libraries included', async t => {
  await mkdir(join(host, 'typed'))
  await cp(join(root, 'examples/host.ts'), join(host, 'typed/host.ts'))
  await writeFile(join(host, 'typed/refused.ts'), [
    "import { createHost } from './host.js'",
    "import { serverOptions } from 'extension-registry'",
    'const host = await createHost()',
    '// @ts-expect-error: no such question',
    'export const nothing = host.catalog.nothing',
    '// @ts-expect-error: no such level',
    "export const options = serverOptions({ log: { level: 'loud' } })"
  ].join('\n'))
  await writeFile(join(host, 'tsconfig.json'), JSON.stringify({
    compilerOptions: {
      target: 'ES2022', module: 'NodeNext', types: ['node'], strict: true, noUncheckedIndexedAccess: true, exactOptionalPropertyTypes: true, skipLibCheck: false, noEmit: true
    },
    include: ['typed']
  }))
  const wanted = ['@types/node', 'typescript'].map(name => `${name}@${devDependencies[name]}`)
  run(host, 'npm', ['install', '--no-audit', '--no-fund', '--save-dev', `fastify-plugin@${dependencies['fastify-plugin']}`, ...wanted])
  t.equal(run(host, join(installed, '.bin/tsc'), ['-p', '.']), '')
})
