/** Endings of archives, the most usual first. */
const endings = ['.tar.gz', '.tgz', '.tar.xz', '.tar.zst', '.tar.bz2', '.tar', '.zip']

/** Whether a file name is an archive's. */
export const isArchive = (name: string): boolean =>
  endings.some(ending => name.length > ending.length && name.toLowerCase().endsWith(ending))

/** Returns an archive's name without its ending; the name itself where it has none. */
export const archiveStem = (name: string): string => {
  const ending = endings.find(ending => name.length > ending.length && name.toLowerCase().endsWith(ending))
  return ending === undefined ? name : name.slice(0, -ending.length)
}

/** The archive names of a stem, in the order in which they are preferred. */
export const archiveNames = (stem: string): string[] => endings.map(ending => stem + ending)

/** What a file name must not have: separators, control characters, and marks that reorder or hide text. */
const unsafe = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\\/:*?"<>|]+/gu

/**
 * A file name reduced to a base name that is safe in a header and on a disk: what stands behind the last separator,
 * without control and formatting characters, not hidden, at most 200 characters with its ending kept. Undefined when
 * nothing is left.
 */
export function safeFileName (name: string): string | undefined {
  const last = name.slice(Math.max(name.lastIndexOf('/'), name.lastIndexOf('\\')) + 1)
  // Nobody's patterns need to walk through megabytes.
  const short = last.length <= 4096 ? last : last.slice(0, 2048) + last.slice(-2048)
  const base = short.replace(unsafe, '_').replace(/^[.\s]+/, '').trimEnd()
  if (base === '' || /^_+$/.test(base)) return undefined
  return (base.length <= 200 ? base : base.slice(0, 180) + base.slice(-20)).toWellFormed()
}
