import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import ts from 'typescript'

const folder = fileURLToPath(new URL('.', import.meta.url))

/** Returns an expression without its parentheses and type assertions. */
function bare (node: ts.Expression): ts.Expression {
  return ts.isParenthesizedExpression(node) || ts.isAsExpression(node) || ts.isSatisfiesExpression(node)
    ? bare(node.expression)
    : node
}

/** Returns the value of a constant of the same file; of another expression, the expression. */
function valueOf (node: ts.Expression, constants: ReadonlyMap<string, ts.Expression>): ts.Expression {
  const value = bare(node)
  return ts.isIdentifier(value) ? constants.get(value.text) ?? value : value
}

/** Returns whether a function is async. */
const isAsync = (node: ts.Node): boolean => ts.isFunctionLike(node) && ts.canHaveModifiers(node) &&
  ts.getModifiers(node)?.some(({ kind }) => kind === ts.SyntaxKind.AsyncKeyword) === true

/**
 * Returns the assertions of a source that pass for other values than the stated one, each as `line: reason`. `t.match`
 * accepts longer lists, objects with further keys and longer numbers; an empty pattern matches everything; a promise is
 * always truthy.
 */
function looseAssertions (text: string): string[] {
  const file = ts.createSourceFile('test.ts', text, ts.ScriptTarget.Latest, true)
  const constants = new Map<string, ts.Expression>()
  const asyncNames = new Set(['inject', 'then', 'catch', 'finally'])
  const calls: Array<{ call: ts.CallExpression, method: string }> = []
  const visit = (node: ts.Node): void => {
    if (ts.isVariableDeclaration(node) && ts.isIdentifier(node.name) && node.initializer !== undefined) {
      const value = bare(node.initializer)
      constants.set(node.name.text, value)
      if (isAsync(value)) asyncNames.add(node.name.text)
    }
    if (ts.isFunctionDeclaration(node) && node.name !== undefined && isAsync(node)) asyncNames.add(node.name.text)
    if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression)) {
      calls.push({ call: node, method: node.expression.name.text })
    }
    ts.forEachChild(node, visit)
  }
  visit(file)

  /** Returns whether an expression calls a function of this file that is async, or a method that returns a promise. */
  const isPromise = (node: ts.Expression): boolean => {
    if (!ts.isCallExpression(node)) return false
    const { expression } = node
    if (isAsync(bare(expression))) return true
    return asyncNames.has(ts.isPropertyAccessExpression(expression) ? expression.name.text : expression.getText())
  }

  const reasonOf = (method: string, args: readonly ts.Expression[]): string | undefined => {
    const [found, pattern] = args
    if (found === undefined) return undefined
    // String.prototype.match has one argument.
    if (['match', 'notMatch', 'has', 'hasStrict'].includes(method) && pattern !== undefined) {
      const value = valueOf(pattern, constants)
      const choices = ts.isConditionalExpression(value) ? [bare(value.whenTrue), bare(value.whenFalse)] : [value]
      if (choices.some(choice => ts.isObjectLiteralExpression(choice) || ts.isArrayLiteralExpression(choice))) {
        return `${method} compares an object or a list: use matchStrictly, t.strictSame or t.equal`
      }
      if (choices.some(choice => /^(?:''|""|``|undefined|null|\/\(\?:\)\/)$/.test(choice.getText()))) {
        return `${method} has an empty pattern`
      }
      if (method === 'match' && choices.some(choice => /\} (?:\d+|\$\{[\w.]+\})['"`/]$/.test(choice.getText()))) {
        return 'match accepts further digits after a number: use hasLine'
      }
    }
    if (['ok', 'notOk'].includes(method) && isPromise(bare(found))) return `${method} of a promise`
    if (
      ['equal', 'same', 'strictSame'].includes(method) && pattern !== undefined &&
      found.getText() === pattern.getText() &&
      !/\(/.test(found.getText())
    ) return `${method} compares a value with itself`
    return undefined
  }
  return calls.flatMap(({ call, method }) => {
    const reason = reasonOf(method, call.arguments)
    return reason === undefined ? [] : [`${file.getLineAndCharacterOfPosition(call.getStart()).line + 1}: ${reason}`]
  })
}

await t.test('assertions of lists, objects and headers accept the stated value only', async t => {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(file => file.endsWith('.ts') && !/(?:^|\/)node_modules\/|^assertions\.test\.ts$/.test(file))
  t.ok(files.length > 200, 'all folders are read')
  for (const file of files) {
    const found = looseAssertions(readFileSync(`${folder}${file}`, 'utf8'))
    t.strictSame(found, [], file)
  }
})

await t.test('a loose assertion is found, a strict one is not', async t => {
  const loose = [
    't.match(list, [1])',
    't.match(headers, { etag: /"/ })',
    't.match(value, (pattern as object))\nconst pattern = { a: 1 }',
    't.match(value, last ? [1] : /1/)',
    't.notMatch(value, { a: 1 })',
    't.has(value, { a: 1 })',
    "t.match(text, '')",
    "t.match(metrics, 'a_total{b=\"c\"} 1')",
    't.match(metrics, /a_total\\{b="c"\\} 1/)',
    't.equal(value.at, value.at)',
    "t.ok(app.inject('/livez'))",
    't.ok(response.json().then(isValid))',
    't.ok(isValid())\nasync function isValid () {}',
    't.notOk((isValid()))\nconst isValid = async () => false'
  ]
  for (const source of loose) t.equal(looseAssertions(source).length, 1, source)
  const strict = [
    't.match(text, /1/)',
    "t.match(text, 'part')",
    'matchStrictly(t, list, [1])',
    't.strictSame(list, [1])',
    "'a'.match(/a/)",
    't.equal(count(), count())',
    't.ok(await isValid())\nasync function isValid () {}',
    't.ok(isValid())\nfunction isValid () {}'
  ]
  for (const source of strict) t.strictSame(looseAssertions(source), [], source)
})
