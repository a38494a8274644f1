import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gunzipSync } from 'node:zlib'
import { Value } from '@sinclair/typebox/value'
import { parse } from 'smol-toml'
import t from 'tap'
import { createMapping } from '../backends/driver/mapping.ts'
import { createOciDriver } from '../backends/oci/driver.ts'
import { createLayout } from '../backends/oci/layout/layout.ts'
import { extensionTypes } from '../schemas/extension.ts'
import { OciConfig } from '../schemas/upstreams.ts'
import { notingSkips } from './fakes/skips.ts'
import { matchStrictly } from './fakes/match.ts'

const run = promisify(execFile)
const root = join(import.meta.dirname, '..')
const registry = join(root, 'examples', 'registry')

async function filesBelow (directory: string): Promise<Map<string, Buffer>> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const files = entries.filter(entry => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name)).sort()
  return new Map(
    await Promise.all(files.map(async file => [file.slice(directory.length + 1), await readFile(file)] as const))
  )
}

const { mapping } = Value.Default(OciConfig, { registry }) as OciConfig
const { driver, skipped } = notingSkips(createOciDriver({
  name: 'examples',
  namespace: '',
  mapping: createMapping(mapping),
  transport: createLayout({ instance: 'examples', registry })
}))
const { found, failed } = await driver.list()
const all = await Promise.all(found.map(async ({ metadata: { type, name } }) => await driver.load(type, name)))

await t.test('the committed tree equals the output of the script, byte for byte', async t => {
  const fresh = t.testdir({})
  await run(process.execPath, [join(root, 'scripts', 'examples.ts'), fresh], {
    env: { ...process.env, TZ: 'Pacific/Kiritimati' }
  })
  const [committed, written] = await Promise.all([filesBelow(registry), filesBelow(fresh)])
  t.strictSame([...committed.keys()], [...written.keys()])
  for (const [path, content] of written) t.ok(committed.get(path)?.equals(content), path)
})

await t.test('the script fails when its directory is not empty', async t => {
  const full = t.testdir({ 'a-file': '' })
  await t.rejects(run(process.execPath, [join(root, 'scripts', 'examples.ts'), full]))
  t.strictSame(await readdir(full), ['a-file'])
})

await t.test('every blob matches its digest, and the tree stays small', async t => {
  const files = await filesBelow(registry)
  for (const [path, content] of files) {
    const [, algorithm, encoded] = /blobs\/(sha256)\/([a-f0-9]{64})$/.exec(path.replaceAll('\\', '/')) ?? []
    if (algorithm !== undefined) t.equal(createHash(algorithm).update(content).digest('hex'), encoded)
    else t.match(path, /(?:oci-layout|index\.json)$/)
  }
  t.ok([...files.values()].reduce((total, { length }) => total + length, 0) < 300_000)
})

await t.test('the catalog contains the documented extensions and versions', async t => {
  const versions = (name: string) =>
    all.find(loaded => loaded?.metadata.name === name)?.releases.map(({ version }) => version)
  t.strictSame([failed, skipped], [[], []])
  t.ok(found.length >= 12)
  t.strictSame([...new Set(found.map(({ metadata }) => metadata.type))].sort(), [...extensionTypes].sort())
  matchStrictly(t, found.find(({ metadata }) => metadata.name === 'aws'), {
    metadata: {
      type: 'provider',
      description: 'AWS provider for provisioning infrastructure',
      author: 'provisioning-team',
      repository: 'https://gitea.example.com/org/aws_prov',
      tags: ['cloud', 'aws', 'infrastructure']
    },
    release: { version: '1.2.0', published_at: '2025-10-06T12:00:00Z', file: { name: 'aws_prov.tar.gz' } }
  })
  t.equal(found.find(({ metadata }) => metadata.name === 'upcloud')?.release.version, '2.1.3')
  t.strictSame(versions('kubernetes'), ['1.28.0', '1.27.5', '1.27.4'])
  t.strictSame(versions('k3s'), ['1.27.5', '1.27.5+k3s1', '1.26.9'])
  t.equal(versions('containerd')?.length, 10)
  t.equal(
    found.find(({ metadata }) => metadata.name === 'hetzner')?.release.version,
    '0.4.1',
    'a newer pre-release is not current'
  )
  t.equal(versions('hetzner')?.[0], '0.5.0-beta.2')
})

await t.test('every file is an archive with a manifest that names the extension and its version', async t => {
  for (const { metadata: { type, name, description }, releases } of all.filter(loaded => loaded !== undefined)) {
    for (const { version, file } of releases) {
      const path = join(registry, type, name, 'blobs', ...(file?.checksum ?? '').split(':'))
      t.equal((await stat(path)).size, file?.size)
      const { stdout } = await run('tar', ['tzf', path])
      const members = stdout.trim().split('\n')
      t.ok(members.length >= 3 && members.includes(`${name}/README.md`), `${name} ${version}`)
      const manifest = await run('tar', ['xzOf', path, `${name}/manifest.toml`])
      matchStrictly(t, parse(manifest.stdout), { extension: { type, name, version, description } })
      t.notMatch(gunzipSync(await readFile(path)).toString('latin1'), '@VERSION@')
    }
  }
})
