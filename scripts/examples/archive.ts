import { crc32 } from 'node:zlib'

export interface ArchiveFile {
  /** Path of at most 100 bytes. */
  path: string
  content: Buffer
  executable: boolean
}

const blockSize = 512
const maxStored = 65_535

function header ({ path, content, executable }: ArchiveFile, mtime: number): Buffer {
  const block = Buffer.alloc(blockSize)
  const octal = (value: number, width: number) => `${value.toString(8).padStart(width - 1, '0')}\0`
  if (Buffer.byteLength(path) > 100) throw new RangeError(`Path too long for the archive: ${path}`)
  block.write(path, 0)
  block.write(octal(executable ? 0o755 : 0o644, 8), 100)
  block.write(octal(0, 8), 108)
  block.write(octal(0, 8), 116)
  block.write(octal(content.length, 12), 124)
  block.write(octal(mtime, 12), 136)
  block.write(' '.repeat(8), 148)
  block.write('0', 156)
  block.write('ustar\x0000', 257)
  block.write('root', 265)
  block.write('root', 297)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return block
}

/** Returns a POSIX (ustar) archive of files in the given order, all with one modification time (seconds since 1970). */
export function tar (files: readonly ArchiveFile[], mtime: number): Buffer {
  const parts = files.flatMap(
    file => [header(file, mtime), file.content, Buffer.alloc((blockSize - file.content.length % blockSize) % blockSize)]
  )
  return Buffer.concat([...parts, Buffer.alloc(2 * blockSize)])
}

/**
 * Returns the content as gzip (RFC 1952) in stored blocks and without a time. The bytes are the same with every version
 * of zlib, which compression does not guarantee.
 */
export function gzip (content: Buffer): Buffer {
  const blocks: Buffer[] = []
  for (let at = 0; at === 0 || at < content.length; at += maxStored) {
    const chunk = content.subarray(at, at + maxStored)
    const head = Buffer.alloc(5)
    head.writeUInt8(at + maxStored >= content.length ? 1 : 0, 0)
    head.writeUInt16LE(chunk.length, 1)
    head.writeUInt16LE(chunk.length ^ 0xffff, 3)
    blocks.push(head, chunk)
  }
  const tail = Buffer.alloc(8)
  tail.writeUInt32LE(crc32(content), 0)
  tail.writeUInt32LE(content.length, 4)
  return Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]), ...blocks, tail])
}
