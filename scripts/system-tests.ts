// Runs every npm script `test:system:…` of package.json, in its order, and counts its tests: `npm run test:system`.
// Ends with the output of the scripts that failed and a summary in the form of tap's own.
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

interface Result {
  name: string
  passed: number
  failed: number
  skipped: number
  /** Lines of standard output and standard error. */
  lines: string[]
}

/** Lines of a failed script that are repeated at the end, and their maximum length. */
const maxLines = 150
const maxLength = 300
/** Lines that belong to a failed assertion, and lines repeated where no assertion failed. */
const linesOfFailure = 16
const lastLines = 30

/** Runs an npm script, copies its output to standard output, and resolves with the lines and the exit code. */
async function run (name: string): Promise<{ code: number, lines: string[] }> {
  // Standard error goes to the same pipe, so that lines keep their order. Without --silent, which npm passes on to the
  // npm commands in a test: they would report no error.
  const program = spawn('sh', ['-c', 'exec npm run "$0" 2>&1', name], { stdio: ['ignore', 'pipe', 'inherit'] })
  const end = new Promise<number>((resolve, reject) => {
    program.once('error', reject)
    program.once('close', code => { resolve(code ?? 1) })
  })
  const lines: string[] = []
  for await (const line of createInterface(program.stdout)) {
    console.log(line)
    lines.push(line)
  }
  return { code: await end, lines }
}

/**
 * Counts the tests of a script by the summary of tap, or the script itself as one test where it has no summary.
 * A script that fails without a failed test, or that runs no test, is one failed test. Outside of CI a script may skip
 * all of its tests.
 */
function count (code: number, lines: readonly string[]): Pick<Result, 'passed' | 'failed' | 'skipped'> {
  const summary = lines.findLast(line => line.startsWith('# { total: '))
  const number = (key: string): number => Number(new RegExp(`${key}: (\\d+)`).exec(summary ?? '')?.[1] ?? 0)
  const passed = summary === undefined && code === 0 ? 1 : number('pass')
  const failed = number('fail')
  const skipped = number('skip')
  const mayBeSkipped = skipped > 0 && process.env.CI === undefined
  const ranNone = code === 0 && summary !== undefined && passed === 0 && !mayBeSkipped
  return { passed, failed: ranNone || (code !== 0 && failed === 0) ? 1 : failed, skipped }
}

/** Returns the lines that explain why a script failed: its failed assertions, or else its last lines. */
function explanation (lines: readonly string[]): string[] {
  const expected = new Set<number>()
  for (const [at, line] of lines.entries()) {
    if (/^ *not ok /.test(line)) for (let next = at; next < at + linesOfFailure; next++) expected.add(next)
  }
  const chosen = expected.size > 0 ? lines.filter((_, at) => expected.has(at)) : lines.slice(-lastLines)
  return chosen.slice(0, maxLines).map(line => line.slice(0, maxLength))
}

const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> }
const results: Result[] = []
for (const name of Object.keys(scripts).filter(name => name.startsWith('test:system:'))) {
  console.log(`== ${name}`)
  const { code, lines } = await run(name)
  results.push({ name, lines, ...count(code, lines) })
}
for (const { name, skipped } of results) if (skipped > 0) console.log(`== ${skipped} SKIPPED in ${name}`)
for (const { name, failed, lines } of results) {
  if (failed > 0) console.log([`== failed in ${name}`, ...explanation(lines)].join('\n'))
}
const passed = results.reduce((sum, result) => sum + result.passed, 0)
const failed = results.reduce((sum, result) => sum + result.failed, 0)
console.log(`# { total: ${passed + failed}, pass: ${passed}, fail: ${failed} }`)
if (failed !== 0 || results.length === 0) process.exitCode = 1
