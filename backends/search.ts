import type { Extension } from '../schemas/extension.ts'

/** An extension with its texts ready to be searched. */
export interface Searchable { extension: Extension, name: string, description: string, tags: readonly string[], all: string }

export function searchable (extension: Extension): Searchable {
  const name = extension.name.toLowerCase()
  const description = extension.description.toLowerCase()
  const tags = (extension.tags ?? []).map(tag => tag.toLowerCase())
  return { extension, name, description, tags, all: [name, ...tags, description].join('\n') }
}

const wordCharacter = /[\p{L}\p{N}]/u

/** Whether `text` has `query` where a word starts: at its beginning, or behind something that is neither letter nor digit. */
function atWordStart (text: string, query: string): boolean {
  for (let at = text.indexOf(query); at !== -1; at = text.indexOf(query, at + 1)) {
    if (at === 0 || !wordCharacter.test(text.charAt(at - 1))) return true
  }
  return false
}

/** How well an extension fits, smaller is better; undefined when the query is nowhere in it. `query` is in lower case. */
function rank ({ name, description, tags, all }: Searchable, query: string): number | undefined {
  // Most are in none of them.
  if (!all.includes(query)) return undefined
  if (name === query) return 0
  if (name.startsWith(query)) return 1
  if (name.includes(query)) return atWordStart(name, query) ? 2 : 3
  if (tags.some(tag => tag.includes(query))) return 4
  if (description.includes(query)) return atWordStart(description, query) ? 5 : 6
  return undefined
}

/**
 * Every extension that has `query` in its name, a tag or its description, whatever the case: exact name first, then name
 * prefix, word start in the name, elsewhere in it, tag, word start in the description, elsewhere in it; ties in the order given.
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
