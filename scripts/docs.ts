// Writes the generated parts of README.md and docs/*.md, between `<!-- generated: … -->` and `<!-- /generated -->`, and
// config.example.toml. With --check it writes nothing, and fails when a file is out of date.
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { KindGuard } from '@sinclair/typebox'
import { stringify } from 'smol-toml'
import { configKeys, type ConfigKey } from '../lib/config/keys.ts'
import { errorTable } from '../lib/errors.ts'
import { Config } from '../schemas/config.ts'

const toml = (name: string, value: unknown): string => stringify({ [name]: value }).trim()
const valueOf = (name: string, value: unknown): string => toml(name, value).slice(name.length + ' = '.length)

function table (head: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

function configurationRow (
  { key, environment, expected, required, default: value, description, secret }: ConfigKey
): string[] {
  const fallback = value === undefined ? (required ? '*required*' : '') : `\`${valueOf('key', value)}\``
  return [`\`${key}\``, `\`${environment}\``, expected, fallback, secret ? `${description} (secret)` : description]
}

// npm runs scripts in the directory of the project.
const root = process.cwd()
const parts: Readonly<Record<string, string>> = {
  configuration: table(['Key', 'Environment', 'Value', 'Default', 'Meaning'], configKeys.map(configurationRow)),
  errors: table(
    ['`error`', 'Status', 'When'],
    Object.entries(errorTable).map(([type, { status, when }]) => [`\`${type}\``, String(status), when])
  )
}

/** Returns a document with current generated parts. Throws when a part is unknown. */
function fill (document: string, file: string): string {
  return document.replace(
    /(<!-- generated: (\S+) -->\n).*?(<!-- \/generated -->)/gs,
    (_whole, start: string, name: string, end: string) => {
      const part = parts[name]
      if (part === undefined) throw new Error(`${file}: no such generated part: ${name}`)
      return `${start}\n${part}\n\n${end}`
    }
  )
}

function exampleKey ({ parts, default: value, example, description, required }: ConfigKey): string {
  const name = parts.at(-1) ?? ''
  return `# ${description}\n${required ? '' : '#'}${toml(name, value ?? example)}`
}

/** Returns one table of config.example.toml with its keys, in lines. */
function exampleTable (path: readonly string[], description: string, listed: boolean): string[] {
  const keys = configKeys.filter(({ parts }) => parts.slice(0, -1).join('.') === path.join('.'))
  const head = `# ${description}\n${listed ? `[[${path.join('.')}]]` : `[${path.join('.')}]`}`
  return [head, ...keys.map(exampleKey)]
}

function example (): string {
  const blocks = Object.entries(Config.properties).flatMap(([section, schema]) => {
    const table = KindGuard.IsArray(schema) ? schema.items : schema
    const nested = Object.entries(table.properties).filter(([, child]) => KindGuard.IsObject(child))
    return [
      ...exampleTable([section], table.description ?? '', KindGuard.IsArray(schema)),
      ...nested.flatMap(([name, child]) => exampleTable([section, name], child.description ?? '', false))
    ]
  })
  return [
    '# Configuration of the extension registry, generated from schemas/config.ts. A line that starts with # without ' +
    'a space\n' +
    '# shows a default or an example value. Environment variables have priority over this file: docs/configuration.md.',
    ...blocks
  ].join('\n\n') + '\n'
}

/** Returns the outdated files of a project, with their new content. */
async function outdated (root: string): Promise<Map<string, string>> {
  const docs = (await readdir(join(root, 'docs'))).filter(name => name.endsWith('.md')).map(name => join('docs', name))
  const changed = new Map<string, string>()
  for (const file of ['README.md', ...docs, 'config.example.toml']) {
    const current = await readFile(join(root, file), 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error
      return ''
    })
    const expected = file === 'config.example.toml' ? example() : fill(current, file)
    if (expected !== current) changed.set(file, expected)
  }
  return changed
}

const { values: { check = false } } = parseArgs({ options: { check: { type: 'boolean' } } })
const changed = await outdated(root)
for (const [file, text] of changed) {
  console.log(check ? `${file} is out of date: npm run docs` : `${file} written`)
  if (!check) await writeFile(join(root, file), text)
}
if (check && changed.size > 0) process.exitCode = 1
