import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import t from 'tap'
import ts from 'typescript'
import { declarationsOf, typedExports, type Exports } from '../../scripts/declarations.ts'

const root = resolve(import.meta.dirname, '../..')
const { exports, dependencies, peerDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  exports: Exports,
  dependencies: object,
  peerDependencies: object
}
const types = typedExports(exports)

const read = (config: string, options: ts.CompilerOptions): ts.ParsedCommandLine => {
  const parsed = ts.getParsedCommandLineOfConfigFile(join(root, config), options, {
    ...ts.sys,
    onUnRecoverableConfigFileDiagnostic: diagnostic => {
      throw new Error(String(diagnostic.messageText))
    }
  })
  if (parsed === undefined) throw new Error(`${config} cannot be read`)
  return parsed
}

// Below the project, where the packages that declarations import are found.
const built = t.testdir({})
const build = read('tsconfig.build.json', { noCheck: true, emitDeclarationOnly: true, outDir: join(built, 'dist') })
ts.createProgram(build.fileNames, build.options).emit()

/** Compiles files as a host would, against the declarations of the package; returns one line for each error. */
function errorsOf (...files: string[]): string[] {
  const { options } = read('tsconfig.json', {
    paths: Object.fromEntries(
      Object.entries(types).map(([subpath, file]) => [join('extension-registry', subpath), [join(built, file)]])
    )
  })
  const program = ts.createProgram(files.map(file => join(root, file)), options)
  return ts.getPreEmitDiagnostics(program).map(({ file, start, messageText }) => {
    const line = file === undefined ? 0 : file.getLineAndCharacterOfPosition(start ?? 0).line + 1
    return `${file?.fileName ?? ''}:${line} ${ts.flattenDiagnosticMessageText(messageText, ' ')}`
  })
}

await t.test('the declarations of the encapsulated plugin do not extend types of Fastify, directly or by an ' +
  'import', async t => {
  const { packages, augmentations, files } = declarationsOf(built, types['.'] ?? '')
  t.strictSame(augmentations, [])
  t.ok(files.length > 5, 'the import graph is followed')
  t.strictSame(packages.filter(name => !/^(node:|node$)/.test(name)), ['@sinclair/typebox', 'fastify'])
  for (const name of ['@sinclair/typebox', 'fastify']) {
    t.ok(name in { ...dependencies, ...peerDependencies }, `${name} is installed with the package`)
  }
})

await t.test('the declarations of the plugin without encapsulation add one decorator only', async t => {
  const { packages, augmentations } = declarationsOf(built, types['./global'] ?? '')
  t.strictSame(augmentations, [{
    file: 'dist/global.d.ts',
    text: "declare module 'fastify' { interface FastifyInstance { registry: Registry; } }"
  }])
  t.strictSame(packages.filter(name => !/^(node:|node$)/.test(name)), ['@sinclair/typebox', 'fastify'])
})

await t.test('a host of the encapsulated plugin compiles with valid code and fails with invalid code', async t => {
  t.strictSame(errorsOf('test/types/encapsulated.ts'), [])
})

await t.test('a host of the plugin without encapsulation compiles with valid code and fails with invalid ' +
  'code', async t => {
  t.strictSame(errorsOf('test/types/global.ts', 'examples/host.ts'), [])
})
