import { readFile } from 'node:fs/promises'
import { Type, type Static } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { LRUCache } from 'lru-cache'
import { writeAtomically } from '../../../lib/atomic-file.ts'
import { parseJson } from '../../../lib/json.ts'
import { isMissingPath } from '../../../lib/missing-path.ts'
import type { StoreHealth } from './health.ts'
import type { StorePaths } from './paths.ts'

/** What a version's file was when it was first downloaded whole, or is by now. */
export const Pin = Type.Object({
  digest: Type.String({ pattern: '^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$' }),
  size: Type.Integer({ minimum: 0 }),
  /** Of the file with that digest. */
  validator: Type.String(),
  /** Validator of another file that took its place and is not served. */
  refused: Type.Optional(Type.String())
}, { additionalProperties: true })
export type Pin = Static<typeof Pin>

/** Pins in memory; where there is no directory, all that there are. */
const remembered = 10_000

/** What is known not to be on disk. */
const none = Symbol('none')

/**
 * What was found under versions whose publisher tells no checksum, by a key that names instance and version. Kept on
 * disk where that can be written, each in a file that is replaced whole; a damaged one is none.
 */
export function createPins ({ names, health }: { names: StorePaths | undefined, health: StoreHealth }) {
  const pins = new LRUCache<string, Pin | typeof none>({ max: remembered })
  /** Those in memory that are on disk, too. */
  const kept = new WeakSet<Pin>()

  async function read (path: string, known: Pin | typeof none | undefined): Promise<Pin | typeof none> {
    // What could not be written is known better here than on disk.
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
    /** With `fresh` as it stands on disk now: another process may have set it, or a person removed it. */
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
