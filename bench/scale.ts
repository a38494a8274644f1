// Measures catalogs of 10,000 and 100,000 extensions in separate processes, and the start of the server: `npm run
// bench:scale [-- --quick]`. Prints the tables, and writes them to docs/performance.md.
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { table } from '../test/soak/report.ts'
import { writePart } from './document.ts'
import { describeMachine, describeVersions } from './machine.ts'
import { start, startCommand, startFlags } from './process.ts'
import { versions } from './scale-app.ts'
import type { ScaleResult, Times } from './scale-run.ts'
import { measureStartup } from './startup.ts'

const { values: { quick } } = parseArgs({ options: { quick: { type: 'boolean', default: false } } })
const mib = 1024 ** 2
const per = 10_000

async function run (extensions: number, withVersions: boolean): Promise<ScaleResult> {
  const program = start(process.execPath, [
    ...startFlags,
    '--expose-gc',
    join(import.meta.dirname, 'scale-run.ts'),
    String(extensions),
    ...(withVersions ? ['versions'] : [])
  ], { output: 'pipe' })
  const chunks: Buffer[] = []
  program.child.stdout?.on('data', (chunk: Buffer) => { chunks.push(chunk) })
  const code = await program.end
  if (code !== 0) throw new Error(`The catalog of ${extensions} extensions ended with ${code}`)
  return JSON.parse(Buffer.concat(chunks).toString()) as ScaleResult
}

const results: ScaleResult[] = []
for (const extensions of quick ? [10_000] : [10_000, 100_000]) {
  console.error(`${extensions} extensions …`)
  results.push(await run(extensions, extensions === 10_000))
}
console.error('start …')
const times = quick ? 3 : 9
// The command of `npm start`, without npm.
const command = ['-c', startCommand]
const direct = await measureStartup('sh', command, { times, memory: true })
const anew = await measureStartup('sh', command, { times, env: { NODE_DISABLE_COMPILE_CACHE: '1' } })
const plain = await measureStartup(process.execPath, ['server.ts'], { times })
const npm = await measureStartup('npm', ['start'], { times })

const milliseconds = ({ p50, p99, maximum }: Times): string =>
  `${p50.toFixed(2)} / ${p99.toFixed(2)} / ${maximum.toFixed(1)}`
const perTenThousand = (bytes: number, extensions: number): string =>
  `${Math.round(bytes / mib / (extensions / per))} MiB`
const row = (
  name: string,
  aim: string,
  cell: (result: ScaleResult) => string
): string[] => [name, aim, ...results.map(cell)]
const catalog = table([
  '',
  'goal for 10,000',
  ...results.map(({ extensions }) => `${extensions.toLocaleString('en-US')} extensions`)
], [
  row('page of 100 extensions at a random offset', 'p99 < 2', ({ list }) => milliseconds(list)),
  row('search with one match', 'p99 < 5', ({ searchOne }) => milliseconds(searchOne)),
  row('search that matches all extensions', 'p99 < 5', ({ searchAll }) => milliseconds(searchAll)),
  row(
    'longest event loop delay in a refresh, for each of five',
    '<= 20',
    ({ blocks }) => blocks.map(block => block.toFixed(1)).join(', ')
  ),
  row(
    'memory per 10,000 listed extensions',
    '',
    ({ empty, listed, extensions }) => perTenThousand(listed - empty, extensions)
  ),
  row(
    `memory per 10,000 extensions with ${versions} requested versions each`,
    '',
    ({ empty, versions: held, extensions }) => held === undefined ? '' : perTenThousand(held - empty, extensions)
  )
])
const first = ({ firstResponse: { median, least, greatest } }: typeof direct): string =>
  `${Math.round(median)} (${Math.round(least)}–${Math.round(greatest)})`
const starting = table(['', 'goal', 'result'], [
  ['first response after the command of `npm start`', '< 500', first(direct)],
  ['the same without the compile cache, as at the first start', '', first(anew)],
  ['first response after `npm start`, with npm itself', '', first(npm)],
  ['first response after `node server.ts`', '', first(plain)],
  ['idle memory after 3 s, with the embedded catalog', '<= 120 MiB', `${Math.round((direct.idle ?? NaN) / mib)} MiB`]
])

const document = [
  `Measured by \`npm run bench:scale${quick ? ' -- --quick' : ''}\` on ${
    new Date().toISOString().slice(0, 10)
  }: ${describeMachine()}; ${describeVersions()}. Times are milliseconds.`,
  catalog.join('\n'),
  `Start: median of ${times} starts, with the minimum and the maximum.`,
  starting.join('\n')
].join('\n\n')
console.log(document)
await writePart('scale', document)
process.exit()
