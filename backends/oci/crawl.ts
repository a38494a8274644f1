import pLimit from 'p-limit'
import { isRefusal, isRegistryError, type RegistryError } from '../../lib/errors.ts'
import { forEachYielding } from '../../lib/yielding.ts'
import type { Crawl, Current, Skip } from '../driver/driver.ts'
import { createFailFast, isUpstreamResponse } from '../driver/fail-fast.ts'
import type { CrawlPlan, LastRead } from '../driver/read-schedule.ts'
import type { ExtensionRef, ExtensionRepositories, Repositories } from './repositories.ts'
import type { OciSchedule, TrackedVersions } from './tracked-versions.ts'
import type { RepositoryState, Transport } from './transport.ts'

/** Repositories that are refused, each with the extension that it would hold. */
type Refusals = Array<{ extension: ExtensionRef, repository: string, error: RegistryError }>

export interface OciCrawlOptions {
  transport: Transport
  repositories: Repositories
  /** Creates the reader of the repositories that a crawl reads. */
  versionsOf: (plan: CrawlPlan<Current>) => Pick<TrackedVersions, 'current'>
  schedule: OciSchedule
  /** Maximum number of repositories that are read at the same time. */
  concurrency: number
  skip: Skip
}

/** State of one crawl. */
interface CrawlReads extends Pick<OciCrawlOptions, 'schedule' | 'skip'> {
  /** Time of its start, in milliseconds of the schedule's clock. */
  startedAt: number
  plan: CrawlPlan<Current>
  versions: Pick<TrackedVersions, 'current'>
  states: ReadonlyMap<string, RepositoryState>
  refusals: Refusals
}

/** Current version of an extension, and the repository that has it. */
interface FoundCurrent { repository: string, current: Current }

/**
 * Crawls the repositories that can be discovered. Those without a visible change are read in turns. Throws when it
 * could not read any of them.
 */
export async function crawlRepositories (
  { transport, repositories, versionsOf, schedule, concurrency, skip }: OciCrawlOptions
): Promise<Crawl> {
  const startedAt = schedule.now()
  const discovered = await repositories.discover({ withStates: true })
  const { names, states = new Map(), truncated, truncatedBy, expected } = discovered
  const groups = repositories.group(names)
  const known = groups.flatMap(group => group.repositories)
  const plan = schedule.plan(known.map(name => ({ name, state: states.get(name) })))
  if (truncated !== true) schedule.retain(new Set(known))
  const reads: CrawlReads = { startedAt, plan, versions: versionsOf(plan), states, schedule, skip, refusals: [] }
  const { results, failed, refused } = await readGroups(groups, reads, concurrency)
  if (!results.some(({ isRead }) => isRead)) await mustBeReachable({ results, failed, refused }, transport)
  const crawl: Crawl = {
    found: [],
    failed,
    ...(plan.unchanged.size > 0 && { unchanged: new Set(plan.unchanged.keys()) }),
    ...(truncated === true && { truncated, absent: [] }),
    ...(truncatedBy !== undefined && { truncatedBy }),
    ...(expected === true && { expected }),
    ...(refused.length > 0 && { refused })
  }
  await forEachYielding(results, ({ group, found }) => {
    const newest = newestOf(group, found, reads)
    if (newest === undefined) crawl.absent?.push(group.extension)
    else crawl.found.push(newest)
  })
  for (const { extension, repository } of reads.refusals) {
    skip({
      kind: 'repository',
      reason: 'refused',
      ...extension,
      repository,
      ...(transport.named?.has(repository) !== true && { hidden: true })
    })
  }
  return crawl
}

/** Result of a crawl for one extension; `isRead` is whether the crawl sent a request for it. */
interface GroupResult { group: ExtensionRepositories, found: FoundCurrent | undefined, isRead: boolean }

interface GroupResults extends Required<Pick<Crawl, 'failed' | 'refused'>> { results: GroupResult[] }

/** Returns the last results of extensions without a visible change, and reads the others. */
async function readGroups (
  groups: readonly ExtensionRepositories[],
  reads: CrawlReads,
  concurrency: number
): Promise<GroupResults> {
  const { results, failed, refused }: GroupResults = { results: [], failed: [], refused: [] }
  const changed: ExtensionRepositories[] = []
  await forEachYielding(groups, group => {
    const [first = ''] = group.repositories
    const current = reads.plan.unchanged.get(first)?.result
    if (current === undefined) changed.push(group)
    else {
      skipDuplicates(group, first, reads)
      results.push({ group, found: { repository: first, current }, isRead: false })
    }
  })
  const failFast = createFailFast()
  // As many repositories as requests at the same time: a later repository then sees the failures of the earlier ones.
  const limit = pLimit(concurrency)
  await Promise.all(
    changed.map(async group => {
      const { extension } = group
      try {
        const found = await limit(async () => await failFast(async () => await firstCurrent(group, reads)))
        results.push({ group, found, isRead: true })
      } catch (error) {
        if (!isRegistryError(error)) throw error
        if (isRefusal(error)) refused.push({ ...extension, error })
        else failed.push({ ...extension, error })
      }
    })
  )
  return { results, failed, refused }
}

/**
 * Returns the current version of the first repository of an extension that has one. A refused repository is skipped;
 * its error is thrown when no other repository has a version.
 */
async function firstCurrent (group: ExtensionRepositories, reads: CrawlReads): Promise<FoundCurrent | undefined> {
  const { extension, repositories } = group
  let refusal: RegistryError | undefined
  for (const repository of repositories) {
    try {
      const current = reads.plan.unchanged.get(repository)?.result ??
        await reads.versions.current(repository, extension, reads.states.get(repository))
      if (current === undefined) continue
      skipDuplicates(group, repository, reads)
      return { repository, current }
    } catch (error) {
      if (!isRefusal(error)) throw error
      reads.refusals.push({ extension, repository, error })
      refusal ??= error
    }
  }
  if (refusal !== undefined) throw refusal
  return undefined
}

/** Skips the repositories of an extension after the one that is shown. They need no turn in the schedule. */
function skipDuplicates (
  { extension, repositories }: ExtensionRepositories,
  shown: string,
  { schedule, skip }: Pick<CrawlReads, 'schedule' | 'skip'>
): void {
  for (const repository of repositories.slice(repositories.indexOf(shown) + 1)) {
    schedule.forget(repository)
    skip({ kind: 'repository', reason: 'duplicate', ...extension, repository })
  }
}

/**
 * Returns the newest result for an extension, since a request of a client may have read a repository after the crawl
 * did; undefined when it has no version. With `age` when no read of this crawl confirms it: a list of repositories does
 * not show every change.
 */
function newestOf (
  { repositories }: ExtensionRepositories,
  found: FoundCurrent | undefined,
  { startedAt, plan, schedule }: CrawlReads
): Crawl['found'][number] | undefined {
  const withAge = (current: Current, last: LastRead<Current> | undefined) => ({
    ...current,
    ...(last !== undefined && last.oldest < startedAt && { age: (schedule.now() - last.oldest) / 1000 })
  })
  for (const repository of repositories) {
    const read = schedule.readSince(repository, startedAt)
    if (read?.result !== undefined) return withAge(read.result, read)
    const isOutdated = read !== undefined && repositories.length === 1
    if (found?.repository === repository && !isOutdated) {
      return withAge(found.current, plan.unchanged.get(repository))
    }
  }
  return undefined
}

/**
 * Throws when a crawl without a successful read shows that the whole instance is unavailable, or refuses the
 * credentials. Without earlier results every failure does. Otherwise the registry itself decides, unless it has
 * responded with the failure.
 */
async function mustBeReachable ({ results, failed, refused }: GroupResults, transport: Transport): Promise<void> {
  const [failure] = failed
  const [refusal, secondRefusal] = refused
  if (results.length === 0) {
    if (failure !== undefined) throw failure.error
    if (refusal !== undefined && secondRefusal !== undefined) throw refusal.error
  }
  const isRefusedOnly = failure === undefined && refusal !== undefined
  if (isRefusedOnly || (failure !== undefined && !isUpstreamResponse(failure.error))) {
    await transport.ping(new AbortController().signal)
  }
}
