import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = fileURLToPath(new URL('..', import.meta.url))
/** What may import what: a room sees those behind it in this list, and itself. */
const rooms = ['global.ts', 'app.ts', 'routes', 'backends', 'plugins', 'lib', 'schemas']

const sources = rooms.flatMap(room => room.endsWith('.ts')
  ? [room]
  : readdirSync(join(root, room), { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.ts')).map(file => join(room, file)))
const importsOf = (file: string) => [...readFileSync(join(root, file), 'utf8').matchAll(/^(?:import|export)[^'"]*?from '(\.[^']+)'/gm)]
  .map(([, target = '']) => relative(root, join(root, dirname(file), target)))
const roomOf = (file: string) => file.includes('/') ? file.slice(0, file.indexOf('/')) : file
const graph = new Map(sources.map(file => [file, importsOf(file)]))

await t.test('imports go one way: routes -> backends -> plugins -> lib -> schemas', async t => {
  t.ok(sources.length > 30, 'the sources are found')
  for (const [file, targets] of graph) {
    for (const target of targets) {
      t.ok(rooms.indexOf(roomOf(target)) >= rooms.indexOf(roomOf(file)), `${file} imports ${target}`)
    }
  }
})

await t.test('no file imports itself by way of others', async t => {
  const done = new Set<string>()
  const visit = (file: string, path: string[]): void => {
    if (path.includes(file)) t.fail(`a circle: ${[...path, file].join(' -> ')}`)
    if (path.includes(file) || done.has(file)) return
    for (const target of graph.get(file) ?? []) visit(target, [...path, file])
    done.add(file)
  }
  for (const file of sources) visit(file, [])
  t.equal(done.size, sources.length)
})

await t.test('routes know no upstream: they import schemas, and from elsewhere only errors', async t => {
  for (const [file, targets] of graph) {
    if (roomOf(file) !== 'routes') continue
    for (const target of targets) t.ok(roomOf(target) === 'schemas' || target === 'lib/errors.ts', `${file} imports ${target}`)
  }
})

await t.test('only server.ts listens; a server that it makes adds the other addresses of localhost', async t => {
  for (const file of sources.filter(file => file !== 'lib/http-server.ts')) t.notMatch(readFileSync(join(root, file), 'utf8'), /\.listen\(/, file)
})
