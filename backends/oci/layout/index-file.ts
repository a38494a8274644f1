import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Value } from '@sinclair/typebox/value'
import { ImageIndex, LayoutMarker } from '../../../schemas/oci.ts'
import { toDescriptor } from '../content.ts'
import { fingerprint, openInside, orAbsent, readWhole, realInside } from './files.ts'
import type { Tag, Target } from '../transport.ts'

/** Maximum bytes of an `index.json` that is read: about 50,000 tags. */
const maxIndexBytes = 16 * 1024 * 1024
const refName = 'org.opencontainers.image.ref.name'
const containerdName = 'io.containerd.image.name'

/** Error of a directory that is marked as an image layout, but cannot be read as one. */
export class LayoutError extends Error {
  override readonly name = 'LayoutError'
}

/** Name of a manifest in a layout, as a tool wrote it. */
export interface Reference {
  /** Absent when the name is a tag only. */
  repository?: string
  tag?: string
}

/**
 * Parses a reference name in the forms that tools write: `tag`, `repository:tag`, or a full reference, whose registry
 * host is dropped. image-layout.md does not specify its meaning.
 */
export function parseReference (text: string): Reference {
  const slash = text.lastIndexOf('/')
  const colon = text.lastIndexOf(':')
  if (slash === -1 && colon === -1) return { tag: text }
  const path = (colon > slash ? text.slice(0, colon) : text).split('/')
  const [host = ''] = path
  if (path.length > 1 && (/[.:]/.test(host) || host === 'localhost')) path.shift()
  return { repository: path.join('/'), ...(colon > slash && { tag: text.slice(colon + 1) }) }
}

/** Tags of a layout by repository; tags without a repository are under the empty name. */
export type LayoutTags = ReadonlyMap<string, readonly Tag[]>

function textOf (annotations: unknown, key: string): string | undefined {
  const value = typeof annotations === 'object' && annotations !== null
    ? (annotations as Record<string, unknown>)[key]
    : undefined
  return typeof value === 'string' && value !== '' ? value : undefined
}

/**
 * Returns the tags of an index. Malformed descriptors, and those without a tag, are skipped; of two with one name the
 * later counts.
 */
function tagsOf (index: ImageIndex): LayoutTags {
  const repositories = new Map<string, Map<string, Target>>()
  for (const item of index.manifests) {
    const descriptor = toDescriptor(item)
    const name = textOf(descriptor?.annotations, refName)
    if (descriptor === undefined || name === undefined) continue
    const reference = parseReference(name)
    const image = textOf(descriptor.annotations, containerdName)
    const repository = reference.repository ?? (image === undefined ? undefined : parseReference(image).repository) ??
      ''
    if (reference.tag === undefined) continue
    const { digest, mediaType, annotations } = descriptor
    const tags = repositories.get(repository) ?? new Map<string, Target>()
    tags.set(reference.tag, { digest, mediaType, ...(annotations !== undefined && { annotations }) })
    repositories.set(repository, tags)
  }
  return new Map(
    [...repositories].map(([repository, tags]) => [repository, [...tags].map(([name, target]) => ({ name, target }))])
  )
}

export interface LayoutIndexOptions {
  /** Maximum number of further reads of a file that cannot be parsed. */
  retries: number
  /** Milliseconds between two reads. */
  delay: number
  /** Milliseconds for which the last good index is used instead of one that cannot be parsed. */
  patience: number
  sleep: (milliseconds: number) => Promise<void>
  /** Returns the milliseconds of a monotonic clock. */
  clock: () => number
}

interface Known { print: string, tags: LayoutTags, brokenSince?: number }

/**
 * Creates the reader of the `index.json` of layouts. A parsed index is used again until the file changes. A file that
 * is being written is read again a few times; then the last good index is used.
 */
export function createLayoutIndexes (options: LayoutIndexOptions) {
  const { retries, delay, patience, sleep, clock } = options
  const known = new Map<string, Known>()

  /** Returns the parsed file; undefined when it does not exist, or is not a whole JSON document. */
  async function parse (root: string, path: string): Promise<{ document: unknown, print: string } | undefined> {
    const handle = await openInside(root, path)
    if (handle === undefined) return undefined
    try {
      const whole = await readWhole(handle, maxIndexBytes)
      return whole === undefined
        ? undefined
        : { document: JSON.parse(whole.bytes.toString('utf8')), print: whole.print }
    } catch (error) {
      if (error instanceof SyntaxError) return undefined
      throw error
    } finally {
      await handle.close()
    }
  }

  async function read (root: string, directory: string): Promise<Known | undefined> {
    const marker = await parse(root, join(directory, 'oci-layout'))
    if (!Value.Check(LayoutMarker, marker?.document)) return undefined
    const index = await parse(root, join(directory, 'index.json'))
    return index !== undefined && Value.Check(ImageIndex, index.document)
      ? { print: index.print, tags: tagsOf(index.document) }
      : undefined
  }

  return {
    /** Returns whether a directory is a layout: whether it has the marker. */
    async isLayout (root: string, directory: string): Promise<boolean> {
      const marker = await realInside(root, join(directory, 'oci-layout'))
      return marker !== undefined && (await orAbsent(stat(marker)))?.isFile() === true
    },

    /**
     * Returns the tags of the layout in `directory` (inside `root`, both real paths). Throws errors of the file system,
     * or a {@link LayoutError}.
     */
    async tags (root: string, directory: string): Promise<LayoutTags> {
      const last = known.get(directory)
      if (last !== undefined && last.brokenSince === undefined) {
        const now = await orAbsent(stat(join(directory, 'index.json'), { bigint: true }))
        if (now !== undefined && fingerprint(now) === last.print) return last.tags
      }
      for (let attempt = 0; attempt <= retries; attempt++) {
        if (attempt > 0) await sleep(delay)
        const fresh = await read(root, directory)
        if (fresh === undefined) continue
        known.set(directory, fresh)
        return fresh.tags
      }
      if (last === undefined) throw new LayoutError('The image layout has no readable oci-layout and index.json')
      last.brokenSince ??= clock()
      if (clock() - last.brokenSince <= patience) return last.tags
      known.delete(directory)
      throw new LayoutError('The image layout has had no readable index.json for too long')
    },

    /** Forgets a layout that no longer exists. */
    forget (directory: string): void {
      known.delete(directory)
    }
  }
}
