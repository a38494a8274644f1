/** A stored file. */
export interface StoreEntry {
  /** Size in bytes. */
  size: number
  /** Whether its content was verified by this process. */
  checked: boolean
  /** Number of readers; a file with readers is not evicted. */
  readers: number
  /** Time of the last record of a use on disk, in milliseconds of the store's clock. */
  used: number
}

/** A file that was found on disk. */
export interface FoundFile { digest: string, size: number, used: number }

/**
 * Creates the index of the stored files, in the order of their last use, and counts their bytes. `onEvict` removes the
 * file of an evicted entry.
 */
export function createStoreIndex (maxBytes: number, onEvict: (digest: string) => void) {
  /** Entries from the least to the most recently used one. */
  const entries = new Map<string, StoreEntry>()
  let bytes = 0
  let reserved = 0
  let evictions = 0

  function forget (digest: string): void {
    bytes -= entries.get(digest)?.size ?? 0
    entries.delete(digest)
  }

  /** Adds an entry, or updates the existing object, which its readers share. */
  function remember (digest: string, size: number, checked: boolean): StoreEntry {
    const entry = entries.get(digest) ?? { size: 0, checked: false, readers: 0, used: -Infinity }
    bytes += size - entry.size
    entries.set(digest, Object.assign(entry, { size, checked: checked || entry.checked }))
    return entry
  }

  const idle = () => [...entries].filter(([, { readers }]) => readers === 0)

  /** Returns whether `need` more bytes fit, after evictions. */
  const fits = (need: number): boolean =>
    maxBytes - bytes - reserved + idle().reduce((sum, [, { size }]) => sum + size, 0) >= need

  /** Evicts files until `need` more bytes fit. Returns false when that is not possible; then it evicts nothing. */
  function makeRoom (need: number): boolean {
    if (!fits(need)) return false
    let free = maxBytes - bytes - reserved
    for (const [digest, { size }] of idle()) {
      if (free >= need) break
      forget(digest)
      evictions++
      free += size
      onEvict(digest)
    }
    return free >= need
  }

  return {
    get: (digest: string): StoreEntry | undefined => entries.get(digest),
    forget,
    remember,
    fits,

    /** Protects an existing entry from eviction until the returned function is called. */
    keep (digest: string): () => void {
      const entry = entries.get(digest)
      if (entry !== undefined) entry.readers++
      return () => { if (entry !== undefined) entry.readers-- }
    },

    /** Makes an entry the most recently used one. */
    touch (digest: string, entry: StoreEntry): void {
      if (entries.delete(digest)) entries.set(digest, entry)
    },

    /**
     * Updates the index to the files on disk. Digests in `before`, the index at the start of the read, are removed if
     * their files are missing.
     */
    update (before: readonly string[], found: readonly FoundFile[]): void {
      const onDisk = new Set(found.map(({ digest }) => digest))
      for (const digest of before) if (entries.get(digest)?.readers === 0 && !onDisk.has(digest)) forget(digest)
      // The index has the exact order of use, so it takes precedence over the times on disk.
      const known = [...entries]
      for (const { digest, size } of [...found].sort((a, b) => a.used - b.used)) {
        if (!entries.has(digest)) remember(digest, size, false)
      }
      for (const [digest, entry] of known) {
        entries.delete(digest)
        entries.set(digest, entry)
      }
      makeRoom(0)
    },

    digests: (): string[] => [...entries.keys()],

    /** Reserves bytes for a file that is being written; false when the store is full. */
    reserve (need: number): boolean {
      if (need > 0 && !makeRoom(need)) return false
      reserved += need
      return true
    },

    /** Releases reserved bytes. */
    free (size: number): void { reserved -= size },

    statistics: () => ({ evictions, entries: entries.size, bytes, reserved })
  }
}
export type StoreIndex = ReturnType<typeof createStoreIndex>
