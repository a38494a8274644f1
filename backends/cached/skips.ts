import type { FastifyBaseLogger } from 'fastify'
import type { SkippedItem, SkippedReport } from './backend.ts'
import type { Crawl, Skip, Skipped } from '../driver/driver.ts'
import { plainText } from '../driver/text.ts'
import { utcSeconds } from '../driver/version.ts'

/** Maximum number of repositories that are kept as skipped of one instance. */
const maxRepositories = 10_000
/**
 * Maximum number of tags, releases, files and other items. Further ones are neither kept nor counted, which is logged.
 */
const maxItems = 10_000
/** Maximum characters kept of each field, because upstreams choose the texts. */
const maxField = 512

export interface SkipsOptions {
  instance: string
  log?: Pick<FastifyBaseLogger, 'debug' | 'info' | 'warn'>
  /** Called once for each new item. */
  count?: (reason: string) => void
  /** Milliseconds since the epoch. */
  wallClock?: () => number
}

interface Entry {
  skipped: ReturnType<typeof plain>
  since: number
  /** Whether a crawl finds it; else only a read of the whole extension does. */
  crawled: boolean
}

const fields = ['type', 'name', 'repository', 'version', 'tag', 'file', 'chosen'] as const

/** Copies an item with texts that are safe to log and to show. */
function plain ({ kind, reason, hidden, ...named }: Skipped): Skipped & { hidden: boolean } {
  const texts = fields.flatMap(field => {
    const text = plainText(named[field], maxField)
    return text === undefined ? [] : [[field, text] as const]
  })
  return { kind, reason, ...Object.fromEntries(texts), hidden: hidden === true || reason === 'private' }
}

const keyOf = (skipped: Skipped): string =>
  JSON.stringify([skipped.kind, skipped.reason, skipped.hidden, ...fields.map(field => skipped[field])])
const extensionOf = ({ type, name }: { type?: string, name?: string }): string => `${type ?? ''}/${name ?? ''}`

const isNamedRefusal = ({ hidden, reason }: Skipped): boolean => hidden !== true && reason === 'refused'
const refusedMessage = 'the upstream refuses a configured repository (401 or 403): ' +
  'its extension is not updated, others are; correct its name in repositories or grant the credentials access'
const refusedHiddenMessage = 'the upstream refuses repositories that it lists (401 or 403): ' +
  'their extensions are not updated, others are; grant the credentials access'

const plurals: Record<Skipped['kind'], string> = {
  repository: 'repositories',
  release: 'releases',
  tag: 'tags',
  asset: 'assets',
  manifest: 'manifests',
  layer: 'layers',
  checksum_file: 'checksum files'
}

/** Returns counts in words: `skipped 4 tags: 3 not_semver, 1 not_an_artifact; 1 repository: 1 mirror`. */
export function describeCounts (counts: SkippedReport['counts']): string {
  const kinds = [...new Set(counts.map(({ kind }) => kind))]
  const parts = kinds.map(kind => {
    const those = counts.filter(count => count.kind === kind)
    const total = those.reduce((sum, { count }) => sum + count, 0)
    return `${total} ${total === 1 ? kind.replace('_', ' ') : plurals[kind]}: ${
      those.map(({ reason, count }) => `${count} ${reason}`).join(', ')
    }`
  })
  return parts.length === 0 ? 'nothing is skipped any more' : `skipped ${parts.join('; ')}`
}

/** Counts skipped items by kind and reason, the most frequent reason of each kind first. */
function countsOf (instance: string, skipped: Iterable<Skipped>): SkippedReport['counts'] {
  const numbers = new Map<
    string,
    { instance: string, kind: Skipped['kind'], reason: Skipped['reason'], count: number }
  >()
  for (const { kind, reason } of skipped) {
    const key = `${kind} ${reason}`
    const number = numbers.get(key) ?? { instance, kind, reason, count: 0 }
    number.count++
    numbers.set(key, number)
  }
  return [...numbers.values()].sort((a, b) =>
    a.kind === b.kind ? b.count - a.count || (a.reason < b.reason ? -1 : 1) : a.kind < b.kind ? -1 : 1
  )
}

/** Creates the items of one instance, within their maximum numbers. New items and refused repositories are logged. */
function createItems ({ instance, log, count, wallClock = Date.now }: SkipsOptions) {
  const entries = new Map<string, Entry>()
  let repositories = 0
  let isFull = false

  /**
   * Returns whether one more item can be kept. Repositories have a maximum of their own, so that tags do not use it up.
   */
  function hasRoom ({ kind }: Skipped): boolean {
    if (kind === 'repository' ? repositories < maxRepositories : entries.size - repositories < maxItems) return true
    if (!isFull) {
      log?.warn(
        { backend: instance },
        `more than ${maxItems} items are skipped: further ones are neither kept nor counted; ` +
          'delete tags and releases that are not versions'
      )
    }
    isFull = true
    return false
  }

  function add (key: string, skipped: Entry['skipped'], crawled: boolean): void {
    count?.(skipped.reason)
    entries.set(key, { skipped, since: wallClock(), crawled })
    if (skipped.kind === 'repository') repositories++
    if (isNamedRefusal(skipped)) log?.warn({ backend: instance, repository: skipped.repository }, refusedMessage)
    const { hidden, ...item } = skipped
    log?.debug({ backend: instance, ...(hidden ? { kind: item.kind, reason: item.reason } : item) }, 'skipped')
  }

  /** Begins a read. `skip` takes its items, `met` has their keys, and `crawled` is whether the read is a crawl. */
  function collect (crawled: boolean): { met: ReadonlySet<string>, skip: Skip } {
    const met = new Set<string>()
    const skip: Skip = given => {
      const skipped = plain(given)
      const key = keyOf(skipped)
      if (met.has(key)) return
      const known = entries.get(key)
      // A kept item stays as long as it is found, in any order.
      if (known === undefined && !hasRoom(skipped)) return
      met.add(key)
      if (known === undefined) add(key, skipped, crawled)
      else known.crawled ||= crawled
    }
    return { met, skip }
  }

  function remove (key: string, { skipped }: Entry): void {
    entries.delete(key)
    if (skipped.kind === 'repository') repositories--
    if (isNamedRefusal(skipped)) {
      log?.info({ backend: instance, repository: skipped.repository }, 'a repository is accessible again')
    }
  }

  return {
    collect,
    remove,
    /** The items by their keys. */
    entries: entries as ReadonlyMap<string, Entry>,
    counts: () => countsOf(instance, [...entries.values()].map(({ skipped }) => skipped))
  }
}
type Items = ReturnType<typeof createItems>

/** Creates the log of the numbers of one instance. A number is logged when it has changed since the last crawl. */
function createNumbersLog ({ instance, log }: SkipsOptions, { entries, counts }: Items) {
  let reported = ''
  let hiddenRefusals = 0

  /** Logs how many hidden repositories are refused, when the number has changed. */
  function reportHiddenRefusals (): void {
    const before = hiddenRefusals
    hiddenRefusals =
      [...entries.values()].filter(({ skipped: { hidden, reason } }) => hidden && reason === 'refused').length
    if (hiddenRefusals > before) log?.warn({ backend: instance, refused: hiddenRefusals }, refusedHiddenMessage)
    else if (hiddenRefusals < before) {
      log?.info({ backend: instance, refused: hiddenRefusals }, 'fewer repositories are refused')
    }
  }

  return (): void => {
    reportHiddenRefusals()
    const message = describeCounts(counts())
    if (message !== reported && (reported !== '' || entries.size > 0)) log?.info({ backend: instance }, message)
    reported = message
  }
}

/** Returns the items that may be shown. Those of a repository that is refused and hidden may not. */
function shownItems (instance: string, entries: Items['entries']): SkippedItem[] {
  const hiddenRepositories = new Set(
    [...entries.values()].flatMap(({ skipped: { kind, reason, hidden, repository } }) =>
      kind === 'repository' && reason === 'refused' && hidden ? [repository] : []
    )
  )
  const isNamed = ({ hidden, repository }: Entry['skipped']): boolean =>
    !hidden && (repository === undefined || !hiddenRepositories.has(repository))
  return [...entries.values()].filter(({ skipped }) => isNamed(skipped)).map(
    ({ skipped: { hidden, ...item }, since }) => ({
      instance,
      ...item,
      since: utcSeconds(new Date(since).toISOString()) ?? ''
    })
  )
}

/** Kinds of items that only crawls show: whole repositories, and the checksum files of current versions. */
const ofCrawls: ReadonlySet<Skipped['kind']> = new Set(['repository', 'checksum_file'])

/**
 * Creates the record of the items that an instance skips. An item of a crawl is kept until a complete crawl does not
 * find it, or a read of the whole extension that should have found it. An item that only such reads show is kept until
 * the next one does not find it. One info line for each crawl reports the numbers when they have changed.
 */
export function createSkips (options: SkipsOptions) {
  const items = createItems(options)
  const { collect, entries, remove } = items
  const logNumbers = createNumbersLog(options, items)

  /** Removes the items that a complete crawl read and did not find. */
  function endCrawl (met: ReadonlySet<string>, { found, failed, refused = [], truncated, unchanged }: Crawl): void {
    if (truncated === true) return
    const unread = new Set(failed.map(extensionOf))
    // A refused repository was not read, so its items stay. The refusal itself stays only if the crawl found it.
    const refusedNames = new Set(refused.map(extensionOf))
    // The names of a large crawl are only compared with those of the items that need it, which are few or none.
    const ofReads = new Set<string>()
    for (const [key, { skipped, crawled }] of entries) {
      if (!crawled && !met.has(key)) ofReads.add(extensionOf(skipped))
    }
    const present = new Set([...unread, ...refusedNames])
    if (ofReads.size > 0) {
      for (const { metadata } of found) {
        const name = extensionOf(metadata)
        if (ofReads.has(name)) present.add(name)
      }
    }
    for (const [key, entry] of entries) {
      const { skipped, crawled } = entry
      const extension = extensionOf(skipped)
      const untouched = unread.has(extension) || (skipped.reason !== 'refused' && refusedNames.has(extension)) ||
        unchanged?.has(skipped.repository ?? '') === true
      if (!met.has(key) && !(crawled ? untouched : present.has(extension))) remove(key, entry)
    }
  }

  return {
    /** Begins a crawl. `end` removes the items that a complete crawl did not find, and logs the numbers. */
    crawl () {
      const { met, skip } = collect(true)
      return {
        skip,
        end (crawl: Crawl): void {
          endCrawl(met, crawl)
          logNumbers()
        }
      }
    },

    /** Begins a read of one whole extension. `end` removes the items that it should have shown and did not. */
    load (type: string, name: string) {
      const { met, skip } = collect(false)
      return {
        skip,
        end (): void {
          for (const [key, entry] of entries) {
            const isShown = !entry.crawled || !ofCrawls.has(entry.skipped.kind)
            if (isShown && !met.has(key) && extensionOf(entry.skipped) === `${type}/${name}`) remove(key, entry)
          }
        }
      }
    },

    /** Adds an item outside of crawls and reads. The next read of its extension removes it unless it is found again. */
    add (skipped: Skipped): void { collect(false).skip(skipped) },

    /** Returns the items and their numbers. Hidden items are in the numbers only. */
    report: (): SkippedReport => ({ items: shownItems(options.instance, entries), counts: items.counts() })
  }
}
export type Skips = ReturnType<typeof createSkips>
