import type { Extension, ExtensionSource, ExtensionVersion } from '../../schemas/extension.ts'
import type { FileReference, Metadata, Release } from '../driver/driver.ts'

export interface PresenterOptions {
  source: ExtensionSource
  /** Address that is shown as `download_url`. */
  downloadUrls: 'upstream' | 'gateway'
  /** Public address of this registry; without it there are no `gateway` addresses. */
  publicUrl?: string
  /** Called with each file that is shown. */
  onFile?: (file: FileReference) => void
}

/** Creates the conversion of a driver's data to the extensions and versions of the API. */
export function createPresenter ({ source, downloadUrls, publicUrl, onFile }: PresenterOptions) {
  function downloadUrl (
    { type, name }: Pick<Metadata, 'type' | 'name'>,
    { version, file }: Release
  ): string | undefined {
    if (file === undefined) return undefined
    if (downloadUrls === 'upstream') return file.url
    return publicUrl === undefined
      ? undefined
      : `${publicUrl.replace(/\/+$/, '')}/api/v1/extensions/${type}/${name}/${encodeURIComponent(version)}`
  }

  function toVersion (of: Pick<Metadata, 'type' | 'name'>, release: Release): ExtensionVersion {
    const { version, published_at, file } = release
    if (file !== undefined) onFile?.(file)
    const url = downloadUrl(of, release)
    return {
      version,
      published_at,
      ...(url !== undefined && { download_url: url }),
      ...(file?.checksum !== undefined && { checksum: file.checksum }),
      ...(file?.size !== undefined && { size: file.size })
    }
  }

  return {
    toVersion,
    toExtension (metadata: Metadata, release: Release): Extension {
      const { name, type, description, author, repository, tags } = metadata
      const { version, ...rest } = toVersion(metadata, release)
      return {
        name,
        type,
        version,
        description,
        ...(author !== undefined && author !== '' && { author }),
        ...(repository !== undefined && { repository }),
        source,
        ...rest,
        ...(tags !== undefined && tags.length > 0 && { tags })
      }
    }
  }
}
export type Presenter = ReturnType<typeof createPresenter>
