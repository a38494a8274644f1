import type { Readable } from 'node:stream'

/** What is said of a file. */
export interface FileInfo {
  name: string
  size?: number
  /** `sha256:…` and the like, when the publisher or the registry says. */
  checksum?: string
  /** Changes when the content does. */
  validator: string
}

/** A file as an upstream opened it. */
export interface OpenedFile {
  /** What it is, which may not be what was asked for: it may have been replaced. */
  file: FileInfo
  /** Not verified. Whoever has it must consume or destroy it. */
  stream: Readable
  /** First byte that the stream gives; 0 if unset. */
  offset?: number
  /** Bytes of the whole file, when known. */
  length?: number
  /** The upstream's own validator of what it sends. */
  etag?: string
}

export interface OpenAt {
  /** First byte that is wanted; an upstream may begin earlier. */
  offset: number
  /** Validator of what was sent before; a part of anything else is not taken. */
  etag?: string
  /** Aborted when nobody wants the file any more. */
  signal: AbortSignal
}

/** A place that has a file. */
export interface DownloadSource {
  instance: string
  /** Opens the file; undefined when it is gone. Throws errors of the table. */
  open: (at: OpenAt) => Promise<OpenedFile | undefined>
}
