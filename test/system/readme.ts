import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import t from 'tap'
import { startProgram } from './server.ts'

const root = resolve(import.meta.dirname, '../..')
const readme = readFileSync(join(root, 'README.md'), 'utf8')

/** Returns the code blocks of README in one language, in order. */
function blocks (language: string): string[] {
  return [...readme.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, 'gms'))].map(([, text = '']) => text)
}

/** Returns the commands of the session in README, each with its output. */
function session (): Array<{ command: string, output: string }> {
  return blocks('console').join('').split(/^\$ /m).slice(1).map(part => {
    const end = part.indexOf('\n')
    return { command: part.slice(0, end), output: part.slice(end + 1) }
  })
}

const [quickStart = '', ownUpstreams = ''] = blocks('sh')

await t.test('the session in README prints the output that README shows', async t => {
  // `npm ci` was necessary to run this test, so only the command after it is run.
  t.equal(quickStart, 'npm ci && npm start\n')
  const { address } = await startProgram(t, { command: ['npm', 'start'] })
  const cwd = t.testdir({})
  const steps = session()
  t.ok(steps.filter(({ command }) => /^curl .* \| jq /.test(command)).length >= 3)
  for (const { command, output } of steps) {
    const printed = execFileSync('bash', ['-c', command.replaceAll('http://localhost:8082', address)], {
      cwd,
      encoding: 'utf8'
    })
    // curl does not print a newline after a body.
    t.equal(printed.endsWith('\n') || printed === '' ? printed : `${printed}\n`, output, command)
  }

  const [, page = ''] = /<http:\/\/localhost:8082(\/[^>]*)>/.exec(readme) ?? []
  t.match(await (await fetch(`${address}${page}`)).text(), /swagger-ui/, 'the page in the browser is Swagger UI')
})

await t.test('the configuration in README is valid when its secrets exist', async t => {
  const [configuration = ''] = blocks('toml')
  const [check = ''] = ownUpstreams.split('\n')
  const folder = t.testdir({})
  const secrets = join(folder, 'secrets')
  mkdirSync(secrets)
  const files = [...configuration.matchAll(/"\/run\/secrets\/([^"]+)"/g)]
  for (const [, file = ''] of files) writeFileSync(join(secrets, file), 'a-secret\n')
  const registry = join(folder, 'registry.toml')
  writeFileSync(registry, configuration.replaceAll('/run/secrets', secrets))

  t.match(check, / --config registry\.toml --check-config$/)
  const output = execFileSync('bash', ['-c', check.replace('registry.toml', registry)], { cwd: root, encoding: 'utf8' })
  t.match(output, /^OK$/m)
  t.equal(ownUpstreams, `${check}\n${check.replace(' --check-config', '')}\n`, 'the second command starts the server')
})
