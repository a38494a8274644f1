import type { FastifyBaseLogger } from 'fastify'
import { registryError, type RegistryError } from '../../lib/errors.ts'
import { algorithmOf, usableDigest } from './store/digest.ts'
import type { Pins } from './store/pins.ts'
import type { FileInfo } from './transfer/source.ts'

/** A version of an extension in an instance. */
export interface VersionRef { instance: string, type: string, name: string, version: string }

export interface RereleasesOptions {
  pins: Pins
  /** Whether different content of a known version is served or refused. */
  onRerelease: 'serve' | 'refuse'
  /** Returns the identity of an instance's upstream, because instances with equal names may share a directory. */
  identity: (instance: string) => string
  log: Pick<FastifyBaseLogger, 'warn'>
  onFound?: (instance: string) => void
}

/**
 * Compares the files of versions with their earlier files. A file without a published checksum is pinned when it is
 * first complete. A different digest of the same version is a re-release. It is logged once, and served or refused.
 */
export function createRereleases ({ pins, onRerelease, identity, log, onFound }: RereleasesOptions) {
  const refusing = onRerelease === 'refuse'
  const keyOf = ({ instance, type, name, version }: VersionRef) =>
    JSON.stringify([identity(instance), type, name, version])
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
