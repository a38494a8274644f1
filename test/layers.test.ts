import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = fileURLToPath(new URL('..', import.meta.url))
const rooms = ['routes', 'backends', 'plugins', 'lib', 'schemas']

interface Import {
  from: string
  to: string
  /** Whether only types are imported: such an import does not exist at run time. */
  typeOnly: boolean
}

const sources = [
  'app.ts',
  'global.ts',
  'server.ts',
  ...rooms.flatMap(room =>
    readdirSync(join(root, room), { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.ts')).map(
      file => join(room, file)
    )
  )
]

/** Returns the static and dynamic imports and re-exports of project modules in a file. */
function importsOf (from: string): Import[] {
  const text = readFileSync(join(root, from), 'utf8')
  const resolve = (target: string) => relative(root, join(root, dirname(from), target))
  const fixed = [...text.matchAll(/^(import|export)\s+(type\s+)?([^'"]*?)\s*from\s+'(\.[^']+)'/gm)].map(
    ([, , type, names = '', target = '']) => {
      const listed = /^\{([^}]*)\}$/.exec(names.trim())?.[1]?.split(',').map(name => name.trim()).filter(name =>
        name !== ''
      )
      return {
        from,
        to: resolve(target),
        typeOnly: type !== undefined || (listed?.every(name => name.startsWith('type ')) ?? false)
      }
    }
  )
  const dynamic = [...text.matchAll(/\bimport\(\s*'(\.[^']+)'\s*\)/g)].map(([, target = '']) => ({
    from,
    to: resolve(target),
    typeOnly: false
  }))
  return [...fixed, ...dynamic]
}

const imports = sources.flatMap(importsOf)

/** Returns the entry of a file: `backends/oci` for a file in that folder, `backends/health.ts` for that file. */
function entryOf (file: string): string {
  const [room = '', entry] = file.split('/')
  return entry === undefined ? room : `${room}/${entry}`
}
const roomOf = (file: string): string => file.split('/')[0] ?? ''

/** Modules of plugins without state: backends may import them. */
const pureParts = [
  'plugins/cache/cache.ts',
  'plugins/upstream/errors.ts',
  'plugins/upstream/addresses.ts',
  'plugins/upstream/resume.ts'
]
/** Imports that each entry of backends/ may have within backends/. */
const backendLaw: Record<string, string[]> = {
  'backends/driver': [],
  'backends/cached': ['backends/driver'],
  'backends/gitea': ['backends/driver', 'backends/cached/instance.ts'],
  'backends/oci': ['backends/driver', 'backends/cached/instance.ts'],
  'backends/catalog': ['backends/driver', 'backends/cached'],
  'backends/snapshots': ['backends/driver', 'backends/cached'],
  'backends/health.ts': ['backends/driver', 'backends/cached']
}

/** Returns the rule of docs/architecture.md that an import breaks; undefined when the import is allowed. */
function offence ({ from, to, typeOnly }: Import): string | undefined {
  if (from === 'app.ts' || from === 'server.ts') return undefined
  const [room, other] = [roomOf(from), roomOf(to)]
  if (room === 'global.ts') {
    return ['app.ts', 'lib', 'schemas'].includes(other) ? undefined : 'global.ts imports app.ts, lib and schemas only'
  }
  if (room === 'schemas') return other === 'schemas' ? undefined : 'schemas import schemas only'
  if (room === 'lib') return ['lib', 'schemas'].includes(other) ? undefined : 'lib imports lib and schemas only'
  if (room === 'plugins') {
    return ['lib', 'schemas', 'plugins'].includes(other)
      ? undefined
      : 'plugins import lib, schemas and plugins only'
  }
  if (room === 'routes') {
    return ['lib', 'schemas'].includes(other)
      ? undefined
      : 'routes import lib and schemas only, and use decorators'
  }
  if (other === 'lib' || other === 'schemas') return undefined
  if (other === 'plugins') {
    return typeOnly || pureParts.includes(to)
      ? undefined
      : 'backends import types of plugins, and pure functions of the listed files'
  }
  if (other !== 'backends') return 'backends import lib, schemas, types of plugins and backends only'
  const entry = entryOf(from)
  return entryOf(to) === entry ||
      (backendLaw[entry] ?? []).some(allowed => to === allowed || to.startsWith(`${allowed}/`))
    ? undefined
    : `${entry} imports ${backendLaw[entry]?.join(', ')} of backends only`
}

await t.test('every import is allowed by the rules in docs/architecture.md', async t => {
  t.ok(sources.length > 100 && imports.length > 300, 'the sources and their imports are found')
  t.strictSame(
    imports.map(one => ({ ...one, offence: offence(one) })).filter(({ offence }) => offence !== undefined),
    []
  )
  t.strictSame(
    [...new Set(sources.filter(file => roomOf(file) === 'backends').map(entryOf))].sort(),
    Object.keys(backendLaw).sort(),
    'each entry of backends has a rule'
  )
})

/** Returns the cycles in a graph of imports. */
function circles (edges: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const found: string[] = []
  const done = new Set<string>()
  const visit = (node: string, path: string[]): void => {
    if (path.includes(node)) found.push([...path.slice(path.indexOf(node)), node].join(' -> '))
    if (path.includes(node) || done.has(node)) return
    for (const target of edges.get(node) ?? []) visit(target, [...path, node])
    done.add(node)
  }
  for (const node of edges.keys()) visit(node, [])
  return found
}

function graphOf (name: (file: string) => string, of: readonly Import[]): Map<string, Set<string>> {
  const edges = new Map<string, Set<string>>()
  for (const { from, to } of of) {
    if (name(from) !== name(to)) edges.set(name(from), (edges.get(name(from)) ?? new Set()).add(name(to)))
  }
  return edges
}

await t.test('files do not form import cycles', async t => {
  t.strictSame(circles(graphOf(file => file, imports)), [])
})

await t.test('entries of plugins/ or backends/ do not form import cycles', async t => {
  for (const room of ['plugins', 'backends']) {
    t.strictSame(
      circles(graphOf(entryOf, imports.filter(({ from, to }) => roomOf(from) === room && roomOf(to) === room))),
      [],
      room
    )
  }
})

await t.test('plugins/ and backends/ do not exceed their maximum number of entries', async t => {
  t.ok(readdirSync(join(root, 'plugins')).length <= 20, 'plugins/ has at most 20 entries')
  t.ok(readdirSync(join(root, 'backends')).length <= 9, 'backends/ has at most 9 entries')
})

await t.test('each entry of plugins/ exports one named Fastify plugin', async t => {
  for (const entry of readdirSync(join(root, 'plugins'))) {
    const door = join('plugins', entry.endsWith('.ts') ? entry : join(entry, 'plugin.ts'))
    t.match(readFileSync(join(root, door), 'utf8'), /export default fp\(\w+, \{\s*name: 'registry-[a-z-]+'/, door)
  }
})

await t.test('only server.ts and lib/http-server.ts call listen()', async t => {
  for (const file of sources.filter(file => !['server.ts', 'lib/http-server.ts'].includes(file))) {
    t.notMatch(readFileSync(join(root, file), 'utf8'), /\.listen\(/, file)
  }
})

await t.test('an exported name has one meaning: it is defined in one file only', async t => {
  // The types of the decorator for hosts are copies, which show no inner type.
  const files = sources.filter(file => file !== 'global.ts')
  const definition = /^export (?:async )?(?:function\*? |const |interface |type |class )(\w+)/gm
  const places = new Map<string, Set<string>>()
  for (const file of files) {
    for (const [, name = ''] of readFileSync(join(root, file), 'utf8').matchAll(definition)) {
      places.set(name, (places.get(name) ?? new Set()).add(file))
    }
  }
  t.ok(places.size > 200, 'exports are found')
  t.strictSame([...places].filter(([, where]) => where.size > 1).map(([name, where]) => [name, ...where]), [])
})
