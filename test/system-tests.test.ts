import { spawnSync } from 'node:child_process'
import { cpSync, globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import t from 'tap'

const root = resolve(import.meta.dirname, '..')
const program = join(root, 'scripts/system-tests.ts')
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> }
const systemScripts = Object.entries(scripts).filter(([name]) => name.startsWith('test:system:'))

await t.test('each system test has exactly one script, and each script has a test', async t => {
  const tests = globSync('test/system/**/*.ts', { cwd: root })
    .filter(file => /^import t\b.* from 'tap'$/m.test(readFileSync(join(root, file), 'utf8')))
  t.ok(tests.length >= 19)
  const run = systemScripts.map(([name, command]) => {
    const patterns = command.split(' ').filter(word => word.startsWith('test/'))
    const files = patterns.map(pattern => globSync(pattern, { cwd: root }))
    t.ok(files.length > 0 && files.every(found => found.length > 0), name)
    return files.flat()
  })
  for (const file of tests) t.equal(run.flat().filter(found => found === file).length, 1, file)
})

/** Outputs of a script with its exit code. */
const outputs = {
  passes: { code: 0, lines: ['ok 1 - one', 'ok 2 - two', '# { total: 3, pass: 3 }'] },
  fails: { code: 1, lines: ['not ok 1 - the broken one', '# { total: 3, pass: 1, fail: 2 }'] },
  breaks: { code: 7, lines: ['cannot start'] },
  stops: { code: 1, lines: ['# { total: 4, pass: 4 }'] },
  empty: { code: 0, lines: ['# { total: 0 }'] },
  plain: { code: 0, lines: ['no summary'] },
  skips: { code: 0, lines: ['ok 1 - one # SKIP NO BROWSER', '# { total: 1, skip: 1 }'] }
}
type Output = keyof typeof outputs

const commandOf = (output: Output): string => {
  const { code, lines } = outputs[output]
  return `printf '%s\\n' ${lines.map(line => `'${line}'`).join(' ')}; exit ${code}`
}

function start (folder: string, command: string, args: string[], env: Record<string, string | undefined>) {
  const { status, stdout } = spawnSync(command, args, {
    cwd: folder,
    encoding: 'utf8',
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  return { status, lines: stdout.trimEnd().split('\n') }
}

/**
 * Writes programs into `folder`: `npm`, which runs a command for each list of arguments, and others that do nothing.
 * Returns the PATH that finds them first.
 */
function writePrograms (folder: string, npm: Record<string, string>, others: string[] = []): string {
  const branches = Object.entries(npm).map(([args, command]) => `'${args}') ${command} ;;`)
  const programs = {
    npm: ['#!/bin/sh', 'case "$*" in', ...branches, '*) exit 99 ;;', 'esac'].join('\n'),
    ...Object.fromEntries(others.map(name => [name, '#!/bin/sh']))
  }
  mkdirSync(join(folder, 'bin'))
  for (const [name, text] of Object.entries(programs)) writeFileSync(join(folder, 'bin', name), text, { mode: 0o755 })
  return `${join(folder, 'bin')}:${process.env.PATH}`
}

await t.test('the system tests are counted over all scripts', async t => {
  const cases: Array<{ run: Output[], summary: string, status: number, CI?: string, realNpm?: true }> = [
    { run: ['passes', 'plain'], summary: '# { total: 4, pass: 4, fail: 0 }', status: 0, realNpm: true },
    { run: ['passes', 'fails', 'breaks', 'stops', 'empty'], summary: '# { total: 13, pass: 8, fail: 5 }', status: 1 },
    { run: ['skips'], summary: '# { total: 0, pass: 0, fail: 0 }', status: 0 },
    { run: ['skips'], summary: '# { total: 1, pass: 0, fail: 1 }', status: 1, CI: 'true' },
    { run: [], summary: '# { total: 0, pass: 0, fail: 0 }', status: 1 }
  ]
  for (const { run, summary, status, CI, realNpm } of cases) {
    await t.test(`${run.join(', ') || 'no script'}${CI === undefined ? '' : ' in CI'}`, async t => {
      const fake = Object.fromEntries(run.map(output => [`test:system:${output}`, commandOf(output)]))
      const folder = t.testdir({ 'package.json': JSON.stringify({ scripts: { test: 'exit 9', ...fake } }) })
      const npm = Object.fromEntries(Object.entries(fake).map(([name, command]) => [`run ${name}`, command]))
      const PATH = realNpm ? process.env.PATH : writePrograms(folder, npm)
      const { lines, status: ended } = start(folder, process.execPath, [program], { CI, PATH })
      t.equal(lines.at(-1), summary)
      t.equal(ended, status)
      if (run.includes('skips')) t.ok(lines.includes('== 1 SKIPPED in test:system:skips'))
      if (run.includes('fails')) {
        const failing = ['fails', 'breaks', 'stops', 'empty'].map(name => `== failed in test:system:${name}`)
        t.strictSame(lines.filter(line => line.startsWith('== failed')), failing)
        const isRepeated = (line: string, name: string) =>
          lines.lastIndexOf(line) > lines.indexOf(`== failed in test:system:${name}`)
        t.ok(isRepeated('not ok 1 - the broken one', 'fails'), 'the failed assertion is repeated')
        t.ok(isRepeated('cannot start', 'breaks'), 'the last lines are repeated if no assertion failed')
      }
    })
  }
})

const tests = 'test -- --no-disable-coverage --coverage-report=json-summary'

await t.test('.ci/run counts each of its commands, and ends with the number of passed and failed tests', async t => {
  const all: Record<string, Output> = {
    ci: 'plain',
    [tests]: 'passes',
    'run --silent coverage:check': 'plain',
    'run --silent lint': 'plain',
    'run --silent typecheck': 'plain',
    'run test:system:one': 'passes',
    'run test:system:two': 'passes'
  }
  const cases: Array<{
    name: string
    change: Record<string, Output>
    last: string
    status: number
    failures: string[]
  }> = [
    { name: 'all pass', change: {}, last: '12 passed, 0 failed', status: 0, failures: [] },
    {
      name: 'tests fail',
      change: { [tests]: 'fails' },
      last: '10 passed, 2 failed',
      status: 1,
      failures: ['npm test']
    },
    {
      name: 'the coverage is too low',
      change: { 'run --silent coverage:check': 'breaks' },
      last: '11 passed, 1 failed',
      status: 1,
      failures: ['coverage']
    },
    {
      name: 'lint fails',
      change: { 'run --silent lint': 'breaks' },
      last: '11 passed, 1 failed',
      status: 1,
      failures: ['lint']
    },
    {
      name: 'two system tests fail',
      change: { 'run test:system:one': 'fails', 'run test:system:two': 'stops' },
      last: '11 passed, 3 failed',
      status: 1,
      failures: ['test:system:one', 'test:system:two']
    },
    { name: 'the installation fails', change: { ci: 'breaks' }, last: '0 passed, 1 failed', status: 1, failures: [] }
  ]
  for (const { name, change, last, status, failures } of cases) {
    await t.test(name, async t => {
      const scripts = { 'test:system:one': '', 'test:system:two': '' }
      const folder = t.testdir({ '.ci': {}, 'package.json': JSON.stringify({ scripts }) })
      cpSync(join(root, '.ci/run'), join(folder, '.ci/run'))
      const outcomes = Object.entries({ ...all, ...change }).map(([args, output]) => [args, commandOf(output)])
      const npm = { ...Object.fromEntries(outcomes), 'run test:system': `exec '${process.execPath}' '${program}'` }
      // Every program that .ci/run would install exists, so nothing is installed.
      const PATH = writePrograms(folder, npm, ['chromium', 'curl', 'jq', 'docker-registry', 'skopeo', 'htpasswd'])
      const { lines, status: ended } = start(folder, 'bash', [join(folder, '.ci/run')], { PATH })
      t.equal(lines.at(-1), last)
      t.equal(ended, status)
      const reported = new Set(lines.filter(line => line.startsWith('== failed in ')))
      t.strictSame([...reported], failures.map(name => `== failed in ${name}`))
    })
  }
})
