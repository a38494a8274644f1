import { LRUCache } from 'lru-cache'
import type { GiteaAsset, GiteaRelease } from '../../schemas/gitea.ts'
import type { FileReference, Skip } from '../driver/driver.ts'
import { safeFileName, archiveNames, archiveStem, isArchive } from '../driver/file-name.ts'
import { describePlatform, parsePlatform } from '../driver/platform.ts'
import { plainText } from '../driver/text.ts'
import { usableAssets } from './api.ts'
import type { Candidate, Candidates, ReleaseRef } from './candidates.ts'
import type { Checksums } from './checksums.ts'

const systems = 'linux|darwin|macos|osx|windows|freebsd|openbsd|netbsd'
/** Architectures in all usual spellings. */
const architectures = 'amd64|x86[_-]64|x64|arm64|aarch64|arm(?:v[5-8]l?|hf|el)?|386|i386|i686|x86|ppc64le|ppc64|' +
  's390x|riscv64|loong64|mips(?:64)?(?:le)?'
/** The end of a stem such as `aws_1.0.0_linux_amd64`. */
const suffix = new RegExp(`^(.*)[_-](${systems})[_-](${architectures})(?:[_-]?(v\\d))?$`, 'i')

export interface ChooseFileOptions {
  repository: string
  /** Name of the extension. */
  name: string
  /** Spellings of the version that file names may have. */
  versions: readonly string[]
  /** Platform in the text of `describePlatform`; the first of several if undefined. */
  platform: string | undefined
}

export interface ChosenFile {
  /** Absent when the release has no file that is clearly its own. */
  asset?: GiteaAsset
  /** Platform of the asset, when it is the first of several because no platform is configured. */
  firstPlatform?: string
  /** Archives that are not served. */
  passedOver: Array<{ file: string, reason: 'not_chosen' | 'other_platform' }>
}

interface Archive { asset: GiteaAsset, platform?: string, stem: string }

function toArchive (asset: GiteaAsset): Archive {
  const stem = archiveStem(asset.name)
  const [, before, os, architecture, variant] = stem.length > 255 ? [] : suffix.exec(stem) ?? []
  if (before === undefined || os === undefined || architecture === undefined) return { asset, stem }
  return {
    asset,
    stem: before,
    platform: describePlatform(
      parsePlatform([os, architecture.replace('-', '_'), ...(variant === undefined ? [] : [variant])].join('/'))
    )
  }
}

/**
 * Chooses the file of a release. It is the archive of the configured platform, else a named archive, else the first of
 * any platform, else the only archive. A named archive has the name of the repository, of the repository with the
 * version, or of the extension. The first of any platform is by upload, and counts only when no platform is configured.
 * Of archives with the same name the newest counts. Returns `other_platform` when no archive fits, and there are
 * archives of other platforms.
 */
export function chooseFile (
  assets: readonly GiteaAsset[],
  { repository, name, versions, platform }: ChooseFileOptions
): ChosenFile | 'other_platform' {
  const names = [
    `${repository}.tar.gz`,
    ...versions.flatMap(version => archiveNames(`${repository}-${version}`)),
    ...archiveNames(name)
  ]
  const newest = [...assets].sort((a, b) => b.id - a.id)
  const archives = [
    ...new Map(newest.filter(asset => isArchive(asset.name)).reverse().map(asset => [asset.name, toArchive(asset)]))
      .values()
  ]
  const built = archives.filter(archive => archive.platform !== undefined)
  const neutral = archives.filter(archive => archive.platform === undefined)
  // Files of other programs may be beside the extension's own.
  const stems = new Set(
    [repository, name].flatMap(of => [of, ...versions.flatMap(version => [`${of}-${version}`, `${of}_${version}`])])
  )
  const [first] = [...built.filter(({ stem }) => stems.has(stem)), ...built].filter(archive =>
    platform === undefined || archive.platform === platform
  )
  const named = names.map(expected => archives.find(({ asset }) => asset.name === expected)).find(archive =>
    archive !== undefined
  )
  const only = neutral.length === 1 && (built.length === 0 || platform !== undefined) ? neutral[0] : undefined
  const chosen = (platform === undefined ? named ?? first : first ?? named) ?? only
  if (chosen === undefined && built.length > 0) return 'other_platform'
  const passedOver = archives.filter(archive => archive !== chosen).map(({ asset, platform }) => ({
    file: asset.name,
    reason: platform !== undefined && platform !== chosen?.platform ? 'other_platform' as const : 'not_chosen' as const
  }))
  if (chosen === undefined) return { passedOver }
  const several = new Set(built.map(archive => archive.platform)).size > 1
  return {
    asset: chosen.asset,
    passedOver,
    ...(platform === undefined && chosen !== named && several && chosen.platform !== undefined &&
      { firstPlatform: chosen.platform })
  }
}

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
