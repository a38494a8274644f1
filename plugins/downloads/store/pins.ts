import { readFile } from 'node:fs/promises'
import { Type, type Static } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { LRUCache } from 'lru-cache'
import { writeAtomically } from '../../../lib/atomic-file.ts'
import { parseJson } from '../../../lib/json.ts'
import { isMissingPath } from '../../../lib/missing-path.ts'
import type { StoreHealth } from './health.ts'
import type { StorePaths } from './paths.ts'

/** Recorded file of a version: the first complete download, or the latest one if re-releases are served. */
export const Pin = Type.Object({
  digest: Type.String({ pattern: '^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$' }),
  size: Type.Integer({ minimum: 0 }),
  /** Validator of the file with that digest. */
  validator: Type.String(),
  /** Validator of a re-release that is refused. */
  refused: Type.Optional(Type.String())
}, { additionalProperties: true })
export type Pin = Static<typeof Pin>

/** Maximum number of pins in memory. Without a directory all other pins are lost. */
const remembered = 10_000

/** Marks a pin that does not exist on disk. */
const none = Symbol('none')

/**
 * Creates the pins of versions without a published checksum, by a key with the instance and the version. Each pin is
 * kept in a file if the directory is writable, and the file is replaced atomically. A damaged file counts as absent.
 */
export function createPins ({ names, health }: { names: StorePaths | undefined, health: StoreHealth }) {
  const pins = new LRUCache<string, Pin | typeof none>({ max: remembered })
  /** Pins in memory that are also on disk. */
  const kept = new WeakSet<Pin>()

  async function read (path: string, known: Pin | typeof none | undefined): Promise<Pin | typeof none> {
    // A pin that could not be written exists only in memory, so it takes precedence over the disk.
    if (known !== undefined && known !== none && !kept.has(known)) return known
    try {
      const pin: unknown = parseJson(await readFile(path))
      if (!Value.Check(Pin, pin)) return known ?? none
      kept.add(pin)
      return pin
    } catch (error) {
      return isMissingPath(error) ? none : known ?? none
    }
  }

  return {
    /**
     * Returns the pin of a key. With `fresh` it is read from disk, because another process may have written it or an
     * operator removed it.
     */
    async get (key: string, { fresh = false } = {}): Promise<Pin | undefined> {
      const known = pins.get(key)
      if (names === undefined || (!fresh && known !== undefined)) return known === none ? undefined : known
      const found = await read(names.pin(key), known)
      pins.set(key, found)
      return found === none ? undefined : found
    },

    async set (key: string, pin: Pin): Promise<void> {
      pins.set(key, pin)
      if (names === undefined || !health.usable) return
      try {
        const line = `${JSON.stringify({ key, ...pin })}\n`
        await writeAtomically(names.aside(), names.pin(key), async file => { await file.writeFile(line) })
        kept.add(pin)
      } catch (error) {
        health.failed(error)
      }
    }
  }
}
export type Pins = ReturnType<typeof createPins>
