/** Most characters of a description, of any other text, and most tags, that are shown of one extension. */
export const maxDescription = 4096
export const maxText = 256
export const maxTags = 64

/** Control characters, and the marks that make a text read otherwise than it is written, or hide one in another. */
const unsafeCharacters =
  /[\p{Cc}\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu

/** One line of an upstream's text, bounded in length; undefined when there is none. */
export function plainText (value: unknown, maxLength = maxText): string | undefined {
  if (typeof value !== 'string') return undefined
  // Cut before as well as after: the pattern need not walk through megabytes.
  const line = value.slice(0, 4 * maxLength).replace(/\s+/g, ' ').replace(unsafeCharacters, '').replace(/ {2,}/g, ' ')
    .trim()
  // A pair that the cut divides goes whole.
  const text = line.slice(0, maxLength).replace(/[\ud800-\udbff]$/, '').toWellFormed().trim()
  return text === '' ? undefined : text
}

/** Tags as they are shown: each once, bounded in number; undefined when there is none. */
export function plainTags (values: Iterable<unknown>): string[] | undefined {
  const tags = new Set<string>()
  for (const value of values) {
    if (tags.size === maxTags) break
    const tag = plainText(value)
    if (tag !== undefined) tags.add(tag)
  }
  return tags.size === 0 ? undefined : [...tags]
}
