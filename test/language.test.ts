import { globSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import ts from 'typescript'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Words with a plain term in the glossary of CONTRIBUTING.md, and that term. */
const glossary: ReadonlyArray<{ pattern: RegExp, use: string }> = [
  { pattern: /\b(?:who|whom|whoever|whatever|what)\b/i, use: 'the noun: request, client, response, entry, file' },
  { pattern: /\b(?:question|questions|ask|asks|asked|asking)\b/i, use: 'request' },
  { pattern: /\b(?:answer|answers|answered|answering)\b/i, use: 'response, result, return, respond' },
  { pattern: /\b(?:walk|walks|walked|walking)\b/i, use: 'list, crawl, read' },
  { pattern: /\b(?:stand|stands|standing|stood) in\b(?! (?:the|a|an|its|one|this|that|their|[`[]))/i, use: 'stale' },
  { pattern: /\bold(?:est|er)? word\b|\b(?:its|their|last|own) word\b/i, use: 'stale entry, response' },
  { pattern: /\b(?:say|says|said|saying|tell|tells|told|telling)\b/i, use: 'report, return, log, state, contain' },
  { pattern: /\b(?:hear|hears|heard)\b/i, use: 'revalidate, refresh, receive' },
  { pattern: /\bbehind (?:it|that|them|those|the (?:caller|request|response|client|one))\b/i, use: 'in the background' },
  { pattern: /\bunder way\b/i, use: 'in progress' },
  { pattern: /\b(?:get|gets|got|getting|go|goes|went|going) on\b/i, use: 'resume, continue' },
  { pattern: /\b(?:leave|leaves|left|leaving) (?:it |them )?out\b/i, use: 'skip, skipped' },
  { pattern: /\bwhat is young\b/i, use: 'young generation' },
  { pattern: /\b(?<!\bthere )(?:is|are) no (?!longer\b|more\b)/i, use: 'is not a' },
  { pattern: /\b(?:knows?|knew|wants?|wanted|wanting|looks? away)\b/i, use: 'store, read, require, ignore' },
  { pattern: /\b(?:an?|the|its|their|upper|lower) bounds?\b|\bbounded\b|\((?:most|least)\b/i, use: 'limit, maximum' }
]

/** Words of the glossary that a declared name may not contain. */
const namesPattern =
  /^(?:(?:un)?answer(?:s|ed)?|(?:un)?ask(?:s|ed|ing)?|questions?|tells?|told|says?|said|hears?|heard|walk(?:s|ed|ing)?|whom?)$/i

/** Texts that keep such a word, each with its reason. */
const exceptions: ReadonlyArray<{ file: RegExp, text: RegExp, reason: string }> = []

/** Longest sentence of README and docs, in words. */
const maxWords = 30

interface Text { line: number, text: string }

/** Recorded responses and binary files are data; the checked texts of this file are the glossary itself. */
const isData = (file: string): boolean =>
  /^(?:examples\/registry|test\/(?:recordings|fixtures|language\.test\.ts)|LICENSE)|package-lock\.json$/.test(file)

/** Installed, built and temporary files, and the history. */
const notOurs = ['**/node_modules', '**/dist', '**/generated', '.git', '.tap', '**/.tap', '**/tap-testdir-*']
const places = ['**/*', '**/.*', '.{ci,vscode,gitea,forgejo,github}/**/*']
const found = globSync(places, { cwd: root, exclude: notOurs, withFileTypes: true })
const files = found.filter(entry => entry.isFile()).map(entry => relative(root, join(entry.parentPath, entry.name)))
  .filter(file => !isData(file))
const contents = new Map(files.map(file => [file, readFileSync(`${root}${file}`, 'utf8')]))

/** Returns the text of a string, of a template or of several joined by `+`, with `x` in place of other values. */
function joined (node: ts.Node, parts: Set<ts.Node>): string {
  parts.add(node)
  if (ts.isStringLiteralLike(node)) return node.text
  if (ts.isTemplateExpression(node)) {
    for (const part of [node.head, ...node.templateSpans.map(({ literal }) => literal)]) parts.add(part)
    return [node.head.text, ...node.templateSpans.map(({ literal }) => literal.text)].join('x')
  }
  if (isSum(node)) return joined(node.left, parts) + joined(node.right, parts)
  parts.delete(node)
  return 'x'
}

const isSum = (node: ts.Node): node is ts.BinaryExpression =>
  ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.PlusToken

/** Joins the comments `// …` of consecutive lines to one text. */
function joinLines (comments: Map<number, string>, source: string): Map<number, string> {
  const found = new Map<number, string>()
  let last: { start: number, end: number } | undefined
  for (const [start, text] of [...comments].sort(([a], [b]) => a - b)) {
    const isLine = text.startsWith('//')
    if (isLine && last !== undefined && /^\n[ \t]*$/.test(source.slice(last.end, start))) {
      found.set(last.start, `${found.get(last.start)} ${text.slice(2).trim()}`)
      last.end = start + text.length
    } else {
      found.set(start, text)
      last = isLine ? { start, end: start + text.length } : undefined
    }
  }
  return found
}

/** Returns the comments, the texts and the declared names of a program, each with its line. */
function textsOf (file: string, source: string): { texts: Text[], names: Text[] } {
  const parsed = ts.createSourceFile(file, source, ts.ScriptTarget.Latest, true)
  const comments = new Map<number, string>()
  const texts = new Map<number, string>()
  const names = new Map<number, string>()
  const parts = new Set<ts.Node>()
  const inspect = (at: number): void => {
    const ranges = [...ts.getLeadingCommentRanges(source, at) ?? [], ...ts.getTrailingCommentRanges(source, at) ?? []]
    for (const { pos, end } of ranges) comments.set(pos, source.slice(pos, end))
  }
  const visit = (node: ts.Node): void => {
    inspect(node.getFullStart())
    inspect(node.end)
    const isText = ts.isStringLiteralLike(node) || ts.isTemplateExpression(node) || isSum(node)
    if (isText && !parts.has(node) && !ts.isImportDeclaration(node.parent)) {
      texts.set(node.getStart(), joined(node, parts))
    }
    const name = 'name' in node && !ts.isPropertyAccessExpression(node) && !ts.isImportSpecifier(node) && node.name
    if (typeof name === 'object' && ts.isIdentifier(name as ts.Node)) {
      names.set((name as ts.Identifier).getStart(), (name as ts.Identifier).text)
    }
    // A comment in front of a closing bracket is behind the last node of its list.
    ts.forEachChild(node, visit, nodes => {
      inspect(nodes.end)
      nodes.forEach(visit)
    })
  }
  visit(parsed)
  inspect(parsed.endOfFileToken.getFullStart())
  const listed = (found: Map<number, string>): Text[] =>
    [...found].map(([at, text]) => ({
      line: parsed.getLineAndCharacterOfPosition(at).line + 1,
      text: text.replace(/\n\s*\*?\s?/g, ' ')
    }))
  return { texts: [...listed(joinLines(comments, source)), ...listed(texts)], names: listed(names) }
}

/** Returns the texts of a document: paragraphs, items of lists, cells of tables, and the comments of its code. */
function paragraphsOf (source: string): Text[] {
  const found: Text[] = []
  let code = false
  let open: Text | undefined
  for (const [at, quoted] of source.split('\n').entries()) {
    const line = quoted.replace(/^\s*> ?/, '')
    if (/^\s*```/.test(line)) code = !code
    const [, comment] = code ? /(?:^|\s)(?:#|\/\/)\s+(.*)/.exec(line) ?? [] : []
    if (comment !== undefined) found.push({ line: at + 1, text: comment })
    if (code || /^\s*(?:$|[|#]|[-*] |\d+\. |```)/.test(line)) open = undefined
    if (code || /^\s*(?:$|```)/.test(line)) continue
    if (line.startsWith('|')) found.push(...line.split(/(?<!\\)\|/).map(text => ({ line: at + 1, text })))
    else if (open === undefined) found.push(open = { line: at + 1, text: line })
    else open.text += ` ${line.trim()}`
  }
  return found
}

/** Returns the lines of a file; consecutive lines of one comment are one text. */
function linesOf (source: string): Text[] {
  const found: Text[] = []
  let open: Text | undefined
  for (const [at, text] of source.split('\n').entries()) {
    const [, comment] = /^\s*(?:#|--)\s?(.*)/.exec(text) ?? []
    if (comment !== undefined && open !== undefined) open.text += ` ${comment}`
    else found.push(open = { line: at + 1, text })
    if (comment === undefined) open = undefined
  }
  return found
}

/** Returns a text without its quoted code and without the targets of its links. */
const plain = (text: string): string => text.replace(/`[^`]*`/g, '`x`').replace(/\]\([^)]*\)/g, '](x)')

/** Returns the words of the glossary in the texts and names of a file, as `file:line "word": term`. */
function violationsOf (file: string, source: string): string[] {
  const isProgram = /\.(?:ts|js)$/.test(file)
  const { texts, names } = isProgram
    ? textsOf(file, source)
    : { texts: file.endsWith('.md') ? paragraphsOf(source) : linesOf(source), names: [] }
  const isAllowed = (text: string) =>
    exceptions.some(exception => exception.file.test(file) && exception.text.test(text))
  const words = texts.flatMap(({ line, text }) =>
    glossary.flatMap(({ pattern, use }) => {
      const word = pattern.exec(plain(text))?.[0]
      return word === undefined || isAllowed(text) ? [] : [`${file}:${line} "${word}": ${use}`]
    })
  )
  const parts = (name: string) => name.split(/_|(?<=[a-z0-9])(?=[A-Z])/)
  const named = names.filter(({ text }) => parts(text).some(part => namesPattern.test(part)) && !isAllowed(text))
  return [...words, ...named.map(({ line, text }) => `${file}:${line} name ${text}`)]
}

await t.test('comments, messages, documents, names and test names use the terms of the glossary', async t => {
  const violations = [...contents].flatMap(([file, source]) => violationsOf(file, source))
  t.strictSame(violations.slice(0, 50), [], `${violations.length} in all`)
})

await t.test(`sentences of README and docs have at most ${maxWords} words`, async t => {
  const sentences = [...contents].filter(([file]) => /^(?:[A-Z]+|docs\/.*)\.md$/.test(file)).flatMap(([file, source]) =>
    paragraphsOf(source).flatMap(({ line, text }) =>
      plain(text).split(/(?<=[.!?])\s/).map(sentence => ({ at: `${file}:${line}`, sentence }))
    )
  )
  t.ok(sentences.length > 1000, 'all documents are read')
  const isLong = (sentence: string) => sentence.split(/\s+/).filter(word => /\w/.test(word)).length > maxWords
  t.strictSame(sentences.filter(({ sentence }) => isLong(sentence)), [])
})

await t.test('words of the glossary are found in each kind of text', async t => {
  const cases: Array<[file: string, source: string]> = [
    ['a.ts', '// What is kept'],
    ['a.ts', 'const text = `was asked`'],
    ['a.ts', 'const told = 1'],
    ['a.ts', 'interface A { lastAnswer: string }'],
    ['a.ts', 'f([ // who comes first\n])'],
    ['a.md', 'A file that is\nleft out.'],
    ['a.md', '| a | the walk |'],
    ['a.toml', '# Tells the port'],
    ['a.lua', '-- no one is asked'],
    ['a.ts', '// The entry is left\n// out.'],
    ['a.ts', "const text = 'is left ' +\n  'out'"],
    ['a.ts', 'const text = `$' + '{kind} is told`'],
    ['a.ts', 'const unanswered = 1'],
    ['a.md', '```toml\n# Tells the port\n```'],
    ['a.md', '> The entry is left\n> out.'],
    ['a.md', '| Size (most, MiB) |'],
    ['a.toml', '# The entry is left\n# out.'],
    ['package.json', '{ "description": "The cache knows the name" }']
  ]
  for (const [file, source] of cases) t.equal(violationsOf(file, source).length, 1, source)
  const plainTexts: Array<[file: string, source: string]> = [
    ['a.ts', "// There is no file. It is no longer behind a proxy.\nconst response = 'at most'"],
    ['a.md', 'Run `ask` first.\n\n```\nwho\n```']
  ]
  for (const [file, source] of plainTexts) t.strictSame(violationsOf(file, source), [], source)
})

await t.test('each exception is needed and has a reason', async t => {
  for (const { file, text, reason } of exceptions) {
    t.not(reason, '')
    t.ok(files.some(name => file.test(name) && text.test(contents.get(name) ?? '')), `${file} ${text}`)
  }
})
