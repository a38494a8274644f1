import type { Readable } from 'node:stream'
import type { RegistryError } from '../../lib/errors.ts'
import type { Descriptor } from '../../schemas/oci.ts'

/**
 * Maximum bytes of a manifest, an index or a config that is read: the size that registries accept by the specification.
 */
export const maxManifestBytes = 4 * 1024 * 1024

/** Digest and size of content, by which it is fetched and verified. */
export type ContentRef = Pick<Descriptor, 'digest' | 'size'>

/** The body of a manifest or index; `digest` is that of `bytes`. */
export interface Manifest {
  digest: string
  /** Media type by the transport (`Content-Type`, a descriptor), not by the body. */
  mediaType?: string
  bytes: Buffer
}

/** The manifest or index that a tag points at. */
export interface Target {
  digest: string
  mediaType?: string
  /** Annotations of the descriptor that names the tag, as they were read: any of them may be of a wrong type. */
  annotations?: unknown
  /** The body, when the digest could only be read with it. */
  manifest?: Manifest
}

/** A tag; `target` is set when the list of tags has it, else `resolve` returns it. */
export interface Tag {
  name: string
  target?: Target
}

/** Fields of a repository in the registry's list of repositories. */
export interface RepositoryState {
  /** Differs after each change of the repository's versions that the list shows. */
  revision: string
  /** Time of the last change, by the registry. A pull also changes it, when `pulls` differs too. */
  updated?: string
  /** Number of pulls. */
  pulls?: number
}

/** Returns whether a list shows no change of a repository since an earlier list. Without a state it shows none. */
export const showsNoChange = (now: RepositoryState | undefined, before: RepositoryState | undefined): boolean =>
  now === undefined ||
  (now.revision === before?.revision && (now.updated === before.updated || now.pulls !== before.pulls))

export interface RepositoryNames {
  /** Full names, each once; may include repositories outside of the requested namespace. */
  names: readonly string[]
  /** States of repositories by their full names, as far as the registry lists them. */
  states?: ReadonlyMap<string, RepositoryState>
  /** Whether a part that may hold more repositories was not read. */
  truncated?: boolean
  /** Reason why the names are truncated. */
  truncatedBy?: RegistryError
  /** Whether the names are truncated because the registry does not list its repositories, which is not a failure. */
  expected?: boolean
}

export interface BlobOptions {
  signal: AbortSignal
  /** First byte to read; 0 if unset. */
  offset?: number
  /** Validator of the content that was read before. */
  etag?: string
}

export interface Blob {
  stream: Readable
  /** First byte of the stream: the requested one, or 0 where the content can only be read from its beginning. */
  offset: number
  etag?: string
}

/**
 * Access to the content of an OCI registry: over HTTP, or in a directory. An absence is a value (`undefined`). A
 * failure throws an error of the table with `instance` and a `cause`. Content that differs from its digest or size
 * throws a {@link ContentError}; other content is not affected.
 */
export interface Transport {
  /** Whether content is on a disk of this machine. */
  readonly local: boolean
  /** Full names of the repositories in the configuration; empty if unset. */
  readonly named?: ReadonlySet<string>
  /** Whether only the named repositories exist. */
  readonly closed?: boolean
  /**
   * Returns the repositories below `namespace` (no slash at either end; empty for all), as far as they can be
   * discovered. Without `withStates` no further request is sent for their states.
   */
  repositories (namespace: string, options?: { withStates: boolean }): Promise<RepositoryNames>
  /** Returns all tags of a repository in any order; undefined when the repository does not exist. */
  tags (repository: string): Promise<Tag[] | undefined>
  /**
   * Returns the current target of a tag; undefined when the tag no longer exists. With `withManifest` one request over
   * HTTP reads the digest and the manifest. Without it the cheapest request reads the digest only.
   */
  resolve (repository: string, tag: string, options?: { withManifest: boolean }): Promise<Target | undefined>
  /**
   * Returns the verified manifest or index of a digest, of at most {@link maxManifestBytes}; undefined when it does not
   * exist.
   */
  manifest (repository: string, digest: string): Promise<Manifest | undefined>
  /**
   * Opens content; undefined when it does not exist. The size is checked as early as it is known. The digest is not
   * checked: the caller verifies it. Ends with an error when `signal` is aborted.
   */
  blob (repository: string, content: ContentRef, options: BlobOptions): Promise<Blob | undefined>
  /** Returns the address at which a client can fetch content; undefined when it has no such address. */
  url? (repository: string, content: ContentRef): string | undefined
  /** Resolves when `repositories` and `tags` can work. */
  ping (signal: AbortSignal): Promise<void>
}

/** Error of content that differs from its descriptor, or from the form of its kind. Other content is not affected. */
export class ContentError extends Error {
  override readonly name = 'ContentError'
}
