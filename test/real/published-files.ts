import { createCipheriv, createHash } from 'node:crypto'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { writeLayout } from '../fakes/layout.ts'
import { contentOf } from '../fakes/registry.ts'
import { push } from './registry-content.ts'

/** Publication time of all files. */
export const published = '2026-11-23T05:24:36Z'

/** Returns a file of `length` bytes without repeated blocks. */
export const fileOf = (length: number, seed = 'file'): Buffer =>
  createCipheriv('aes-128-ctr', createHash('md5').update(seed).digest(), Buffer.alloc(16)).update(Buffer.alloc(length))

export const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

/**
 * Pushes files to a registry, each as version 1.0.0 of `repository` with the name `title`. Writes to `folder`, and
 * removes it at the end.
 */
export async function publishFiles (
  url: string,
  folder: string,
  files: Array<{ repository: string, title: string, content: Buffer }>
): Promise<void> {
  await writeLayout(
    folder,
    files.map(({ repository, title, content }) => ({
      repository,
      tag: '1.0.0',
      layers: [{ title, content }],
      annotations: { 'org.opencontainers.image.created': published }
    }))
  )
  await push(await contentOf(folder), { url })
  await rm(folder, { recursive: true })
}

/** Returns the path of a blob of a docker-registry whose content is below `folder`. */
export function blobPath (folder: string, digest: string): string {
  const [algorithm = '', hex = ''] = digest.split(':')
  return join(folder, 'storage/docker/registry/v2/blobs', algorithm, hex.slice(0, 2), hex, 'data')
}

/** Flips one bit of the byte at an offset of a file; a second call restores it. */
export async function flipByte (path: string, offset: number): Promise<void> {
  const file = await open(path, 'r+')
  try {
    const byte = Buffer.alloc(1)
    await file.read(byte, 0, 1, offset)
    byte.writeUInt8(byte.readUInt8() ^ 1)
    await file.write(byte, 0, 1, offset)
  } finally {
    await file.close()
  }
}
