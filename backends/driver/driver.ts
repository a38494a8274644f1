import type { FileInfo, OpenAt, OpenedFile } from '../../plugins/downloads/transfer/source.ts'
import type { RegistryError } from '../../lib/errors.ts'
import type { Extension, ExtensionSource, ExtensionType } from '../../schemas/extension.ts'

/**
 * The file of one version, as its driver can open it. `name` is a base name without separators or control characters,
 * `size` what the upstream says, `checksum` the publisher's word and never computed here, `validator` a digest or an
 * asset's uuid.
 */
export interface FileReference extends FileInfo {
  /** Where a person outside can fetch it from the upstream, when the upstream has such an address. */
  url?: string
  /** What the driver needs to open it; means nothing to anybody else. */
  locator: string
  /**
   * What the driver needs to look up the checksum; absent once that is done, and where `load` and `list` return it
   * themselves.
   */
  checksumLocator?: string
}

/** One version with what the upstream says of it. */
export interface Release {
  /** A semantic version in its canonical spelling, without a leading `v`. */
  version: string
  /** UTC with `Z`, whole seconds. */
  published_at: string
  /** Whether the publisher marks it as a pre-release, whatever its version says; absent when not. */
  prerelease?: true
  /** Absent when the version has no file. */
  file?: FileReference
}

/** What an upstream says of an extension, apart from its versions. */
export interface Metadata extends Pick<Extension, 'name' | 'type' | 'description' | 'author' | 'repository' | 'tags'> {}

/** An extension with all its versions. */
export interface Loaded {
  metadata: Metadata
  /** At least one; highest first, in the order of `orderReleases`. */
  releases: Release[]
}

/** What one walk over an upstream found. */
export interface Crawl {
  /** Each extension once, with its current release. */
  found: Array<{ metadata: Metadata, release: Release }>
  /** Extensions whose repository could not be read, while others could. With any of them the walk proves no absence. */
  failed: Array<{ type: ExtensionType, name: string, error: RegistryError }>
  /**
   * Extensions whose own repository the upstream refuses (401 or 403), while it accepts the same credentials for
   * others, or for itself. The crawl proves the absence of every other name.
   */
  refused?: Array<{ type: ExtensionType, name: string, error: RegistryError }>
  /** Whether something that could hold more extensions was not walked at all. */
  truncated?: boolean
  /** Why it was not. */
  why?: RegistryError
  /** Whether that is how the upstream is, and no failure of it. */
  usual?: boolean
  /** What was looked at by name and has no version; only of use where the walk is truncated. */
  gone?: Array<{ type: ExtensionType, name: string }>
  /** Repositories that were not read again, because nothing shows a change: what was skipped in them still is. */
  unchanged?: ReadonlySet<string>
}

/** An opened file. Its stream errors when the upstream breaks, and is not verified. */
export interface Artifact extends OpenedFile { file: FileReference }

/** Where a file is opened: at its first byte if unset. */
export type OpenOptions = Partial<OpenAt> & Pick<OpenAt, 'signal'>

/** Why something is skipped; a metric label. */
export type SkipReason =
  | 'not_semver' | 'not_an_artifact' | 'malformed' | 'mirror' | 'private'
  | 'releases_off' | 'invalid_name' | 'duplicate' | 'bad_checksum_file' | 'missing_content'
  | 'not_chosen' | 'other_platform' | 'too_large' | 'refused'

/** Something that a driver does not show. Only `kind` and `reason` are always known. */
export interface Skipped {
  kind: 'repository' | 'release' | 'tag' | 'asset' | 'manifest' | 'layer' | 'checksum_file'
  reason: SkipReason
  /** Extension that it belongs to, or would belong to. */
  type?: ExtensionType
  name?: string
  /** Full name of the repository. */
  repository?: string
  version?: string
  tag?: string
  /** Name of the asset, layer or checksum file; of a manifest in an index its platform, else its digest. */
  file?: string
  /** Name, in the form of `file`, of the one of several that is shown instead. */
  chosen?: string
  /** Whether it is counted and never named. Everything skipped as `private` is. */
  hidden?: boolean
}

/** Called by a driver for each item that it skips. */
export type Skip = (skipped: Skipped) => void

/** What the caller of a driver takes beside the result. */
export interface SkipOptions { skip: Skip }

/** Reads without an interest in what is skipped. */
export const ignoreSkips: SkipOptions = { skip: () => {} }

/**
 * One upstream without cache: what it says right now. Absent is a value (`undefined`); failing throws an error of the
 * table (`auth_error`, `rate_limit`, `config_error` or `service_unavailable`) with `instance` and a `cause`.
 */
export interface Driver {
  readonly name: string
  readonly source: ExtensionSource
  /** Whether its files are on this machine's own disk; not so if unset. */
  readonly local?: boolean
  /** Returns whether it may have such an extension at all; asks no upstream. Any name is possible if unset. */
  covers? (type: ExtensionType, name: string): boolean
  /** Walks the whole upstream, in as few requests as it takes. Throws when nothing could be read. */
  list (options?: SkipOptions): Promise<Crawl>
  /** Everything of one extension; undefined when the upstream answered and has no version of it. */
  load (type: ExtensionType, name: string, options?: SkipOptions): Promise<Loaded | undefined>
  /**
   * Looks up the checksum of a file that has a `checksumLocator`; required of a driver that sets it. Returns an empty
   * object when the publisher states no checksum, and undefined when the release has changed since it was read. A
   * driver sets `checksumLocator` where a checksum costs a request of its own: then only the checksums that a response
   * needs are looked up. The releases of `list` never have one.
   */
  checksum? (file: FileReference, options?: SkipOptions): Promise<{ checksum?: string } | undefined>
  /** Opens a file, where it can at the byte that is wanted; undefined when it is gone. */
  open (file: FileReference, options: OpenOptions): Promise<Artifact | undefined>
  /** Resolves when the upstream answers as it must for `list` to work. */
  ping (signal: AbortSignal): Promise<void>
}
