import { LRUCache } from 'lru-cache'
import type { GiteaAsset, GiteaRelease } from '../../schemas/gitea.ts'
import type { FileReference, Skip } from '../driver/driver.ts'
import { safeFileName } from '../driver/file-name.ts'
import { describePlatform, parsePlatform } from '../driver/platform.ts'
import { plainText } from '../driver/text.ts'
import { usableAssets } from './api.ts'
import type { Candidate, Candidates, ReleaseRef } from './candidates.ts'
import type { Checksums } from './checksums.ts'
import { chooseFile } from './choose-file.ts'

/** The name of a file, and the platform that it is built for. */
export interface PlatformFile { file: string, platform: string }

export interface ReleaseFilesOptions {
  /** Base of the addresses that people open, without a trailing slash. */
  publicUrl: string
  /**
   * Platform whose file is served where a release has files of several, such as `linux/arm64`; the first file if unset.
   */
  platform?: string
  /**
   * Called when the file of the first platform is served for the current version of an extension, because no platform
   * is configured. Called again when that platform changes.
   */
  onFirstPlatform?: (choice: PlatformFile & { type: string, name: string }) => void
}

/** Number of extensions whose first platform is remembered, so that it is reported once. */
const maxReportedPlatforms = 10_000

/** Creates the choice of the file of a release among its assets. */
export function createReleaseFiles (
  checksums: Checksums,
  candidates: Pick<Candidates, 'pageUrl'>,
  { publicUrl, onFirstPlatform, ...options }: ReleaseFilesOptions
) {
  const platform = options.platform === undefined ? undefined : describePlatform(parsePlatform(options.platform))
  const reportedPlatforms = new LRUCache<string, string>({ max: maxReportedPlatforms })

  /**
   * Chooses the file of a release, and skips the other assets. Returns `other_platform` when the release is skipped,
   * because its files are of other platforms than the configured one.
   */
  function choose (
    { repository, extension }: Candidate,
    release: GiteaRelease,
    ref: ReleaseRef & { version: string, tag: string },
    skip: Skip
  ): { file?: FileReference, firstPlatform?: PlatformFile } | 'other_platform' {
    const assets = usableAssets(release.assets, ref, skip)
    const choice = chooseFile(assets, {
      repository: repository.name,
      name: extension.name,
      versions: [ref.version, ref.tag],
      platform
    })
    if (choice === 'other_platform') {
      skip({ kind: 'release', reason: choice, ...ref })
      return choice
    }
    const { asset, firstPlatform, passedOver } = choice
    for (const { reason, file } of passedOver) {
      skip({ kind: 'asset', reason, ...ref, file, ...(asset !== undefined && { chosen: asset.name }) })
    }
    if (asset === undefined) return {}
    const { name, uuid, size } = asset
    const file: FileReference = {
      name: safeFileName(name) ?? `${repository.name}.tar.gz`,
      size,
      url: downloadUrl(asset, assets, `${candidates.pageUrl(repository)}/releases/download`, ref.tag),
      validator: uuid,
      locator: uuid,
      ...checksums.of(asset, assets, ref, skip)
    }
    return { file, ...(firstPlatform !== undefined && { firstPlatform: { file: name, platform: firstPlatform } }) }
  }

  /** Returns the address of an asset by its name, or by its uuid where another asset has the same name. */
  function downloadUrl (
    { name, uuid }: GiteaAsset,
    assets: readonly GiteaAsset[],
    releasesUrl: string,
    tag: string
  ): string {
    return assets.filter(other => other.name === name).length > 1
      ? `${publicUrl}/attachments/${uuid}`
      : `${releasesUrl}/${encodeURIComponent(tag)}/${encodeURIComponent(name)}`
  }

  /** Reports the first platform that is served of an extension, unless it has been reported. */
  function reportFirstPlatform (
    { extension: { type, name } }: Candidate,
    { file, platform }: PlatformFile
  ): void {
    const key = `${type}/${name}`
    if (reportedPlatforms.get(key) === platform) return
    reportedPlatforms.set(key, platform)
    onFirstPlatform?.({ type, name, file: plainText(file) ?? '', platform })
  }

  return { choose, reportFirstPlatform }
}
export type ReleaseFiles = ReturnType<typeof createReleaseFiles>
