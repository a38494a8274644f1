import type { Readable } from 'node:stream'
import type { RegistryError } from '../../lib/errors.ts'
import type { Descriptor } from '../../schemas/oci.ts'

/** Most bytes of a manifest, an index or a config that are read; what the specification asks registries to take. */
export const maxManifestBytes = 4 * 1024 * 1024

/** What it takes to fetch content and to verify it. */
export type ContentRef = Pick<Descriptor, 'digest' | 'size'>

/** The body of a manifest or index; `bytes` are what `digest` says. */
export interface Manifest {
  digest: string
  /** From the transport (`Content-Type`, a descriptor), not from the body. */
  mediaType?: string
  bytes: Buffer
}

/** What a tag points at. */
export interface Target {
  digest: string
  mediaType?: string
  /** Annotations of the descriptor that names the tag, as they were read: any of them may be of a wrong type. */
  annotations?: unknown
  /** The body, when it had to be read to learn the digest. */
  manifest?: Manifest
}

/** A tag; `target` is there when listing the tags tells it, else `resolve` does. */
export interface Tag {
  name: string
  target?: Target
}

export interface RepositoryNames {
  /** Full names, each once; may hold others than those below the namespace asked for. */
  names: readonly string[]
  /** Whether something that could hold more was not looked at. */
  truncated?: boolean
  /** Why it was not. */
  truncatedBy?: RegistryError
  /** Whether that is how this registry is. */
  expected?: boolean
}

export interface BlobOptions {
  signal: AbortSignal
  /** First byte that is wanted; 0 if unset. */
  offset?: number
  /** Validator that came with what was read before. */
  etag?: string
}

/** Opened content. */
export interface Blob {
  stream: Readable
  /** First byte of the stream: the one that was wanted, or 0 where it can only be read from its beginning. */
  offset: number
  etag?: string
}

/**
 * How the content of an OCI registry is reached: over HTTP, or in a directory. It knows nothing of extensions.
 * Absent is a value (`undefined`). Failing throws an error of the table with `instance` and a `cause`; content that is
 * not what its digest or size says throws a {@link ContentError}, and costs only itself.
 */
export interface Transport {
  /** Whether content is on this machine's own disk. */
  readonly local: boolean
  /** Full names of the repositories that the operator wrote; none if unset. */
  readonly named?: ReadonlySet<string>
  /** Whether there are no repositories but those named. */
  readonly closed?: boolean
  /** Repositories below `namespace` (no slash at either end; empty for all), as far as they can be discovered. */
  repositories (namespace: string): Promise<RepositoryNames>
  /** All tags of a repository in any order; undefined when there is no such repository. */
  tags (repository: string): Promise<Tag[] | undefined>
  /**
   * Returns what a tag points at now; undefined when the tag no longer exists. With `withManifest` one request over
   * HTTP reads the digest and the manifest, without it the cheapest request reads the digest only.
   */
  resolve (repository: string, tag: string, options?: { withManifest: boolean }): Promise<Target | undefined>
  /** The manifest or index of a digest, verified, at most {@link maxManifestBytes}; undefined when it is not there. */
  manifest (repository: string, digest: string): Promise<Manifest | undefined>
  /**
   * Opens content; undefined when it is not there. The size is checked as early as it is known, the digest is not:
   * whoever reads verifies it. Ends with an error when `signal` is aborted.
   */
  blob (repository: string, content: ContentRef, options: BlobOptions): Promise<Blob | undefined>
  /** Where a person outside can fetch content, when there is such an address. */
  url? (repository: string, content: ContentRef): string | undefined
  /** Resolves when `repositories` and `tags` can work. */
  ping (signal: AbortSignal): Promise<void>
}

/** A piece of content that is not what its descriptor says, or not what its kind must be. Costs only itself. */
export class ContentError extends Error {
  override readonly name = 'ContentError'
}
