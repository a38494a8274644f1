/** Maximum characters of a description and of any other text, and maximum tags, that are shown of one extension. */
export const maxDescription = 4096
export const maxText = 256
export const maxTags = 64

/** Control characters, and marks that reorder or hide text. */
const unsafeCharacters =
  /[\p{Cc}\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb\u{e0000}-\u{e007f}]/gu

/** Returns a text of an upstream as one line of at most `maxLength` characters; undefined when it is empty. */
export function plainText (value: unknown, maxLength = maxText): string | undefined {
  if (typeof value !== 'string') return undefined
  // A text may have megabytes: it is cut before the patterns read it, and to its final length after that.
  const line = value.slice(0, 4 * maxLength).replace(/\s+/g, ' ').replace(unsafeCharacters, '').replace(/ {2,}/g, ' ')
    .trim()
  // The cut may divide a surrogate pair: the first half is then removed too.
  const text = line.slice(0, maxLength).replace(/[\ud800-\udbff]$/, '').toWellFormed().trim()
  return text === '' ? undefined : text
}

/** Returns the tags that are shown, each once, at most `maxTags`; undefined when there are no tags. */
export function plainTags (values: Iterable<unknown>): string[] | undefined {
  const tags = new Set<string>()
  for (const value of values) {
    if (tags.size === maxTags) break
    const tag = plainText(value)
    if (tag !== undefined) tags.add(tag)
  }
  return tags.size === 0 ? undefined : [...tags]
}
