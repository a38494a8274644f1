import type { FileInfo, OpenAt, OpenedFile } from '../../plugins/downloads/transfer/source.ts'
import type { RegistryError } from '../../lib/errors.ts'
import type { Extension, ExtensionSource, ExtensionType } from '../../schemas/extension.ts'

/**
 * The file of one version, as its driver can open it. `name` is a base name without separators or control characters.
 * `size` is in bytes, as the upstream states it. `checksum` is stated by the publisher, and never computed by a driver.
 * `validator` changes when the content does: a digest, or the uuid of an asset.
 */
export interface FileReference extends FileInfo {
  /** Address at which a client can download the file from the upstream itself; absent when there is none. */
  url?: string
  /** Input of `Driver.open`; only its driver can interpret it. */
  locator: string
  /** Input of `Driver.checksum`; absent when the checksum is known, or known to be missing. */
  checksumLocator?: string
}

/** One version, as the upstream states it. */
export interface Release {
  /** A semantic version in its canonical spelling, without a leading `v`. */
  version: string
  /** UTC with `Z`, whole seconds. */
  published_at: string
  /** Whether the publisher marks it as a pre-release, independently of its version; absent otherwise. */
  prerelease?: true
  /** Absent when the version has no file. */
  file?: FileReference
}

/** Metadata of an extension as the upstream states them, without its versions. */
export interface Metadata extends Pick<Extension, 'name' | 'type' | 'description' | 'author' | 'repository' | 'tags'> {}

/** An extension with its current version. */
export interface Current { metadata: Metadata, release: Release }

/** An extension with all its versions. */
export interface Loaded {
  metadata: Metadata
  /** At least one; highest first, in the order of `orderReleases`. */
  releases: Release[]
}

/** Result of one crawl over an upstream. */
export interface Crawl {
  /**
   * Each extension once, with its current release. `age` are the seconds since it was read, if this crawl did not read
   * it and its upstream does not list every change; absent otherwise.
   */
  found: Array<Current & { age?: number }>
  /**
   * Extensions whose repository could not be read, while others could. With any of them the crawl does not prove the
   * absence of other extensions.
   */
  failed: Array<{ type: ExtensionType, name: string, error: RegistryError }>
  /**
   * Extensions whose own repository the upstream refuses (401 or 403), while it accepts the same credentials for
   * others, or for itself. The crawl proves the absence of every other name.
   */
  refused?: Array<{ type: ExtensionType, name: string, error: RegistryError }>
  /** Whether a part of the upstream that may hold more extensions was not crawled. */
  truncated?: boolean
  /** Reason why the crawl is truncated. */
  truncatedBy?: RegistryError
  /** Whether the crawl is truncated because the upstream does not list its repositories, which is not a failure. */
  expected?: boolean
  /** Extensions whose repository was read and has no version; only used when the crawl is truncated. */
  absent?: Array<{ type: ExtensionType, name: string }>
  /**
   * Names of repositories that were not read again, because no change is visible. Items that an earlier crawl skipped
   * in them are still skipped.
   */
  unchanged?: ReadonlySet<string>
}

/** An opened file. Its stream fails when the upstream does. Its content is not verified. */
export interface Artifact extends OpenedFile { file: FileReference }

/** Options of `Driver.open`: `offset` is the first byte to read, 0 if unset. */
export type OpenOptions = Partial<OpenAt> & Pick<OpenAt, 'signal'>

/** Why an item is skipped; a metric label. */
export type SkipReason =
  | 'not_semver' | 'not_an_artifact' | 'malformed' | 'mirror' | 'private'
  | 'releases_off' | 'duplicate' | 'bad_checksum_file' | 'missing_content'
  | 'not_chosen' | 'other_platform' | 'too_large' | 'refused'

/** An item of the upstream that a driver does not show. Only `kind` and `reason` are always known. */
export interface Skipped {
  kind: 'repository' | 'release' | 'tag' | 'asset' | 'manifest' | 'layer' | 'checksum_file'
  reason: SkipReason
  /** Type and name of the extension that the item belongs to, or would belong to. */
  type?: ExtensionType
  name?: string
  /** Full name of the repository. */
  repository?: string
  version?: string
  tag?: string
  /** Name of the asset, layer or checksum file; of a manifest in an index its platform, else its digest. */
  file?: string
  /** Name, in the form of `file`, of the item that is shown instead. */
  chosen?: string
  /** Whether the item is counted, but never named. This applies to every item that is skipped as `private`. */
  hidden?: boolean
}

/** Called by a driver for each item that it skips. */
export type Skip = (skipped: Skipped) => void

/** Receives the skipped items of one call. */
export interface SkipOptions { skip: Skip }

/** Default of the options of `list`, `load` and `checksum`: skipped items are not reported. */
export const ignoreSkips: SkipOptions = { skip: () => {} }

/**
 * One upstream without a cache: each call returns its current state. A missing extension or file is a value
 * (`undefined`). A failure throws an error of the table (`auth_error`, `rate_limit`, `config_error` or
 * `service_unavailable`) with `instance` and a `cause`.
 */
export interface Driver {
  /** Name of the instance. */
  readonly name: string
  readonly source: ExtensionSource
  /** Whether its files are on a disk of this machine; false if unset. */
  readonly local?: boolean
  /** Returns, without a request, whether the upstream may have an extension of this name. If unset, any may exist. */
  covers? (type: ExtensionType, name: string): boolean
  /** Crawls the whole upstream, in as few requests as possible. Throws when nothing could be read. */
  list (options?: SkipOptions): Promise<Crawl>
  /** Returns one extension with all its versions; undefined when the upstream responded and has no version of it. */
  load (type: ExtensionType, name: string, options?: SkipOptions): Promise<Loaded | undefined>
  /**
   * Returns one extension with its current version only, in fewer requests than `load`; undefined as for `load`. `load`
   * is used if unset.
   */
  current? (type: ExtensionType, name: string, options?: SkipOptions): Promise<Current | undefined>
  /**
   * Looks up the checksum of a file that has a `checksumLocator`; required of a driver that sets it. Returns an empty
   * object when the publisher states no checksum, and undefined when the release has changed since it was read. A
   * driver sets `checksumLocator` where a checksum needs a request of its own: then only the checksums that a response
   * needs are looked up. The releases of `list` never have one.
   */
  checksum? (file: FileReference, options?: SkipOptions): Promise<{ checksum?: string } | undefined>
  /** Opens a file, at the requested byte where the upstream can; undefined when the file no longer exists. */
  open (file: FileReference, options: OpenOptions): Promise<Artifact | undefined>
  /** Resolves when the upstream responds as `list` needs it. */
  ping (signal: AbortSignal): Promise<void>
}
