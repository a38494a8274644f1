import { constants } from 'node:fs'
import { open, readdir, rm, stat, utimes, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { createAtomicFile, type AtomicFile } from '../../../lib/atomic-file.ts'
import { isMissingPath } from '../../../lib/missing-path.ts'
import { readDigest, usableDigest } from './digest.ts'
import type { StoreHealth } from './health.ts'
import { orNone, type StorePaths } from './paths.ts'

export interface BlobsOptions {
  names: StorePaths
  health: StoreHealth
  /** Bytes that are kept at most, half files included. */
  maxBytes: number
  /** Milliseconds. */
  clock: () => number
  onDamage?: () => void
}

/** Content that is open for reading. Whoever has it lets it go once. */
export interface StoredFile { handle: FileHandle, size: number, release: () => void }

/** Content that is being written. */
export interface PartialFile {
  handle: FileHandle
  /** Takes room for so many bytes in all; false when there is none. */
  reserve: (bytes: number) => boolean
  /** The same for as many more than were written. */
  grow: (bytes: number) => boolean
  /** Puts it in its place under the digest that it was found to have; it stays open. False when that failed. */
  commit: (digest: string) => Promise<boolean>
  /** Closes it, and removes it unless it was committed. */
  close: () => Promise<void>
}

interface Entry { size: number, checked: boolean, readers: number, used: number }

/** Milliseconds after which a use is noted on disk again: what was used last survives a restart. */
const noteUse = 60_000
/** Milliseconds after which the directory is looked through again, for what other processes have put there. */
const rescan = 60_000

/**
 * Verified content by digest, in a directory, bounded in bytes: what was used longest ago goes first, never what is
 * being read. It throws nothing that is the disk's fault: content that can't be read is not there, and room that can't
 * be had is none. What was there before the process began is verified when it is first used.
 */
export function createBlobs ({ names, health, maxBytes, clock, onDamage }: BlobsOptions) {
  /** From the one used longest ago to the last one. */
  const entries = new Map<string, Entry>()
  const checks = new Map<string, Promise<boolean>>()
  /** Under way: until it is over, neither what is found nor what is put in its place stays. */
  const removals = new Map<string, Promise<void>>()
  const counts = { hits: 0, misses: 0, evictions: 0, damaged: 0 }
  let bytes = 0
  let reserved = 0
  let scannedAt = -Infinity

  function forget (digest: string): void {
    bytes -= entries.get(digest)?.size ?? 0
    entries.delete(digest)
  }

  /** Adds an entry, or corrects the one that there is: whoever reads it has that one in hand. */
  function remember (digest: string, size: number, checked: boolean): Entry {
    const entry = entries.get(digest) ?? { size: 0, checked: false, readers: 0, used: -Infinity }
    bytes += size - entry.size
    entries.set(digest, Object.assign(entry, { size, checked: checked || entry.checked }))
    return entry
  }

  async function removeBlob (digest: string): Promise<void> {
    const removal = rm(names.blob(digest), { force: true }).catch(health.failed).finally(() => {
      if (removals.get(digest) === removal) removals.delete(digest)
    })
    removals.set(digest, removal)
    await removal
  }

  /** Keeps an entry that there is from being pushed out, until it is let go. */
  function keep (digest: string): () => void {
    const entry = entries.get(digest)
    if (entry !== undefined) entry.readers++
    return () => { if (entry !== undefined) entry.readers-- }
  }

  /** Learns what is in the directory: all of it at first, what others have put there later. */
  async function scan (): Promise<void> {
    scannedAt = clock()
    const before = [...entries.keys()]
    const found: Array<{ digest: string, size: number, used: number }> = []
    for (const algorithm of await orNone(readdir(names.blobs))) {
      for (const part of await orNone(readdir(join(names.blobs, algorithm)))) {
        const directory = join(names.blobs, algorithm, part)
        await Promise.all((await orNone(readdir(directory))).map(async name => {
          const digest = usableDigest(`${algorithm}:${name}`)
          if (digest === undefined) return
          // One that was removed meanwhile is not there; its neighbours are.
          const [told] = await orNone(stat(join(directory, name)).then(one => [one]))
          if (told !== undefined) found.push({ digest, size: told.size, used: told.mtimeMs })
        }))
      }
    }
    found.sort((a, b) => a.used - b.used)
    const there = new Set(found.map(({ digest }) => digest))
    for (const digest of before) if (entries.get(digest)?.readers === 0 && !there.has(digest)) forget(digest)
    // Of those known before, the order is known better here than by the times on disk.
    const known = [...entries]
    for (const { digest, size } of found) if (!entries.has(digest)) remember(digest, size, false)
    for (const [digest, entry] of known) {
      entries.delete(digest)
      entries.set(digest, entry)
    }
    room(0)
  }

  const ready = (async () => {
    await names.clean().catch((error: unknown) => { if (!isMissingPath(error)) throw error })
    await scan()
  })().catch(health.failed)

  const idle = () => [...entries].filter(([, { readers }]) => readers === 0)
  /** Whether so many bytes more would find room, with what may go gone. */
  const fits = (need: number): boolean =>
    maxBytes - bytes - reserved + idle().reduce((sum, [, { size }]) => sum + size, 0) >= need

  /** Makes room for so many bytes more; false when that takes more than may go. */
  function room (need: number): boolean {
    if (!fits(need)) return false
    let free = maxBytes - bytes - reserved
    for (const [digest, { size }] of idle()) {
      if (free >= need) break
      forget(digest)
      counts.evictions++
      free += size
      void removeBlob(digest)
    }
    return free >= need
  }

  /** Whether a file is what its name says, found out once. */
  async function isIntact (digest: string, entry: Entry, handle: FileHandle): Promise<boolean> {
    if (entry.checked) return true
    let check = checks.get(digest)
    if (check === undefined) {
      check = readDigest(handle, digest).then(found => found === digest).finally(() => { checks.delete(digest) })
      checks.set(digest, check)
    }
    entry.checked = await check
    return entry.checked
  }

  async function drop (digest: string): Promise<void> {
    counts.damaged++
    onDamage?.()
    forget(digest)
    await removeBlob(digest)
  }

  async function find (digest: string): Promise<StoredFile | undefined> {
    while (removals.has(digest)) await removals.get(digest)
    const letGo = keep(digest)
    return await openKept(digest).finally(letGo)
  }

  async function openKept (digest: string): Promise<StoredFile | undefined> {
    const handle = await open(names.blob(digest), constants.O_RDONLY | constants.O_NOFOLLOW)
    const found = await handle.stat()
    const entry = entries.get(digest) ?? remember(digest, found.size, false)
    entry.readers++
    const release = () => {
      entry.readers--
      handle.close().catch(health.failed)
    }
    try {
      if (found.isFile() && found.size === entry.size && await isIntact(digest, entry, handle)) {
        note(digest, entry)
        return { handle, size: found.size, release }
      }
      if (entries.get(digest) === entry) await drop(digest)
    } catch (error) {
      release()
      throw error
    }
    release()
    return undefined
  }

  /** A use: others go before this one. */
  function note (digest: string, entry: Entry): void {
    if (entries.delete(digest)) entries.set(digest, entry)
    if (clock() - entry.used < noteUse) return
    entry.used = clock()
    const now = new Date()
    // A directory that can only be read is of use all the same.
    utimes(names.blob(digest), now, now).catch(() => {})
  }

  return {
    /** Settles when the directory has been looked through, whatever came of it. */
    ready,

    /**
     * Content of a digest, and of `size` bytes if that is known; undefined when it is not there, or not what it should
     * be.
     */
    async open (digest: string, size?: number): Promise<StoredFile | undefined> {
      await ready
      try {
        const found = await find(digest)
        if (found !== undefined && size !== undefined && found.size !== size) {
          found.release()
          return undefined
        }
        if (found === undefined) counts.misses++
        else counts.hits++
        return found
      } catch (error) {
        counts.misses++
        forget(digest)
        if (!isMissingPath(error)) health.failed(error)
        return undefined
      }
    },

    /** Whether such content is known to be there. */
    has: (digest: string, size?: number): boolean => {
      const entry = entries.get(digest)
      return entry !== undefined && (size === undefined || size === entry.size)
    },

    /**
     * A file to write content to, `size` bytes if that is known; undefined where it can't be kept. Nothing goes for it
     * yet.
     */
    async create (size = 0): Promise<PartialFile | undefined> {
      if (!health.usable) return undefined
      await ready
      if (clock() - scannedAt > rescan) await scan().catch(health.failed)
      if (!health.usable || !fits(size)) return undefined
      let own = 0
      let written = 0
      let kept: Entry | undefined
      const freeOwn = () => {
        reserved -= own
        own = 0
      }
      let file: AtomicFile
      try {
        file = await createAtomicFile(names.aside())
      } catch (error) {
        health.failed(error)
        return undefined
      }
      const reserve = (wanted: number): boolean => {
        const missing = Math.max(0, wanted - own)
        if (missing > 0 && !room(missing)) return false
        own += missing
        reserved += missing
        return true
      }
      return {
        handle: file.handle,
        reserve,
        grow: more => reserve(written += more),
        async commit (digest) {
          while (removals.has(digest)) await removals.get(digest)
          const letGo = keep(digest)
          try {
            await file.commit(names.blob(digest))
          } catch (error) {
            health.failed(error)
            return false
          } finally {
            letGo()
          }
          freeOwn()
          kept = remember(digest, written, true)
          kept.readers++
          note(digest, kept)
          health.worked()
          return true
        },
        async close () {
          freeOwn()
          await file.close().catch(health.failed)
          if (kept !== undefined) kept.readers--
        }
      }
    },

    statistics: () => ({ ...counts, entries: entries.size, bytes, reserved }),

    /** Removes what this process was writing. */
    async close (): Promise<void> {
      await ready
      await rm(names.own, { recursive: true, force: true }).catch(health.failed)
    }
  }
}
export type Blobs = ReturnType<typeof createBlobs>
