import { forEachYielding } from '../../lib/yielding.ts'
import type { Extension } from '../../schemas/extension.ts'

/** An extension with its texts in lower case. `text` has all of them; the description begins at `descriptionAt`. */
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

/** Returns whether the character at `at` of a text in lower case is a letter or a digit. */
function isInWord (text: string, at: number): boolean {
  const code = text.charCodeAt(at)
  return code < 128 ? (code >= 97 && code <= 122) || (code >= 48 && code <= 57) : wordCharacter.test(text.charAt(at))
}

/**
 * Returns whether `text` has `query` where a word starts: at `start`, or after a character that is neither letter nor
 * digit. `found` is the first position of `query`, or -1.
 */
function atWordStart (text: string, query: string, found: number, start = 0): boolean {
  for (let at = found; at !== -1; at = text.indexOf(query, at + 1)) {
    if (at === start || !isInWord(text, at - 1)) return true
  }
  return false
}

/**
 * Returns how well an extension matches, smaller is better; undefined when it does not contain the query. `query` is in
 * lower case.
 */
function rank ({ name, tags, text, descriptionAt }: Searchable, query: string): number | undefined {
  let found = text.indexOf(query)
  if (found === -1) return undefined
  // The description is last in the text: a query that is found first there is in neither name nor tags.
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

/** Creates the collection of the matches of a query. */
function createMatches (query: string) {
  const lower = query.trim().toLowerCase()
  const ranks: Extension[][] = []
  return {
    add (candidate: Searchable): void {
      const at = rank(candidate, lower)
      if (at !== undefined) (ranks[at] ??= []).push(candidate.extension)
    },

    /** Returns the matches, the best ones first. */
    ranked: (): Extension[] => ranks.flat()
  }
}

/**
 * Returns every extension that has `query` in its name, a tag or its description, in any case. Exact names are first,
 * then name prefixes, word starts in the name, other matches in the name, tags, word starts in the description, other
 * matches. Equal matches keep their order.
 */
export function search (candidates: Iterable<Searchable>, query: string): Extension[] {
  const matches = createMatches(query)
  for (const candidate of candidates) matches.add(candidate)
  return matches.ranked()
}

/** Returns the same as {@link search} for the extensions that `prepare` makes searchable; yields to the event loop. */
export async function searchYielding (
  extensions: Iterable<Extension>,
  prepare: (extension: Extension) => Searchable,
  query: string
): Promise<Extension[]> {
  const matches = createMatches(query)
  await forEachYielding(extensions, extension => { matches.add(prepare(extension)) })
  return matches.ranked()
}
