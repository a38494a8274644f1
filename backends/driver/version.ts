import { compare, parse } from 'semver'
import type { Release } from './driver.ts'

/** Maximum length of a version, in characters: semver sets no limit, but tags and URLs do. */
const maxLength = 128

/**
 * Returns the canonical version of a tag: semver 2.0.0 with its build metadata, without an optional leading `v`.
 * Returns undefined when the tag is not a version.
 */
export function versionOfTag (tag: string): string | undefined {
  if (tag.length > maxLength) return undefined
  const text = tag.startsWith('v') ? tag.slice(1) : tag
  const version = parse(text)
  if (version === null) return undefined
  const canonical = version.build.length > 0 ? `${version.version}+${version.build.join('.')}` : version.version
  // `parse` also accepts blanks, `=` and a second `v`: such a tag is not a version.
  return canonical === text ? canonical : undefined
}

/** Returns whether a canonical version is a pre-release. */
export function isPrerelease (version: string): boolean {
  return (parse(version)?.prerelease.length ?? 0) > 0
}

const byText = (a: string, b: string): number => a < b ? -1 : a > b ? 1 : 0

/** Compares releases: highest version first, of equal precedence the newest first, then by text. */
function compareReleases (a: Release, b: Release): number {
  return compare(b.version, a.version) || byText(b.published_at, a.published_at) || byText(a.version, b.version)
}

/** Returns a copy in the order in which versions are listed: highest first. */
export function orderReleases<T extends Release> (releases: readonly T[]): T[] {
  return [...releases].sort(compareReleases)
}

/**
 * Returns the current one of releases in listing order: the highest release, or the highest pre-release when there are
 * only pre-releases. A release that its publisher marks as a pre-release is one, independently of its version.
 */
export function currentRelease<T extends Release> (ordered: readonly T[]): T | undefined {
  return ordered.find(release => release.prerelease !== true && !isPrerelease(release.version)) ?? ordered[0]
}

/**
 * Chooses one tag for each version: of two tags of the same version, the tag that is spelled like the version. Calls
 * `skip` with each tag that is not a version.
 */
export function tagsByVersion (tags: Iterable<string>, skip: (tag: string) => void): Map<string, string> {
  const chosen = new Map<string, string>()
  for (const tag of tags) {
    const version = versionOfTag(tag)
    if (version === undefined) skip(tag)
    else if (!chosen.has(version) || tag === version) chosen.set(version, tag)
  }
  return chosen
}

/** Returns a time as the API shows it: UTC with `Z`, cut to seconds. Returns undefined when the text is not a time. */
export function utcSeconds (time: string | undefined): string | undefined {
  if (time === undefined) return undefined
  const date = new Date(time)
  return Number.isNaN(date.getTime()) || date.getUTCFullYear() > 9999 || date.getUTCFullYear() < 0
    ? undefined
    : date.toISOString().replace(/\.\d+Z$/, 'Z')
}
