import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import Fastify from 'fastify'
import t from 'tap'
import { parse } from 'smol-toml'
import { parse as parseYaml } from 'yaml'
import { parseConfig } from '../lib/config/parse.ts'
import { configKeys } from '../lib/config/keys.ts'
import { loadConfig } from '../lib/config/load.ts'
import { errorTable } from '../lib/errors.ts'
import { exposedHeaders } from '../schemas/responses.ts'
import registry from '../app.ts'
import { parts, replacePart } from '../bench/document.ts'
import { matchStrictly } from './fakes/match.ts'

const root = resolve(import.meta.dirname, '..')
const read = (file: string): string => readFileSync(join(root, file), 'utf8')

function docs (cwd: string, ...options: string[]): { status: number | null, stdout: string, stderr: string } {
  return spawnSync(process.execPath, [join(root, 'scripts/docs.ts'), ...options], { cwd, encoding: 'utf8' })
}

/** Returns the first cell of each row of a generated table, without its backticks. */
function rows (file: string, part: string): string[] {
  const [, table = ''] = new RegExp(`<!-- generated: ${part} -->(.*?)<!-- /generated -->`, 's').exec(read(file)) ?? []
  return [...table.matchAll(/^\| `([^`]+)` \| /gm)].map(([, cell = '']) => cell).filter(cell => cell !== 'error')
}

await t.test('the generated parts of docs, and config.example.toml, are up to date', async t => {
  matchStrictly(t, docs(root, '--check'), { status: 0, stdout: '', stderr: '' })
})

await t.test('README.md and docs/clients.md show programs that other tests run, unchanged', async t => {
  for (
    const [page, file] of [['README.md', 'examples/host.js'], [
      'docs/clients.md',
      'test/clients/typescript/example.ts'
    ]] as const
  ) {
    t.match(read(page), `\n\`\`\`${file.slice(-2)}\n${read(file)}\`\`\`\n`, file)
  }
})

await t.test('README.md has at most 150 lines', async t => {
  t.ok(read('README.md').split('\n').length <= 151)
})

await t.test('the table of requests in README.md has every path of the API, and no other', async t => {
  const { paths } = parseYaml(read('openapi.yaml')) as { paths: Record<string, unknown> }
  const [, requests = ''] = /^## API\n(.*?)^## /ms.exec(read('README.md')) ?? []
  const shown = [...requests.matchAll(/^\| (.*?) \| /gm)]
    .flatMap(([, cell = '']) => [...cell.matchAll(/`(?:GET )?(\/[^`?]*)/g)].map(([, path = '']) => path))
  // The routes of the description are not part of the description itself.
  const descriptions = ['/docs', '/openapi.yaml', '/openapi.json']
  t.strictSame(shown.sort(), [...Object.keys(paths), ...descriptions].sort())
})

await t.test('docs/README.md links to every page of docs', async t => {
  const index = read('docs/README.md')
  const pages = readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.md') && name !== 'README.md')
  t.ok(pages.length > 15)
  for (const page of pages) t.match(index, `](${page.replaceAll('\\', '/')})`, page)
})

await t.test('source files that the documents name exist', async t => {
  const pages = readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.md'))
    .map(name => join('docs', name))
  const path = /`((?:backends|bench|lib|plugins|routes|schemas|scripts|test)\/[\w./-]+)`/g
  const named = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', ...pages].flatMap(page =>
    [...readFileSync(join(root, page), 'utf8').matchAll(path)].map(([, file = '']) => ({ page, file })))
  t.ok(named.length > 50)
  t.strictSame(named.filter(({ file }) => !existsSync(join(root, file))), [])
})

await t.test('links between the documents lead to files and headings that exist', async t => {
  const pages = readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.md'))
    .map(name => join('docs', name))
  /** Returns the anchors of a page as GitHub and Gitea make them. */
  const anchors = (page: string): string[] =>
    [...read(page).matchAll(/^#+ (.*)$/gm)]
      .map(([, heading = '']) => heading.toLowerCase().replaceAll(/[^\w\s-]/g, '').replaceAll(' ', '-'))
  for (const page of ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md', ...pages]) {
    for (const [, path = '', anchor] of read(page).matchAll(/\]\(([^)#:]*)(?:#([^)]*))?\)/g)) {
      const target = path === '' ? page : join(page, '..', path)
      t.ok(existsSync(join(root, target)), `${page}: ${path}`)
      if (anchor !== undefined) t.ok(anchors(target).includes(anchor), `${page}: ${path}#${anchor}`)
    }
  }
})

await t.test('docs/http.md and docs/downloads.md name every response header that a script may read', async t => {
  const text = `${read('docs/http.md')}\n${read('docs/downloads.md')}`
  for (const header of exposedHeaders) t.ok(text.includes(`\`${header}\``), header)
})

await t.test('docs/operations.md and docs/downloads.md name every metric of the registry, and no other', async t => {
  const app = Fastify({ logger: false })
  t.teardown(async () => { await app.close() })
  const config = { oci: { registry: join(root, 'examples/registry') }, cache: { directory: t.testdir({}) } }
  await app.register(registry, { config })
  const { body } = await app.inject('/metrics')
  const ofProcess = /^(?:process|nodejs)_/
  const defined = [...body.matchAll(/^# TYPE (\w+) /gm)].map(([, name = '']) => name).filter(name =>
    !ofProcess.test(name)
  )
  const metricTables = `${read('docs/operations.md')}\n${read('docs/downloads.md')}`.matchAll(/^\| Metric \|.*?\n\n/gms)
  const documented = [...metricTables]
    .flatMap(([table]) => [...table.matchAll(/^\| (.*?) \| /gm)])
    .flatMap(([, cell = '']) => [...cell.matchAll(/`(\w+)/g)].map(([, name = '']) => name))
  t.strictSame(documented.sort(), defined.sort())
})

await t.test('docs/performance.md has the results of every benchmark', async t => {
  const text = read('docs/performance.md')
  for (const part of parts) {
    const [, measured = ''] = new RegExp(`<!-- measured: ${part} -->(.*?)<!-- /measured -->`, 's').exec(text) ?? []
    t.match(measured, /^\n\nMeasured by `npm run bench[^`]*` on \d{4}-\d\d-\d\d: .*\n\|(?: ?---|:?-+:?)/s, part)
    t.notMatch(measured, /\/(?:home|root|tmp|work|Users)\//, `${part} has no path of the machine`)
  }
  t.equal(text.match(/<!-- measured: /g)?.length, parts.length)
})

await t.test('a benchmark replaces its own part of the document', async t => {
  const document =
    'Before.\n<!-- measured: scale -->\nold\n<!-- /measured -->\n<!-- measured: crawl -->\nkept\n<!-- /measured -->\n'
  t.equal(
    replacePart(document, 'scale', '| $1 | new |\n'),
    'Before.\n<!-- measured: scale -->\n\n| $1 | new |\n\n<!-- /measured -->\n<!-- measured: crawl -->\nkept\n<!-- ' +
      '/measured -->\n'
  )
  t.throws(() => replacePart(document, 'requests', 'text'), /no measured part: requests/)
})

await t.test('the description of embedding shows the example that other tests run, and names every export', async t => {
  const text = read('docs/embedding.md')
  t.match(text, `\n\`\`\`ts\n${read('examples/host.ts')}\`\`\`\n`)
  const declared = [
    ...`${read('app.ts')}\n${read('global.ts')}`.matchAll(/^export (?:type )?\{ ?([^}]+) \}|^export interface (\w+)/gm)
  ]
    .flatMap(([, list, name = '']) => list?.split(', ').map(word => word.replace(/^type /, '')) ?? [name])
  t.ok(declared.length > 20)
  for (const name of declared) t.match(text, new RegExp(`\\b${name}\\b`), name)
})

await t.test('the configuration table has every key of the schema, and no other', async t => {
  t.strictSame(rows('docs/configuration.md', 'configuration'), configKeys.map(({ key }) => key))
})

await t.test('the error table has every error of the code, and no other', async t => {
  t.strictSame(rows('docs/errors.md', 'errors'), Object.keys(errorTable))
})

await t.test('docs/architecture.md names paths that exist, and every entry of the source folders', async t => {
  const text = read('docs/architecture.md')
  const path = /(?<!\[)`([\w.-]+(?:\/[\w.-]+)*(?:\/|\.(?:ts|js|md|json|toml|yaml)))`/g
  const named = [...text.matchAll(path)].map(([, path = '']) => path)
  const linked = [...text.matchAll(/\]\(([^)#:]+)\)/g)].map(([, path = '']) => join('docs', path))
  t.ok(named.length > 150, 'the page names many paths')
  for (const path of new Set([...named, ...linked])) t.ok(existsSync(join(root, path)), path)
  for (const folder of ['plugins', 'backends', 'lib', 'routes', 'schemas']) {
    for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
      const path = `${folder}/${entry.name}${entry.isDirectory() ? '/' : ''}`
      t.ok(named.includes(path), path)
    }
  }
})

await t.test('CONTRIBUTING.md names scripts of the package, and links to files that exist', async t => {
  const text = read('CONTRIBUTING.md')
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
  const commands = text.matchAll(/^npm run ([\w:-]+)|`npm run ([\w:-]+)/gm)
  const named = [...commands].map(([, shown, quoted]) => shown ?? quoted ?? '')
  t.ok(named.length > 15)
  for (const name of new Set(named)) t.type(scripts[name], 'string', name)
  for (const [, path = ''] of text.matchAll(/\]\(([^)#:]+)\)/g)) t.ok(existsSync(join(root, path)), path)
})

await t.test('config.example.toml', async t => {
  await t.test('sets required keys only, for one Gitea and one OCI instance', async t => {
    const { config, embedded } = await loadConfig({ file: 'config.example.toml', env: {}, cwd: root })
    t.equal(embedded, false)
    t.strictSame(config, parseConfig({
      gitea: { url: config.gitea[0]?.url, organization: config.gitea[0]?.organization },
      oci: { registry: join(root, 'examples/registry') }
    }))
  })

  await t.test('shows every key with its default or a valid value', async t => {
    const everything = parse(read('config.example.toml').replaceAll(/^#(?=\w+ = )/gm, '')) as Record<string, unknown>
    for (const { key, parts, default: fallback } of configKeys) {
      const value = parts.reduce<unknown>(
        (table, name) => ([table].flat()[0] as Record<string, unknown>)[name],
        everything
      )
      t.not(value, undefined, key)
      if (fallback !== undefined) t.strictSame(value, fallback, key)
    }
    const instance = (kind: string) => [everything[kind]].flat()[0] as Record<string, unknown>
    // Some credentials exclude each other, and a directory has no keys of a server.
    delete instance('gitea')['token']
    for (const credentials of ['token', 'token_file', 'docker_config']) delete instance('oci')[credentials]
    instance('oci')['registry'] = 'https://registry.example.com'
    t.doesNotThrow(() => parseConfig(everything))
  })
})

await t.test('scripts/docs.ts', async t => {
  const dir = t.testdir({
    docs: {
      'stale.md':
        '# Errors\n\n<!-- generated: errors -->\nold | text\n<!-- /generated -->\n\nAfter.\n<!-- generated: ' +
          'configuration -->\n<!-- /generated -->\n',
      'plain.md': 'Nothing here.\n'
    }
  })

  await t.test('lists outdated files and writes nothing with --check', async t => {
    const { status, stdout } = docs(dir, '--check')
    t.equal(status, 1)
    t.equal(stdout, 'docs/stale.md is out of date: npm run docs\nconfig.example.toml is out of date: npm run docs\n')
    t.match(readFileSync(join(dir, 'docs/stale.md'), 'utf8'), 'old | text')
  })

  await t.test('replaces the text between its markers only', async t => {
    matchStrictly(t, docs(dir), { status: 0, stdout: 'docs/stale.md written\nconfig.example.toml written\n' })
    const text = readFileSync(join(dir, 'docs/stale.md'), 'utf8')
    t.match(text, /^# Errors\n\n<!-- generated: errors -->\n\n\| `error` /)
    t.notMatch(text, 'old | text')
    t.match(text, '\n\n<!-- /generated -->\n\nAfter.\n<!-- generated: configuration -->\n\n| Key ')
    t.equal(readFileSync(join(dir, 'docs/plain.md'), 'utf8'), 'Nothing here.\n')
    matchStrictly(t, docs(dir, '--check'), { status: 0, stdout: '' })
  })

  await t.test('fails on an unknown part', async t => {
    writeFileSync(join(dir, 'README.md'), '<!-- generated: weather -->\n<!-- /generated -->\n')
    const { status, stderr } = docs(dir, '--check')
    t.equal(status, 1)
    t.match(stderr, 'README.md: no such generated part: weather')
  })
})
