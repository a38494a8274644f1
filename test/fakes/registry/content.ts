import { readdir, readFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'

export interface TagTarget { digest: string, mediaType: string }

export interface RepositoryContent {
  /** In the order of the pushes. */
  tags: Map<string, TagTarget>
  /** Manifests and other content by digest. */
  blobs: Map<string, Buffer>
}

/** Repositories by their full names. */
export type RegistryContent = Map<string, RepositoryContent>

interface Index { manifests: Array<TagTarget & { annotations?: Record<string, string> }> }

/** Reads the content of a tree of OCI image layouts, each named by its path below `root`. */
export async function contentOf (root: string): Promise<RegistryContent> {
  const content: RegistryContent = new Map()
  const files = await readdir(root, { recursive: true, withFileTypes: true })
  for (const { name, parentPath } of files) {
    if (name !== 'index.json') continue
    const { manifests } = JSON.parse(await readFile(join(parentPath, name), 'utf8')) as Index
    const tags = manifests.map(({ digest, mediaType, annotations }) =>
      [annotations?.['org.opencontainers.image.ref.name'] ?? '', { digest, mediaType }] as const
    )
    const blobs = files.filter(file => file.isFile() && dirname(file.parentPath) === join(parentPath, 'blobs'))
    content.set(relative(root, parentPath), {
      tags: new Map(tags),
      blobs: new Map(
        await Promise.all(blobs.map(async blob =>
          [
            `${blob.parentPath.split('/').at(-1) ?? ''}:${blob.name}`,
            await readFile(join(blob.parentPath, blob.name))
          ] as const
        ))
      )
    })
  }
  return content
}
