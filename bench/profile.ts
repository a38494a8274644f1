// Prints a CPU profile as a table: `node bench/profile.ts FILE.cpuprofile`, with a file from `npm run bench --
// --profile FOLDER`.
import { readFile } from 'node:fs/promises'
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { table } from '../test/soak/report.ts'

interface Profile {
  nodes: Array<{ id: number, callFrame: { functionName: string, url: string, lineNumber: number } }>
  samples: number[]
  timeDeltas: number[]
}

/** Number of functions in the table. */
const shown = 25
/** Number of parts in the table. */
const shownParts = 12
const root = fileURLToPath(new URL('..', import.meta.url))

/** Returns the location of a function, without the directories of this machine. */
function place (url: string, line: number): string {
  if (!url.startsWith('file:')) return url === '' ? '' : `${url}:${line + 1}`
  const [path = ''] = relative(root, fileURLToPath(url)).split('node_modules/').slice(-1)
  return `${path}:${line + 1}`
}

/** Returns the self time of each function as a share of the busy time, longest first. */
export function selfTimes (
  { nodes, samples, timeDeltas }: Profile
): Array<{ name: string, place: string, share: number }> {
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]))
  const times = new Map<string, { name: string, place: string, time: number }>()
  let busy = 0
  samples.forEach((id, at) => {
    const frame = frames.get(id)
    if (frame === undefined || ['(idle)', '(program)', '(root)'].includes(frame.functionName)) return
    const where = place(frame.url, frame.lineNumber)
    const name = frame.functionName || '(anonymous)'
    const known = times.get(`${name} ${where}`) ?? { name, place: where, time: 0 }
    const time = Math.max(0, timeDeltas[at] ?? 0)
    known.time += time
    busy += time
    times.set(`${name} ${where}`, known)
  })
  return [...times.values()].sort((a, b) => b.time - a.time).map(({ time, ...rest }) => ({
    ...rest,
    share: time / busy
  }))
}

/**
 * Returns the part of a function: its package, the registry, the JavaScript of Node.js, or the name of a native
 * function.
 */
function partOf ({ name, place }: { name: string, place: string }): string {
  if (place === '') return `\`${name}\``
  if (place.startsWith('node:')) return 'Node.js'
  if (/\.ts:\d+$/.test(place)) return 'the registry'
  return place.split('/').slice(0, place.startsWith('@') ? 2 : 1).join('/')
}

/** Returns the same times by part. */
export function byPart (times: ReturnType<typeof selfTimes>): Array<{ part: string, share: number }> {
  const shares = new Map<string, number>()
  for (const one of times) shares.set(partOf(one), (shares.get(partOf(one)) ?? 0) + one.share)
  return [...shares].map(([part, share]) => ({ part, share })).sort((a, b) => b.share - a.share)
}

if (import.meta.main) {
  const profile = JSON.parse(await readFile(process.argv[2] ?? '', 'utf8')) as Profile
  console.log(
    table(
      ['part', 'of the time'],
      byPart(selfTimes(profile)).slice(0, shownParts).map(({ part, share }) => [part, `${(share * 100).toFixed(1)} %`])
    ).join('\n'),
    '\n'
  )
  console.log(
    table(
      ['function', 'where', 'of the time'],
      selfTimes(profile).slice(0, shown)
        .map(({ name, place, share }) => [`\`${name}\``, place, `${(share * 100).toFixed(1)} %`])
    ).join('\n')
  )
}
