import type { Readable } from 'node:stream'

/** Properties of a file, as the upstream states them. */
export interface FileInfo {
  name: string
  size?: number
  /** Published checksum such as `sha256:…`, if the publisher or the registry provides one. */
  checksum?: string
  /** Validator, which changes with the content. */
  validator: string
}

/** A file that an upstream has opened. */
export interface OpenedFile {
  /** Properties of the opened file, which may have replaced the requested one. */
  file: FileInfo
  /** Bytes that are not verified. The receiver must consume or destroy the stream. */
  stream: Readable
  /** Offset of the first byte of the stream; 0 if unset. */
  offset?: number
  /** Size of the whole file in bytes, when known. */
  length?: number
  /** Validator of the upstream for this response. */
  etag?: string
}

export interface OpenAt {
  /** Offset of the first requested byte; an upstream may begin earlier. */
  offset: number
  /** Validator of the bytes that were already received; a part of another file is not accepted. */
  etag?: string
  /** Signal that is aborted when the file is no longer needed. */
  signal: AbortSignal
}

/** An instance from which a file can be read. */
export interface DownloadSource {
  instance: string
  /** Opens the file; undefined when it is absent. Throws a `RegistryError`. */
  open: (at: OpenAt) => Promise<OpenedFile | undefined>
}
