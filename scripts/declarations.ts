// Removes the declaration files of inner modules from a build: the package has those that its exports load.
import { readFileSync, readdirSync, rmSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import ts from 'typescript'

export interface Exports { [subpath: string]: string | { types: string } }

export interface Declarations {
  /** Declaration files, relative to the package, that a host loads with an import of the export. */
  files: string[]
  /** Packages that these files import. */
  packages: string[]
  /** Files that declare something outside of themselves, each with its declarations. */
  augmentations: Array<{ file: string, text: string }>
}

/** Returns the text of every `declare module` and `declare global` of a declaration file. */
function augmentationsOf (name: string, text: string): string[] {
  const { statements } = ts.createSourceFile(name, text, ts.ScriptTarget.Latest)
  return statements.filter(ts.isModuleDeclaration).map(statement =>
    text.slice(statement.pos, statement.end).replaceAll(/\/\*.*?\*\//gs, '').replaceAll(/\s+/g, ' ').trim()
  )
}

/** Reads the declaration files of a built package that an import of one of its exports loads. */
export function declarationsOf (folder: string, types: string): Declarations {
  const files: string[] = []
  const packages = new Set<string>()
  const augmentations: Declarations['augmentations'] = []
  const visit = (path: string): void => {
    const file = relative(folder, path)
    if (files.includes(file)) return
    files.push(file)
    const text = readFileSync(path, 'utf8')
    for (const found of augmentationsOf(path, text)) augmentations.push({ file, text: found })
    const { importedFiles, referencedFiles, typeReferenceDirectives } = ts.preProcessFile(text)
    for (const { fileName } of typeReferenceDirectives) packages.add(fileName)
    for (const { fileName } of [...importedFiles, ...referencedFiles]) {
      if (fileName.startsWith('.')) visit(join(dirname(path), fileName.replace(/\.[jt]s$/, '.d.ts')))
      else packages.add(fileName)
    }
  }
  visit(join(folder, types))
  return { files: files.sort(), packages: [...packages].sort(), augmentations }
}

/** Returns the `types` of each export that has code. */
export function typedExports (exports: Exports): Record<string, string> {
  return Object.fromEntries(
    Object.entries(exports).flatMap(([subpath, target]) => typeof target === 'object' ? [[subpath, target.types]] : [])
  )
}

/** Removes declaration files that no export of the package in `folder` loads. */
function prune (folder: string): void {
  const { exports } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { exports: Exports }
  const expected = Object.values(typedExports(exports)).flatMap(types => declarationsOf(folder, types).files)
  for (const name of readdirSync(join(folder, 'dist'), { recursive: true, encoding: 'utf8' })) {
    const file = join('dist', name)
    if (file.endsWith('.d.ts') && !expected.includes(file)) rmSync(join(folder, file))
  }
}

// npm runs scripts in the directory of the project.
if (import.meta.main) prune(process.cwd())
