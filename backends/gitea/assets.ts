import { TypeCompiler } from '@sinclair/typebox/compiler'
import { statusError } from '../../plugins/upstream/errors.ts'
import { GiteaAsset } from '../../schemas/gitea.ts'
import type { Artifact, FileReference, OpenOptions, Skip } from '../driver/driver.ts'
import { textField, type GiteaApi } from './api.ts'
import type { ReleaseRef } from './candidates.ts'

const asset = TypeCompiler.Compile(GiteaAsset)

/** Returns the assets of a release that are well formed and whose content the server itself stores. */
export function usableAssets (assets: readonly unknown[], release: ReleaseRef, skip: Skip): GiteaAsset[] {
  return assets.filter((element): element is GiteaAsset => {
    if (!asset.Check(element) || !element.name.isWellFormed()) {
      const file = textField(element, 'name')
      skip({ kind: 'asset', reason: 'malformed', ...release, ...(file !== undefined && { file }) })
      return false
    }
    return element.type !== 'external'
  })
}

/**
 * Opens the asset of a file; undefined when it no longer exists. Throws `auth_error` when the server sends a page
 * instead, and `service_unavailable` when the size or the coding differ from those of the published file.
 */
export async function openAsset (
  api: Pick<GiteaApi, 'open' | 'unexpected'>,
  instance: string,
  file: FileReference,
  { signal, offset: firstByte = 0, etag }: OpenOptions
): Promise<Artifact | undefined> {
  const opened = await api.open(file.locator, {
    signal,
    offset: firstByte,
    ...(file.size !== undefined && { size: file.size }),
    ...(etag !== undefined && { etag })
  })
  if (opened === undefined) return undefined
  const { stream, offset, headers } = opened
  const { 'content-type': type = '', 'content-encoding': encoding = 'identity', 'content-length': rest } = headers
  const length = rest === undefined ? file.size : offset + Number(rest)
  // A server that requires a login sends its login page instead of the file. Gitea sends text files as plain text, not
  // as HTML.
  const isPage = /^text\/html\b/i.test(type)
  if (isPage || encoding !== 'identity' || (file.size !== undefined && length !== file.size)) {
    stream.destroy()
    throw isPage
      ? statusError(instance, 401)
      : api.unexpected('File differs from the published file', 'http_response_incomplete')
  }
  return {
    file,
    stream,
    offset,
    ...(length !== undefined && { length }),
    ...(headers.etag !== undefined && { etag: headers.etag })
  }
}
