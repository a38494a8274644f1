import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import ts from 'typescript'

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

/** Returns whether the compiler removes an import or re-export. `import { type A }` stays, and loads the module. */
const isTypeOnly = (node: ts.ImportDeclaration | ts.ExportDeclaration): boolean =>
  ts.isImportDeclaration(node) ? node.importClause?.isTypeOnly === true : node.isTypeOnly

/**
 * Returns the imports and re-exports of project modules in a source: static and dynamic ones, and those of types. A
 * dynamic import whose module is not a text is returned as its expression.
 */
function importsIn (from: string, text: string): Import[] {
  const found: Import[] = []
  const add = (target: ts.Node, typeOnly: boolean): void => {
    if (!ts.isStringLiteralLike(target)) found.push({ from, to: target.getText(), typeOnly })
    else if (target.text.startsWith('.')) found.push({ from, to: join(dirname(from), target.text), typeOnly })
    else if (/^extension-registry(?:\/|$)/.test(target.text)) found.push({ from, to: target.text, typeOnly })
  }
  const visit = (node: ts.Node): void => {
    if ((ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) && node.moduleSpecifier !== undefined) {
      add(node.moduleSpecifier, isTypeOnly(node))
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node.argument.literal, true)
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      for (const target of node.arguments.slice(0, 1)) add(target, false)
    }
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile(from, text, ts.ScriptTarget.Latest, true))
  return found
}

const textOf = (file: string): string => readFileSync(join(root, file), 'utf8')
const imports = sources.flatMap(file => importsIn(file, textOf(file)))

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
/** The plugins of drivers may also import this file. The drivers themselves may not. */
const instance = 'backends/cached/instance.ts'
/** Imports that each entry of backends/ may have within backends/. */
const backendLaw: Record<string, string[]> = {
  'backends/driver': [],
  'backends/cached': ['backends/driver'],
  'backends/gitea': ['backends/driver'],
  'backends/oci': ['backends/driver'],
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
  if (to === instance && ['backends/gitea/plugin.ts', 'backends/oci/plugin.ts'].includes(from)) return undefined
  return entryOf(to) === entry ||
      (backendLaw[entry] ?? []).some(allowed => to === allowed || to.startsWith(`${allowed}/`))
    ? undefined
    : `${entry} imports ${backendLaw[entry]?.join(', ')} of backends only`
}

await t.test('every form of an import is found', async t => {
  const lib = { from: 'lib/a.ts', to: 'routes/b.ts', typeOnly: false }
  const cases: Array<[source: string, found: Partial<Import>]> = [
    ["import b from '../routes/b.ts'", {}],
    ["import '../routes/b.ts'", {}],
    ['import {\n  b // the module\'s own\n} from "../routes/b.ts"', {}],
    ["import { type B } from '../routes/b.ts'", {}],
    ["export * from '../routes/b.ts'", {}],
    ["export { b } from '../routes/b.ts'", {}],
    ["const b = await import('../routes/b.ts')", {}],
    ["const b = await import('../routes/b.ts', { with: {} })", {}],
    ['const b = await import(`../routes/b.ts`)', {}],
    ["function f () { return import(\n  '../routes/b.ts'\n) }", {}],
    ['const b = await import(name)', { to: 'name' }],
    ["import b from 'extension-registry'", { to: 'extension-registry' }],
    ["import type { B } from '../routes/b.ts'", { typeOnly: true }],
    ["export type { B } from '../routes/b.ts'", { typeOnly: true }],
    ["type B = import('../routes/b.ts').B", { typeOnly: true }]
  ]
  for (const [source, found] of cases) {
    const one = { ...lib, ...found }
    t.strictSame(importsIn('lib/a.ts', source), [one], source)
    t.type(offence(one), 'string', source)
  }
  t.strictSame(importsIn('lib/a.ts', "import ts from 'typescript'\n// import '../routes/b.ts'"), [])
})

await t.test('an import is allowed or refused by the room and the entry of its two files', async t => {
  const allowed: Array<[from: string, to: string, typeOnly?: boolean]> = [
    ['app.ts', 'backends/oci/plugin.ts'],
    ['global.ts', 'app.ts'],
    ['routes/system.ts', 'lib/errors.ts'],
    ['plugins/replies/plugin.ts', 'plugins/downloads/download.ts'],
    ['backends/gitea/plugin.ts', 'backends/cached/instance.ts'],
    ['backends/oci/plugin.ts', 'backends/cached/instance.ts'],
    ['backends/gitea/driver.ts', 'backends/driver/driver.ts'],
    ['backends/catalog/catalog.ts', 'backends/cached/backend.ts'],
    ['backends/cached/listing.ts', 'plugins/cache/cache.ts'],
    ['backends/health.ts', 'plugins/metrics/plugin.ts', true]
  ]
  const refused: typeof allowed = [
    ['global.ts', 'plugins/cors.ts'],
    ['routes/system.ts', 'plugins/cache/plugin.ts', true],
    ['plugins/cors.ts', 'backends/health.ts', true],
    ['lib/json.ts', 'plugins/cors.ts', true],
    ['schemas/name.ts', 'lib/json.ts', true],
    ['backends/gitea/driver.ts', 'backends/cached/instance.ts'],
    ['backends/oci/registry/client.ts', 'backends/cached/instance.ts', true],
    ['backends/gitea/plugin.ts', 'backends/cached/backend.ts'],
    ['backends/gitea/plugin.ts', 'backends/oci/plugin.ts'],
    ['backends/driver/driver.ts', 'backends/cached/backend.ts'],
    ['backends/cached/listing.ts', 'backends/catalog/view.ts', true],
    ['backends/catalog/plugin.ts', 'backends/snapshots/file.ts'],
    ['backends/health.ts', 'plugins/metrics/plugin.ts'],
    ['backends/health.ts', 'routes/system.ts', true],
    ['backends/health.ts', 'server.ts']
  ]
  const reasonOf = ([from, to, typeOnly = false]: typeof allowed[number]) => offence({ from, to, typeOnly })
  for (const one of allowed) t.equal(reasonOf(one), undefined, one.slice(0, 2).join(' -> '))
  for (const one of refused) t.type(reasonOf(one), 'string', one.slice(0, 2).join(' -> '))
})

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
    t.match(textOf(door), /export default fp\(\w+, \{\s*name: 'registry-[a-z-]+'/, door)
  }
})

await t.test('only server.ts and lib/http-server.ts call listen()', async t => {
  for (const file of sources.filter(file => !['server.ts', 'lib/http-server.ts'].includes(file))) {
    t.notMatch(textOf(file), /\.listen\(/, file)
  }
})

await t.test('an exported name has one meaning: it is defined in one file only', async t => {
  // The types of the decorator for hosts are copies, which show no inner type.
  const files = sources.filter(file => file !== 'global.ts')
  const definition = /^export (?:async )?(?:function\*? |const |interface |type |class )(\w+)/gm
  const places = new Map<string, Set<string>>()
  for (const file of files) {
    for (const [, name = ''] of textOf(file).matchAll(definition)) {
      places.set(name, (places.get(name) ?? new Set()).add(file))
    }
  }
  t.ok(places.size > 200, 'exports are found')
  t.strictSame([...places].filter(([, where]) => where.size > 1).map(([name, where]) => [name, ...where]), [])
})
