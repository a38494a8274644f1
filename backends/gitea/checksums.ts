import { Type, type Static } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { registryError } from '../../lib/errors.ts'
import { GiteaAsset } from '../../schemas/gitea.ts'
import type { Skip, Skipped } from '../driver/driver.ts'
import { textField, type GiteaApi } from './api.ts'
import { digestIn } from './checksum-file.ts'

/** Release that an asset belongs to. */
export type Place = Pick<Skipped, 'type' | 'name' | 'repository' | 'version' | 'tag'>

/** Bytes of a checksum file; a larger one is none. */
const maxChecksumFileBytes = 1024 * 1024
/** Endings of an asset's own checksum file, behind its name. */
const ownEndings = ['.sha256', '.sha256sum']
/** Checksum files of one asset that are read at most. */
const maxCandidates = 8

const asset = TypeCompiler.Compile(GiteaAsset)
const sha256 = /^[0-9a-f]{64}$/i

/** A checksum file that may have the checksum of an asset. */
const Candidate = Type.Object({
  name: Type.String(),
  uuid: GiteaAsset.properties.uuid,
  size: GiteaAsset.properties.size,
  /** Whether it is the asset's own, such as `{asset}.sha256`; else a list of several. */
  own: Type.Boolean()
})
type Candidate = Static<typeof Candidate>

/** What a look-up needs; kept as text in `FileReference.checksumLocator`, which a snapshot holds. */
const Locator = Type.Object({ file: Type.String(), repository: Type.String(), candidates: Type.Array(Candidate) })
type Locator = Static<typeof Locator>
const locator = TypeCompiler.Compile(Locator)

/** The assets of a release that are as they should be and whose content the server itself has. */
export function usableAssets (assets: readonly unknown[], where: Place, skip: Skip): GiteaAsset[] {
  return assets.filter((element): element is GiteaAsset => {
    if (!asset.Check(element) || !element.name.isWellFormed()) {
      const file = textField(element, 'name')
      skip({ kind: 'asset', reason: 'malformed', ...where, ...(file !== undefined && { file }) })
      return false
    }
    return element.type !== 'external'
  })
}

/** Returns the lowercase names of lists that may hold the checksum of an asset, in the order in which they count. */
function listNames ({ repository = '', name = '', version = '', tag = version }: Place): string[] {
  const stems = [...new Set([name, repository])].flatMap(stem =>
    [...new Set([version, tag])].map(of => `${stem}_${of}`)
  )
  return [
    'sha256sums',
    'sha256sums.txt',
    'sha256sum.txt',
    'checksums.txt',
    ...stems.map(stem => `${stem}_checksums.txt`),
    ...stems.map(stem => `${stem}_sha256sums`)
  ].map(list => list.toLowerCase())
}

/**
 * Returns the checksum files of an asset, in the order in which they count: its own ones, lists by name, other
 * `*.sha256sum`. Of one name the newest.
 */
function candidatesOf (file: GiteaAsset, siblings: readonly GiteaAsset[], where: Place): Candidate[] {
  const byAge = siblings.filter(({ uuid }) => uuid !== file.uuid).sort((a, b) => b.id - a.id)
  const named = (wanted: string): GiteaAsset | undefined => byAge.find(({ name }) => name.toLowerCase() === wanted)
  const ownOf = (ending: string): GiteaAsset | undefined =>
    byAge.find(({ name }) => name.startsWith(file.name) && name.slice(file.name.length).toLowerCase() === ending)
  const others = new Set(siblings.map(({ name }) => name))
  const own = ownEndings.flatMap(ending => ownOf(ending) ?? [])
  // What is named after another asset is that one's own.
  const anyList = byAge.filter(({ name }) =>
    /.\.sha256sum$/i.test(name) && !others.has(name.replace(/\.sha256sum$/i, ''))
  )
  const lists = [...listNames(where).flatMap(list => named(list) ?? []), ...anyList.reverse()].filter(list =>
    !own.includes(list)
  )
  const toCandidate = (own: boolean) => ({ name, uuid, size }: GiteaAsset): Candidate => ({ name, uuid, size, own })
  return [...own.map(toCandidate(true)), ...[...new Set(lists)].map(toCandidate(false))].slice(0, maxCandidates)
}

/** A checksum, or that the release has none. */
export interface KnownChecksum { checksum?: string }

export interface ChecksumsOptions {
  instance: string
  /** Keeps the content of checksum files, which never changes under an asset's uuid. */
  immutable: { get: (key: string) => Buffer | undefined, set: (key: string, bytes: Buffer) => void }
}

/** Finds the checksums that the publisher or the server of a release states. */
export function createChecksums (api: Pick<GiteaApi, 'attachment'>, { instance, immutable }: ChecksumsOptions) {
  // Another instance may use the same uuid for other content.
  const keyOf = ({ uuid }: Candidate): string => `${instance}:${uuid}`

  /** Reads a checksum file; undefined when it is gone. */
  async function fetch (candidate: Candidate): Promise<Buffer | undefined> {
    const bytes = await api.attachment(candidate.uuid, maxChecksumFileBytes)
    if (bytes !== undefined && bytes.length !== candidate.size) {
      throw registryError('service_unavailable', `Instance ${instance} cannot be asked`, {
        instance,
        details: 'A checksum file is not as it was published',
        proxyError: 'http_response_incomplete'
      })
    }
    return bytes
  }

  /**
   * Evaluates the files that `contentOf` has, as far as they are needed; returns the first file that is needed and not
   * there.
   */
  function evaluate (
    { file, candidates }: Locator,
    contentOf: (candidate: Candidate) => Buffer | undefined
  ): KnownChecksum & { unread?: Candidate, unfit: string[] } {
    const unfit: string[] = []
    for (const candidate of candidates) {
      const bytes = candidate.size > maxChecksumFileBytes ? Buffer.alloc(0) : contentOf(candidate)
      if (bytes === undefined) return { unread: candidate, unfit }
      const digest = digestIn(bytes, file, candidate.own)
      if (digest !== undefined) return { checksum: `sha256:${digest}`, unfit }
      unfit.push(candidate.name)
    }
    return { unfit }
  }

  const report = ({ unfit }: { unfit: readonly string[] }, where: Place, skip: Skip): void => {
    for (const file of unfit) skip({ kind: 'checksum_file', reason: 'bad_checksum_file', ...where, file })
  }

  return {
    /**
     * Returns the checksum of a file as far as no request is needed for it, or a `checksumLocator` to look it up with.
     * The digest that the server states comes first, then `{asset}.sha256`, `{asset}.sha256sum`, and lists such as
     * `SHA256SUMS`.
     */
    of (
      file: GiteaAsset,
      siblings: readonly GiteaAsset[],
      where: Place,
      skip: Skip
    ): KnownChecksum & { checksumLocator?: string } {
      const { tag, ...of } = where
      const stated = [file.digest?.replace(/^sha256:/, ''), file.sha256?.replace(/^sha256:/, '')].find(digest =>
        digest !== undefined && sha256.test(digest)
      )
      if (stated !== undefined) return { checksum: `sha256:${stated.toLowerCase()}` }
      const needed: Locator = {
        file: file.name,
        repository: where.repository ?? '',
        candidates: candidatesOf(file, siblings, where)
      }
      const { unread, checksum, unfit } = evaluate(needed, candidate => immutable.get(keyOf(candidate)))
      if (unread !== undefined) return { checksumLocator: JSON.stringify(needed) }
      report({ unfit }, of, skip)
      return checksum === undefined ? {} : { checksum }
    },

    /**
     * Looks up a checksum with as few requests as it takes; undefined when a checksum file is gone, so that the release
     * has changed since it was read. Throws when a checksum file cannot be read.
     */
    async look (text: string, skip: Skip): Promise<KnownChecksum | undefined> {
      const needed: unknown = JSON.parse(text)
      if (!locator.Check(needed)) throw new TypeError('Not a checksum locator')
      const read = new Map<string, Buffer>()
      for (;;) {
        const { unread, checksum, unfit } = evaluate(
          needed,
          candidate => read.get(candidate.uuid) ?? immutable.get(keyOf(candidate))
        )
        if (unread === undefined) {
          report({ unfit }, { repository: needed.repository }, skip)
          return checksum === undefined ? {} : { checksum }
        }
        const bytes = await fetch(unread)
        if (bytes === undefined) return undefined
        read.set(unread.uuid, bytes)
        immutable.set(keyOf(unread), bytes)
      }
    }
  }
}
export type Checksums = ReturnType<typeof createChecksums>
