// What a CPU profile says, as a table: `node bench/profile.ts FILE.cpuprofile`, of what `npm run bench -- --profile
// FOLDER` wrote.
import { readFile } from 'node:fs/promises'
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { table } from '../test/soak/report.ts'

interface Profile {
  nodes: Array<{ id: number, callFrame: { functionName: string, url: string, lineNumber: number } }>
  samples: number[]
  timeDeltas: number[]
}

/** Functions that are shown. */
const shown = 25
/** Parts that are shown. */
const shownParts = 12
const root = fileURLToPath(new URL('..', import.meta.url))

/** Where a function is, without the folders of this machine. */
function place (url: string, line: number): string {
  if (!url.startsWith('file:')) return url === '' ? '' : `${url}:${line + 1}`
  const [path = ''] = relative(root, fileURLToPath(url)).split('node_modules/').slice(-1)
  return `${path}:${line + 1}`
}

/** The time that each function had for itself, as a share of all that was not idle; the longest first. */
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

/** Whose a function is: a package's, ours, Node.js's own JavaScript, or a native part that has a name of its own. */
function partOf ({ name, place }: { name: string, place: string }): string {
  if (place === '') return `\`${name}\``
  if (place.startsWith('node:')) return 'Node.js'
  if (/\.ts:\d+$/.test(place)) return 'the registry'
  return place.split('/').slice(0, place.startsWith('@') ? 2 : 1).join('/')
}

/** The same times by whose they are. */
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
