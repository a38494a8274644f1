import { compare, parse } from 'semver'
import type { Release } from './driver.ts'

/** Longest version that is read; semver sets no limit, tags and URLs do. */
const maxLength = 128

/**
 * The canonical version that a tag means: semver 2.0.0 (build metadata kept), an optional leading `v` dropped.
 * Undefined when the tag is no version.
 */
export function versionOfTag (tag: string): string | undefined {
  if (tag.length > maxLength) return undefined
  const text = tag.startsWith('v') ? tag.slice(1) : tag
  const version = parse(text)
  if (version === null) return undefined
  const canonical = version.build.length > 0 ? `${version.version}+${version.build.join('.')}` : version.version
  // semver forgives blanks, `=` and a second `v`.
  return canonical === text ? canonical : undefined
}

/** Whether a canonical version is a pre-release. */
export function isPrerelease (version: string): boolean {
  return (parse(version)?.prerelease.length ?? 0) > 0
}

const byText = (a: string, b: string): number => a < b ? -1 : a > b ? 1 : 0

/** Highest first; equal precedence by date of publication, newest first, then by text. */
function compareReleases (a: Release, b: Release): number {
  return compare(b.version, a.version) || byText(b.published_at, a.published_at) || byText(a.version, b.version)
}

/** A copy in the order in which versions are listed: highest first. */
export function orderReleases<T extends Release> (releases: readonly T[]): T[] {
  return [...releases].sort(compareReleases)
}

/**
 * The current one of releases in listing order: the highest release, or the highest pre-release when nothing else
 * exists. A release that its publisher marks as a pre-release is one, whatever its version says.
 */
export function currentRelease<T extends Release> (ordered: readonly T[]): T | undefined {
  return ordered.find(release => release.prerelease !== true && !isPrerelease(release.version)) ?? ordered[0]
}

/**
 * Picks one tag per version: where two tags mean the same version, the one that is spelled like it wins.
 * Tags that mean none are given to `skip`.
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

/** A time as the registry tells it: UTC with `Z`, cut to seconds. Undefined when it is no time. */
export function utcSeconds (time: string | undefined): string | undefined {
  if (time === undefined) return undefined
  const date = new Date(time)
  return Number.isNaN(date.getTime()) || date.getUTCFullYear() > 9999 || date.getUTCFullYear() < 0
    ? undefined
    : date.toISOString().replace(/\.\d+Z$/, 'Z')
}
