import { LRUCache } from 'lru-cache'
import type { LimitFunction } from 'p-limit'
import type { Descriptor } from '../../schemas/oci.ts'
import type { ExtensionType } from '../../schemas/extension.ts'
import type { FileReference, Release, Skip, SkipReason } from '../driver/driver.ts'
import { readVerified } from './content.ts'
import type { Platform } from '../driver/platform.ts'
import { fileName } from './layers.ts'
import { chooseArtifact } from './artifact.ts'
import { publishedAt, hasTime } from './metadata.ts'
import { ContentError, type Manifest, type Tag, type Target, type Transport } from './transport.ts'

/** Stores verified content by its digest. It may remove content at any time. */
export interface ByteCache {
  get (digest: string): Buffer | undefined | Promise<Buffer | undefined>
  set (digest: string, bytes: Buffer): void | Promise<void>
}

export interface ManifestReaderOptions {
  transport: Transport
  /** Limits the concurrent requests to the transport. */
  limit: LimitFunction
  skip: Skip
  /** Platform whose artifacts are taken from an index; the first if unset. */
  platform?: Platform | undefined
  /** Called when the first platform of several is taken, because no platform is configured. */
  onFirstPlatform?: ((choice: FirstPlatform) => void) | undefined
  immutable?: ByteCache
  /** Targets of tags when they were last read. */
  pointed?: TagMemory
  /**
   * Returns the maximum age in milliseconds of a tag's digest that is used without a request. By default each read of a
   * tag requests its digest.
   */
  maxDigestAge?: (repository: string) => number
  /** Called with the time at which a digest was read that is used without a request. */
  onKnownDigest?: (repository: string, at: number) => void
}

/** A tag whose index has several platforms, and the one that is taken. */
export interface FirstPlatform { repository: string, tag: string, platform: string }

/** Maximum number of tags whose digests are remembered. */
const rememberedTags = 20_000

/** Creates the memory of the targets of tags, with the time of each read by `clock`. It outlives a crawl. */
export function createTagMemory (clock: () => number) {
  const targets = new LRUCache<string, Pick<Target, 'digest' | 'mediaType'> & { at: number }>({ max: rememberedTags })
  const keyOf = (repository: string, tag: string) => `${repository}:${tag}`
  return {
    now: clock,
    get: (repository: string, tag: string) => targets.get(keyOf(repository, tag)),
    set (repository: string, tag: string, { digest, mediaType }: Target, at: number): void {
      targets.set(keyOf(repository, tag), { digest, at, ...(mediaType !== undefined && { mediaType }) })
    },
    delete (repository: string, tag: string): void { targets.delete(keyOf(repository, tag)) }
  }
}
export type TagMemory = ReturnType<typeof createTagMemory>

/** Creates the reader of the artifacts that tags point at. */
export function createReader (
  { transport, limit, skip, platform, onFirstPlatform, immutable, pointed, ...known }: ManifestReaderOptions
) {
  const { maxDigestAge = () => 0, onKnownDigest } = known

  /** Resolves a tag, together with its manifest unless the manifest that it pointed at last is cached. */
  async function targetOf (repository: string, tag: string): Promise<Target | undefined> {
    const last = pointed?.get(repository, tag)
    const withManifest = last === undefined || await immutable?.get(last.digest) === undefined
    const now = pointed?.now() ?? 0
    if (last !== undefined && !withManifest && now - last.at < maxDigestAge(repository)) {
      const { at, ...target } = last
      onKnownDigest?.(repository, at)
      return target
    }
    const target = await limit(() => transport.resolve(repository, tag, { withManifest }))
    if (target === undefined) {
      pointed?.delete(repository, tag)
      return undefined
    }
    pointed?.set(repository, tag, target, now)
    if (target.manifest !== undefined) await immutable?.set(target.digest, target.manifest.bytes)
    return target
  }

  async function manifestOf (
    repository: string,
    { digest, mediaType }: Pick<Descriptor, 'digest'> & { mediaType?: string }
  ): Promise<Manifest | undefined> {
    const known = await immutable?.get(digest)
    const manifest = known === undefined
      ? await limit(() => transport.manifest(repository, digest))
      : { digest, bytes: known }
    if (manifest === undefined) return undefined
    if (known === undefined) await immutable?.set(digest, manifest.bytes)
    return { ...(mediaType !== undefined && { mediaType }), ...manifest }
  }

  /** Reads a config; undefined when it is missing or damaged. The release then lacks only its publication time. */
  async function configOf (repository: string, config: Descriptor | undefined): Promise<Buffer | undefined> {
    if (!hasTime(config)) return undefined
    const known = await immutable?.get(config.digest)
    if (known !== undefined) return known
    const bytes = await limit(async () => {
      try {
        const blob = await transport.blob(repository, config, { signal: new AbortController().signal })
        return blob === undefined ? undefined : await readVerified(blob.stream, config)
      } catch (error) {
        if (error instanceof ContentError) return undefined
        throw error
      }
    })
    if (bytes !== undefined) await immutable?.set(config.digest, bytes)
    return bytes
  }

  async function rootOf (
    repository: string,
    { name, target: listed }: Tag
  ): Promise<{ target: Target, manifest: Manifest } | undefined> {
    const target = listed ?? await targetOf(repository, name)
    const manifest = target === undefined ? undefined : target.manifest ?? await manifestOf(repository, target)
    return target === undefined || manifest === undefined ? undefined : { target, manifest }
  }

  function toFile (repository: string, layer: Descriptor, extension: { name: string, version: string }): FileReference {
    const { digest, size } = layer
    const url = transport.url?.(repository, { digest, size })
    return {
      name: fileName(layer, extension),
      size,
      checksum: digest,
      ...(url !== undefined && { url }),
      validator: digest,
      locator: `${repository}@${digest}`
    }
  }

  return {
    limit,

    /**
     * Returns the version of a tag, with the annotations that describe it. Returns undefined, and calls `skip`, when
     * the tag is not an artifact.
     */
    async read (
      repository: string,
      tag: Tag,
      { version, ...extension }: { type: ExtensionType, name: string, version: string }
    ): Promise<Release & { annotations: unknown[] } | undefined> {
      const place = { ...extension, repository, version, tag: tag.name }
      const skipTag = (reason: SkipReason): void => { skip({ kind: 'tag', reason, ...place }) }
      try {
        const root = await rootOf(repository, tag)
        const chosen = root === undefined
          ? 'missing_content'
          : await chooseArtifact(root.manifest, { fetch: async child => await manifestOf(repository, child), platform })
        if (root === undefined || typeof chosen === 'string') {
          skipTag(typeof chosen === 'string' ? chosen : 'missing_content')
          return undefined
        }
        for (const passedOver of chosen.passedOver) skip({ ...passedOver, ...place })
        if (chosen.firstPlatform !== undefined) {
          onFirstPlatform?.({ repository, tag: tag.name, platform: chosen.firstPlatform })
        }
        const annotations = [...chosen.annotations, root.target.annotations]
        return {
          version,
          published_at: await publishedAt(annotations, async () => await configOf(repository, chosen.config)),
          ...(chosen.file !== undefined && { file: toFile(repository, chosen.file, { ...extension, version }) }),
          annotations
        }
      } catch (error) {
        if (!(error instanceof ContentError)) throw error
        skipTag('malformed')
        return undefined
      }
    }
  }
}
export type Reader = ReturnType<typeof createReader>
