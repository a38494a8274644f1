import pLimit from 'p-limit'
import { isRefusal, isRegistryError, type RegistryError } from '../../lib/errors.ts'
import type { Crawl, Skip } from '../driver/driver.ts'
import { createFailFast } from '../driver/fail-fast.ts'
import type { ExtensionRef, ExtensionRepositories, Repositories } from './repositories.ts'
import type { Transport } from './transport.ts'
import type { Current, Versions } from './versions.ts'

/** Repositories that are refused, each with the extension that it would hold. */
type Refusals = Array<{ extension: ExtensionRef, repository: string, error: RegistryError }>

export interface OciCrawlOptions {
  transport: Transport
  repositories: Repositories
  versions: Pick<Versions, 'current'>
  /** Maximum number of repositories that are read at the same time. */
  concurrency: number
  skip: Skip
}

/** Crawls all repositories that can be discovered. Throws when it could not read any of them. */
export async function crawlRepositories (
  { transport, repositories, versions, concurrency, skip }: OciCrawlOptions
): Promise<Crawl> {
  const { names, truncated, truncatedBy, expected } = await repositories.discover()
  const refused: NonNullable<Crawl['refused']> = []
  const refusals: Refusals = []
  const crawl: Crawl = {
    found: [],
    failed: [],
    ...(truncated === true && { truncated, absent: [] }),
    ...(truncatedBy !== undefined && { truncatedBy }),
    ...(expected === true && { expected })
  }
  const failFast = createFailFast()
  // As many repositories as requests at the same time: a later repository then sees the failures of the earlier ones.
  const limit = pLimit(concurrency)
  let readCount = 0
  await Promise.all(
    repositories.group(names).map(async candidate => {
      const { extension } = candidate
      try {
        const current = await limit(async () =>
          await failFast(async () => await firstCurrent(candidate, versions, refusals, skip))
        )
        readCount++
        if (current === undefined) crawl.absent?.push(extension)
        else crawl.found.push(current)
      } catch (error) {
        if (!isRegistryError(error)) throw error
        if (isRefusal(error)) refused.push({ ...extension, error })
        else crawl.failed.push({ ...extension, error })
      }
    })
  )
  const [failure] = crawl.failed
  if (failure !== undefined && readCount === 0) throw failure.error
  if (readCount === 0) await mustAccept(refused, transport)
  if (refused.length > 0) crawl.refused = refused
  for (const { extension, repository } of refusals) {
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

/**
 * Returns the current version of the first repository of an extension that has one. A refused repository is skipped;
 * its error is thrown when no other repository has a version.
 */
async function firstCurrent (
  { extension, repositories }: ExtensionRepositories,
  versions: Pick<Versions, 'current'>,
  refusals: Refusals,
  skip: Skip
): Promise<Current | undefined> {
  let refusal: RegistryError | undefined
  for (const [index, repository] of repositories.entries()) {
    try {
      const current = await versions.current(repository, extension)
      if (current === undefined) continue
      for (const shadowed of repositories.slice(index + 1)) {
        skip({ kind: 'repository', reason: 'duplicate', ...extension, repository: shadowed })
      }
      return current
    } catch (error) {
      if (!isRefusal(error)) throw error
      refusals.push({ extension, repository, error })
      refusal ??= error
    }
  }
  if (refusal !== undefined) throw refusal
  return undefined
}

/**
 * Throws when the refusals of a crawl that read nothing concern the whole instance. Several refusals always do; a
 * single one does when the registry itself refuses the credentials.
 */
async function mustAccept ([first, second]: NonNullable<Crawl['refused']>, transport: Transport): Promise<void> {
  if (first === undefined) return
  if (second !== undefined) throw first.error
  await transport.ping(new AbortController().signal)
}
