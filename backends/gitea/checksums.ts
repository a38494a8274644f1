import { Type, type Static } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { GiteaAsset } from '../../schemas/gitea.ts'
import type { Skip } from '../driver/driver.ts'
import type { GiteaApi } from './api.ts'
import type { ReleaseRef } from './candidates.ts'

/** One line of a checksum file. */
interface Entry {
  /** Lowercase hexadecimal. */
  digest: string
  /** Undefined for a digest without a name, or of the standard input. */
  name: string | undefined
}

/**
 * Lines `SHA256 (name) = digest` of BSD, `SHA256(name)= digest` and `SHA2-256(name)= digest` of openssl, and
 * `(stdin)= digest` of an old openssl.
 */
const bsd = /^(\\?)(?:SHA(?:2-)?256)? ?\((.+)\) ?= ?([0-9a-f]{64})$/i
/**
 * Lines `digest  name` and `digest *name` of sha256sum, and `digest` alone, each with or without `sha256:` before the
 * digest.
 */
const gnu = /^(\\?)(?:sha256:)?([0-9a-f]{64})(?:[ \t]+(.*))?$/i
/** Names that tools use for their standard input. */
const standardInput = new Set(['', '-', 'stdin'])

const escapes: Record<string, string> = { '\\\\': '\\', '\\n': '\n', '\\r': '\r' }
/** Returns a name without escapes. A line that begins with a backslash has an escaped name (GNU coreutils). */
const unescaped = (name: string, marked: boolean): string =>
  marked ? name.replace(/\\[\\nr]/g, escape => escapes[escape] ?? escape) : name

function entryOf (line: string): Entry | undefined {
  const [, mark, digest, rest = ''] = gnu.exec(line) ?? []
  const [, bsdMark, bsdName = '', bsdDigest] = digest === undefined ? bsd.exec(line) ?? [] : []
  const found = digest ?? bsdDigest
  if (found === undefined) return undefined
  const name = digest === undefined
    ? unescaped(bsdName, bsdMark === '\\')
    : unescaped(rest.replace(/^\*/, ''), mark === '\\')
  return { digest: found.toLowerCase(), name: standardInput.has(name) ? undefined : name }
}

/** Decodes a text file in the encoding of its byte order mark; in UTF-8 without a mark. */
function decode (bytes: Buffer): string {
  const [first, second, third] = bytes
  if (first === 0xef && second === 0xbb && third === 0xbf) return bytes.toString('utf8', 3)
  const whole = bytes.subarray(2, bytes.length - bytes.length % 2)
  if (first === 0xff && second === 0xfe) return whole.toString('utf16le')
  if (first === 0xfe && second === 0xff) return Buffer.from(whole).swap16().toString('utf16le')
  return bytes.toString('utf8')
}

const baseName = (name: string): string => name.slice(Math.max(name.lastIndexOf('/'), name.lastIndexOf('\\')) + 1)

/**
 * Returns the SHA-256 digest of a file by a checksum file, in lowercase hexadecimal; undefined when it has none, or
 * entries contradict each other. An entry of exactly that name counts before entries with a path whose base name it is.
 * In the file's `own` checksum file a digest without a name counts last. Digests of another length are ignored.
 */
export function digestIn (bytes: Buffer, name: string, own: boolean): string | undefined {
  const exact = new Set<string>()
  const based = new Set<string>()
  const alone = new Set<string>()
  for (const line of decode(bytes).split(/\r\n|\n|\r/)) {
    const entry = entryOf(line.trim())
    if (entry === undefined) continue
    if (entry.name === undefined) alone.add(entry.digest)
    else if (entry.name === name || entry.name === `./${name}`) exact.add(entry.digest)
    else if (baseName(entry.name) === name) based.add(entry.digest)
  }
  const counted = exact.size > 0 ? exact : based.size > 0 ? based : own ? alone : undefined
  return counted?.size === 1 ? [...counted][0] : undefined
}

/** Maximum size of a checksum file in bytes; a larger file is not a checksum file. */
const maxChecksumFileBytes = 1024 * 1024
/** Suffixes that an asset's own checksum file adds to the asset's name. */
const ownEndings = ['.sha256', '.sha256sum']
/** Maximum number of checksum files that are read for one asset. */
const maxChecksumFiles = 8

const sha256 = /^[0-9a-f]{64}$/i

/** A checksum file that may have the checksum of an asset. */
const ChecksumFile = Type.Object({
  name: Type.String(),
  uuid: GiteaAsset.properties.uuid,
  size: GiteaAsset.properties.size,
  /** Whether the file is of this asset only, such as `{asset}.sha256`; else it lists several. */
  own: Type.Boolean()
})
type ChecksumFile = Static<typeof ChecksumFile>

/** Input of a look-up; stored as text in `FileReference.checksumLocator`, which a snapshot contains. */
const Locator = Type.Object({ file: Type.String(), repository: Type.String(), candidates: Type.Array(ChecksumFile) })
type Locator = Static<typeof Locator>
const locator = TypeCompiler.Compile(Locator)

/** Returns the lowercase names of lists that may hold the checksum of an asset, in the order in which they count. */
function listNames ({ repository = '', name = '', version = '', tag = version }: ReleaseRef): string[] {
  const stems = [...new Set([name, repository])].flatMap(stem =>
    [...new Set([version, tag])].map(spelling => `${stem}_${spelling}`)
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
function checksumFilesOf (file: GiteaAsset, siblings: readonly GiteaAsset[], release: ReleaseRef): ChecksumFile[] {
  const byAge = siblings.filter(({ uuid }) => uuid !== file.uuid).sort((a, b) => b.id - a.id)
  const named = (list: string): GiteaAsset | undefined => byAge.find(({ name }) => name.toLowerCase() === list)
  const ownOf = (ending: string): GiteaAsset | undefined =>
    byAge.find(({ name }) => name.startsWith(file.name) && name.slice(file.name.length).toLowerCase() === ending)
  const others = new Set(siblings.map(({ name }) => name))
  const own = ownEndings.flatMap(ending => ownOf(ending) ?? [])
  // A file that is named after another asset has the checksum of that asset only.
  const anyList = byAge.filter(({ name }) =>
    /.\.sha256sum$/i.test(name) && !others.has(name.replace(/\.sha256sum$/i, ''))
  )
  const lists = [...listNames(release).flatMap(list => named(list) ?? []), ...anyList.reverse()].filter(list =>
    !own.includes(list)
  )
  return [
    ...own.map(({ name, uuid, size }) => ({ name, uuid, size, own: true })),
    ...[...new Set(lists)].map(({ name, uuid, size }) => ({ name, uuid, size, own: false }))
  ].slice(0, maxChecksumFiles)
}

/** The checksum of a file; empty when the release states none. */
export interface KnownChecksum { checksum?: string }

export interface ChecksumsOptions {
  instance: string
  /** Stores the content of checksum files, which never changes for an asset's uuid. */
  immutable: { get: (key: string) => Buffer | undefined, set: (key: string, bytes: Buffer) => void }
}

/** Creates the look-up of the checksums that the publisher or the server of a release states. */
export function createChecksums (
  api: Pick<GiteaApi, 'attachment' | 'unexpected'>,
  { instance, immutable }: ChecksumsOptions
) {
  // Another instance may have other content with the same uuid.
  const keyOf = ({ uuid }: ChecksumFile): string => `${instance}:${uuid}`

  /** Reads a checksum file; undefined when it no longer exists. */
  async function fetch (candidate: ChecksumFile): Promise<Buffer | undefined> {
    const bytes = await api.attachment(candidate.uuid, maxChecksumFileBytes)
    if (bytes !== undefined && bytes.length !== candidate.size) {
      throw api.unexpected('Checksum file does not match its digest', 'http_response_incomplete')
    }
    return bytes
  }

  /**
   * Searches the checksum files in order. Stops at the first checksum, or at the first file that `contentOf` does not
   * have, which is returned as `unread`. `unfit` are the names of the files without the checksum.
   */
  function evaluate (
    { file, candidates }: Locator,
    contentOf: (candidate: ChecksumFile) => Buffer | undefined
  ): KnownChecksum & { unread?: ChecksumFile, unfit: string[] } {
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

  const skipUnfit = (unfit: readonly string[], release: ReleaseRef, skip: Skip): void => {
    for (const file of unfit) skip({ kind: 'checksum_file', reason: 'bad_checksum_file', ...release, file })
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
      release: ReleaseRef,
      skip: Skip
    ): KnownChecksum & { checksumLocator?: string } {
      const { tag, ...extension } = release
      const stated = [file.digest?.replace(/^sha256:/, ''), file.sha256?.replace(/^sha256:/, '')].find(digest =>
        digest !== undefined && sha256.test(digest)
      )
      if (stated !== undefined) return { checksum: `sha256:${stated.toLowerCase()}` }
      const needed: Locator = {
        file: file.name,
        repository: release.repository ?? '',
        candidates: checksumFilesOf(file, siblings, release)
      }
      const { unread, checksum, unfit } = evaluate(needed, candidate => immutable.get(keyOf(candidate)))
      if (unread !== undefined) return { checksumLocator: JSON.stringify(needed) }
      skipUnfit(unfit, extension, skip)
      return checksum === undefined ? {} : { checksum }
    },

    /**
     * Looks up a checksum with as few requests as possible. Returns undefined when a checksum file no longer exists:
     * the release has changed since it was read. Throws when a checksum file cannot be read.
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
          skipUnfit(unfit, { repository: needed.repository }, skip)
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
