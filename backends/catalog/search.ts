import type { Extension } from '../../schemas/extension.ts'

/** An extension with its texts ready to be searched: all of them in one, the description last. */
export interface Searchable {
  extension: Extension
  name: string
  tags: readonly string[]
  text: string
  descriptionAt: number
}

export function searchable (extension: Extension): Searchable {
  const name = extension.name.toLowerCase()
  const tags = (extension.tags ?? []).map(tag => tag.toLowerCase())
  const before = [name, ...tags, ''].join('\n')
  return { extension, name, tags, text: before + extension.description.toLowerCase(), descriptionAt: before.length }
}

const wordCharacter = /[\p{L}\p{N}]/u

/** Whether there is a letter or a digit in a text in lower case. */
function isInWord (text: string, at: number): boolean {
  const code = text.charCodeAt(at)
  return code < 128 ? (code >= 97 && code <= 122) || (code >= 48 && code <= 57) : wordCharacter.test(text.charAt(at))
}

/**
 * Whether `text` has `query`, first at `found`, where a word starts: at `start`, or behind something that is neither
 * letter nor digit.
 */
function atWordStart (text: string, query: string, found: number, start = 0): boolean {
  for (let at = found; at !== -1; at = text.indexOf(query, at + 1)) {
    if (at === start || !isInWord(text, at - 1)) return true
  }
  return false
}

/**
 * How well an extension fits, smaller is better; undefined when the query is nowhere in it. `query` is in lower case.
 */
function rank ({ name, tags, text, descriptionAt }: Searchable, query: string): number | undefined {
  let found = text.indexOf(query)
  if (found === -1) return undefined
  // What is found in the description first is in it alone.
  if (found < descriptionAt) {
    if (name === query) return 0
    if (name.startsWith(query)) return 1
    if (name.includes(query)) return atWordStart(name, query, name.indexOf(query)) ? 2 : 3
    if (tags.some(tag => tag.includes(query))) return 4
    found = text.indexOf(query, descriptionAt)
    if (found === -1) return undefined
  }
  return atWordStart(text, query, found, descriptionAt) ? 5 : 6
}

/**
 * Every extension that has `query` in its name, a tag or its description, whatever the case: exact name first, then
 * name prefix, word start in the name, elsewhere in it, tag, word start in the description, elsewhere in it; ties in
 * the order given.
 */
export function search (candidates: readonly Searchable[], query: string): Extension[] {
  const lower = query.trim().toLowerCase()
  const ranks: Extension[][] = []
  for (const candidate of candidates) {
    const at = rank(candidate, lower)
    if (at !== undefined) (ranks[at] ??= []).push(candidate.extension)
  }
  return ranks.flat()
}
