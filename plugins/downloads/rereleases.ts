import { readFile } from 'node:fs/promises'
import { Type, type Static } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { FastifyBaseLogger } from 'fastify'
import { LRUCache } from 'lru-cache'
import { isMissingPath, writeAtomically } from '../../lib/atomic-file.ts'
import { registryError, type RegistryError } from '../../lib/errors.ts'
import { parseJson } from '../../lib/json.ts'
import { algorithmOf, usableDigest } from './store/digest.ts'
import type { StoreHealth, StorePaths } from './store/directory.ts'
import type { FileInfo } from './transfer/source.ts'

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

/** A version of an extension in an instance. */
export interface VersionRef { instance: string, type: string, name: string, version: string }

export interface RereleasesOptions {
  pins: Pins
  /** Whether different content of a known version is served or refused. */
  onRerelease: 'serve' | 'refuse'
  /**
   * Identity of each instance's upstream, by the name of the instance. Instances with equal names may share a
   * directory.
   */
  identities: ReadonlyMap<string, string>
  log: Pick<FastifyBaseLogger, 'warn'>
  onFound?: (instance: string) => void
}

/**
 * Compares the files of versions with their earlier files. A file without a published checksum is pinned when it is
 * first complete. A different digest of the same version is a re-release. It is logged once, and served or refused.
 */
export function createRereleases ({ pins, onRerelease, identities, log, onFound }: RereleasesOptions) {
  const refusing = onRerelease === 'refuse'
  const keyOf = ({ instance, type, name, version }: VersionRef) =>
    JSON.stringify([identities.get(instance) ?? instance, type, name, version])
  const conflict = ({ instance, type, name, version }: VersionRef): RegistryError =>
    registryError(
      'conflict',
      `Extension ${type}/${name} version ${version} was published again with different content`,
      {
        instance,
        proxyError: 'destination_unavailable'
      }
    )

  async function settle (ref: VersionRef, file: FileInfo, digest: string, size: number): Promise<void> {
    const key = keyOf(ref)
    const pin = await pins.get(key, { fresh: true })
    const { validator } = file
    if (pin === undefined) {
      if (usableDigest(file.checksum) === undefined) await pins.set(key, { digest, size, validator })
      return
    }
    if (pin.digest === digest) {
      if (pin.validator !== validator) await pins.set(key, { digest, size, validator })
      return
    }
    // Digests of different algorithms cannot be compared.
    if (algorithmOf(pin.digest) !== algorithmOf(digest)) return
    if (pin.refused !== validator) {
      onFound?.(ref.instance)
      log.warn({
        backend: ref.instance,
        extension: `${ref.type}/${ref.name}`,
        version: ref.version,
        before: pin.digest,
        now: digest,
        refused: refusing
      }, 'a version was published again with different content')
    }
    await pins.set(key, refusing ? { ...pin, refused: validator } : { digest, size, validator })
    if (refusing) throw conflict(ref)
  }

  return {
    /**
     * Returns the expected digest of a version's file, and whether its content may have to be refused. Throws
     * `conflict` for a refused file.
     */
    async look (ref: VersionRef, file: FileInfo): Promise<{ digest?: string, doubtful: boolean }> {
      const checksum = usableDigest(file.checksum)
      let pin = await pins.get(keyOf(ref))
      const refused = () => refusing && pin?.refused === file.validator
      // An operator may have removed the pin to accept the file.
      if (refused()) pin = await pins.get(keyOf(ref), { fresh: true })
      if (refused()) throw conflict(ref)
      if (checksum !== undefined) {
        if (pin !== undefined && pin.digest !== checksum) await settle(ref, file, checksum, file.size ?? 0)
        return { digest: checksum, doubtful: false }
      }
      if (pin?.validator === file.validator) return { digest: pin.digest, doubtful: false }
      return { doubtful: pin !== undefined && refusing }
    },

    settle
  }
}
export type Rereleases = ReturnType<typeof createRereleases>
