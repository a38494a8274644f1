import { readFile, writeFile } from 'node:fs/promises'

const file = new URL('../docs/performance.md', import.meta.url)

/** Parts of docs/performance.md that the benchmarks write. */
export const parts = ['cpu', 'requests', 'downloads', 'scale', 'crawl'] as const
export type Part = typeof parts[number]

/** Returns the document with one measured part replaced. Throws when the document does not have the part. */
export function replacePart (document: string, part: Part, text: string): string {
  const pattern = new RegExp(`(<!-- measured: ${part} -->\n).*?(<!-- /measured -->)`, 's')
  if (!pattern.test(document)) throw new Error(`docs/performance.md has no measured part: ${part}`)
  return document.replace(pattern, (_whole, start: string, end: string) => `${start}\n${text.trim()}\n\n${end}`)
}

/** Writes the results of one benchmark to docs/performance.md. */
export async function writePart (part: Part, text: string): Promise<void> {
  await writeFile(file, replacePart(await readFile(file, 'utf8'), part, text))
}
