import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import t from 'tap'
import { startServer } from './server.ts'

/** The README's session: each command with what it prints. */
function session (): Array<{ command: string, output: string }> {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')
  const block = /```console\n(.*?)```/s.exec(readme)?.[1] ?? ''
  return block.split(/^\$ /m).slice(1).map(part => {
    const end = part.indexOf('\n')
    return { command: part.slice(0, end), output: part.slice(end + 1) }
  })
}

await t.test('the session in the README prints what the README says', async t => {
  const address = await startServer(t)
  const cwd = t.testdir({})
  const steps = session()
  t.ok(steps.length >= 5)
  for (const { command, output } of steps) {
    const printed = execFileSync('bash', ['-c', command.replaceAll('http://localhost:8082', address)], {
      cwd,
      encoding: 'utf8'
    })
    // curl prints no newline behind a body.
    t.equal(printed.endsWith('\n') || printed === '' ? printed : `${printed}\n`, output, command)
  }
})
