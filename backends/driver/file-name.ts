/** Endings of archives, the most common first. */
const endings = ['.tar.gz', '.tgz', '.tar.xz', '.tar.zst', '.tar.bz2', '.tar', '.zip']

/** Returns whether a file name is that of an archive. */
export const isArchive = (name: string): boolean =>
  endings.some(ending => name.length > ending.length && name.toLowerCase().endsWith(ending))

/** Returns an archive's name without its ending; the unchanged name when it has no such ending. */
export const archiveStem = (name: string): string => {
  const ending = endings.find(ending => name.length > ending.length && name.toLowerCase().endsWith(ending))
  return ending === undefined ? name : name.slice(0, -ending.length)
}

/** Returns the archive names of a stem, in order of preference. */
export const archiveNames = (stem: string): string[] => endings.map(ending => stem + ending)

/**
 * Characters that a file name must not have: separators, control characters, and marks that reorder or hide text.
 * Unicode also reserves unassigned code points for such marks, and programs hide them.
 */
const unsafe = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\u2065\ufff0-\ufff8\u{e0000}-\u{e007f}\\/:*?"<>|]+/gu

/**
 * Returns a file name as a base name that is safe in a header and on a disk; undefined when nothing remains of it. The
 * result is the part after the last separator, with other unsafe characters replaced by `_` and without leading dots.
 * It has at most 200 characters; the end of a longer name is kept.
 */
export function safeFileName (name: string): string | undefined {
  const last = name.slice(Math.max(name.lastIndexOf('/'), name.lastIndexOf('\\')) + 1)
  // A name may have megabytes: it is shortened before the patterns below read it.
  const short = last.length <= 4096 ? last : last.slice(0, 2048) + last.slice(-2048)
  const base = short.replace(unsafe, '_').replace(/^[.\s]+/, '').trimEnd()
  if (base === '' || /^_+$/.test(base)) return undefined
  return (base.length <= 200 ? base : base.slice(0, 180) + base.slice(-20)).toWellFormed()
}
