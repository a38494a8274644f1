// Compares the coverage of the last `npm run coverage` with its minimum. Reads the summary that tap writes.
import { readFileSync } from 'node:fs'

/** Minimum of each measure in percent: one point below the result at the time of the last change of this file. */
const floor = { lines: 96, branches: 93.7, functions: 95.1 }
type Measure = keyof typeof floor

const file = '.tap/report/coverage-summary.json'
const { total } = JSON.parse(readFileSync(file, 'utf8')) as { total: Record<Measure, { pct: number }> }
for (const [measure, minimum] of Object.entries(floor) as Array<[Measure, number]>) {
  const { pct } = total[measure]
  const isTooLow = pct < minimum
  console.log(`${isTooLow ? 'not ok' : 'ok'} - ${measure}: ${pct} % covered, at least ${minimum} %`)
  if (isTooLow) process.exitCode = 1
}
