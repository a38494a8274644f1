import pLimit from 'p-limit'
import { forEachYielding } from '../../lib/yielding.ts'
import type { Crawl, Skip } from '../driver/driver.ts'
import { createFailFast } from '../driver/fail-fast.ts'
import type { RepositoryMapping } from '../driver/mapping.ts'
import type { FoundRepositories, GiteaApi } from './api.ts'
import { isPrivate, skipRepository, type Candidate, type Candidates } from './candidates.ts'
import type { ChangeTracker, LastRelease } from './change-tracker.ts'
import type { CandidateResult, RepositoryResult, TrackedReleases } from './releases.ts'

export interface CrawlParts {
  api: Pick<GiteaApi, 'repositories' | 'unexpected'>
  candidates: Candidates
  releases: TrackedReleases
  tracker: ChangeTracker
}

export interface GiteaCrawlOptions {
  mapping: Pick<RepositoryMapping, 'identify'>
  /** Maximum number of repositories that are read at the same time. */
  concurrency: number
  /** Called by each crawl with the number of private repositories that it shows. */
  onPrivate?: (count: number) => void
}

/** Creates the crawl: the current release of each extension of the owner. */
export function createCrawl (
  { api, candidates, releases, tracker }: CrawlParts,
  { mapping, concurrency, onPrivate }: GiteaCrawlOptions
) {
  const limit = pLimit(concurrency)

  /** Reads the candidates that may have changed. Returns the results of all, and the names of the unchanged ones. */
  async function readCandidates (
    all: readonly Candidate[],
    startedAt: number,
    skip: Skip
  ): Promise<{ results: CandidateResult[], unchanged: ReadonlySet<string> }> {
    const failFast = createFailFast()
    const unchanged = tracker.unchanged(all.map(({ repository }) => repository))
    const remembered: CandidateResult[] = []
    const changed: Candidate[] = []
    await forEachYielding(all, candidate => {
      const last = unchanged.get(candidate.repository.name)
      if (last === undefined) changed.push(candidate)
      else remembered.push(withRelease(candidate, last))
    })
    const read = await Promise.all(
      changed.map(async candidate => await limit(async () => await releases.current(candidate, failFast, skip)))
    )
    const newest: CandidateResult[] = []
    // A request of a client may have read a repository after the crawl did: its result is newer.
    await forEachYielding([...remembered, ...read], result => {
      const last = tracker.readSince(result.repository.name, startedAt)
      newest.push(last === undefined ? result : withRelease(result, last))
    })
    const results = await Promise.all(
      newest.map(async result =>
        result.release?.file?.checksumLocator === undefined
          ? result
          : await limit(async () => await releases.withChecksum(result, failFast, skip))
      )
    )
    return { results, unchanged: new Set(unchanged.keys()) }
  }

  /** Returns the extensions of repositories whose row in the listing is malformed, as failures. */
  const failuresOf = ({ unread }: FoundRepositories): RepositoryResult[] =>
    unread.flatMap(name => {
      const extension = mapping.identify(name)
      return extension === undefined
        ? []
        : [{ extension, error: api.unexpected('Response has an unexpected structure') }]
    })

  /** Crawls the owner's repositories. Throws when they cannot be listed, or when it could not read any of them. */
  return async function crawl (skip: Skip): Promise<Crawl> {
    const startedAt = tracker.now()
    const listed = await api.repositories(skip)
    const all: Candidate[] = []
    await forEachYielding(listed.found, repository => {
      const candidate = candidates.select(repository, skip)
      if (candidate !== undefined) all.push(candidate)
    })
    onPrivate?.(all.filter(({ repository }) => isPrivate(repository)).length)
    const { results, unchanged } = await readCandidates(all, startedAt, skip)
    if (listed.truncated === undefined) tracker.retain(new Set(all.map(({ repository }) => repository.name)))
    mustHaveRead(results.filter(({ repository }) => repository.release_counter !== 0))
    const owners = await chooseOwners([...results, ...failuresOf(listed)], skip)
    for (const result of results) if (result.refused === true) skipRepository(result, 'refused', skip)
    const found: Crawl['found'] = []
    await forEachYielding(owners, ({ release, repository, extension }) => {
      if (release !== undefined && repository !== undefined) {
        found.push({ metadata: candidates.metadata({ repository, extension }), release })
      }
    })
    return {
      found,
      unchanged,
      ...errorsOf(owners),
      ...(listed.truncated !== undefined &&
        { truncated: true, truncatedBy: listed.truncated, absent: absentOf(results) })
    }
  }
}

/** Returns a candidate with the release that the change tracker has of it. */
const withRelease = ({ repository, extension }: Candidate, { release }: LastRelease): CandidateResult => ({
  repository,
  extension,
  ...(release !== undefined && { release })
})

/**
 * Throws when a crawl could not read any repository. A single refused repository fails alone, since the upstream
 * accepted the credentials for the list of repositories. When several are refused and no other is read, the credentials
 * themselves are refused.
 */
function mustHaveRead (results: readonly CandidateResult[]): void {
  if (results.some(({ error }) => error === undefined)) return
  const failure = results.find(({ refused }) => refused !== true) ?? (results.length > 1 ? results[0] : undefined)
  if (failure?.error !== undefined) throw failure.error
}

/**
 * Chooses one repository for each extension: the first, in the order of the mapping's patterns, that has a release or
 * cannot be read. A repository that cannot be read may have a release. The others are skipped as duplicates.
 */
async function chooseOwners (results: RepositoryResult[], skip: Skip): Promise<RepositoryResult[]> {
  const owners = new Map<string, RepositoryResult>()
  await forEachYielding(results.sort((a, b) => a.extension.rank - b.extension.rank), result => {
    const { repository, extension, release, error, refused } = result
    if (release === undefined && error === undefined) return
    const key = `${extension.type}/${extension.name}`
    if (!owners.has(key)) owners.set(key, result)
    else if (repository !== undefined) skipRepository({ repository, extension }, 'duplicate', skip, refused)
  })
  return [...owners.values()]
}

/** Returns the extensions that failed, and apart from them those that are refused. */
function errorsOf (owners: readonly RepositoryResult[]): Required<Pick<Crawl, 'failed' | 'refused'>> {
  const failed: Crawl['failed'] = []
  const refusals: Crawl['failed'] = []
  for (const { extension: { type, name }, error, refused } of owners) {
    if (error !== undefined) (refused === true ? refusals : failed).push({ type, name, error })
  }
  return { failed, refused: refusals }
}

/** Returns the extensions whose repository was read and has no release. */
const absentOf = (results: readonly CandidateResult[]): NonNullable<Crawl['absent']> =>
  results.filter(({ release, error }) => release === undefined && error === undefined)
    .map(({ extension: { type, name } }) => ({ type, name }))
