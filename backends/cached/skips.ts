import type { FastifyBaseLogger } from 'fastify'
import type { SkippedItem, SkippedReport } from './backend.ts'
import type { Crawl, Skip, Skipped } from '../driver/driver.ts'
import { plainText } from '../driver/text.ts'
import { utcSeconds } from '../driver/version.ts'

/** Maximum number of repositories that are kept as skipped of one instance. */
const maxRepositories = 10_000
/** The same of tags, releases, files and other items. Further ones are neither kept nor counted, which is logged. */
const maxItems = 10_000
/** Maximum characters kept of each field: an upstream chooses them. */
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
  /** Whether a crawl meets it; else only reading the whole extension does. */
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
const refusedMessage =
  'the upstream refuses a configured repository (401 or 403): its extension is not updated, others are; correct its name in repositories or grant the credentials access'
const refusedHiddenMessage =
  'the upstream refuses repositories that it lists (401 or 403): their extensions are not updated, others are; grant the credentials access'

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

/**
 * Keeps what an instance skips. An item is kept until a complete crawl, or for what only a whole extension shows the
 * next read of that extension, no longer meets it. One info line a crawl reports the numbers when they have changed.
 */
export function createSkips ({ instance, log, count, wallClock = Date.now }: SkipsOptions) {
  const entries = new Map<string, Entry>()
  let repositories = 0
  let reported = ''
  let hiddenRefusals = 0
  let isFull = false

  /** Returns whether one more item can be kept. However many tags there are, a refused repository is. */
  function hasRoom ({ kind }: Skipped): boolean {
    if (kind === 'repository' ? repositories < maxRepositories : entries.size - repositories < maxItems) return true
    if (!isFull) {
      log?.warn(
        { backend: instance },
        `more than ${maxItems} items are skipped: further ones are neither kept nor counted; delete tags and releases that are not versions`
      )
    }
    isFull = true
    return false
  }

  function collect (crawled: boolean): { met: ReadonlySet<string>, skip: Skip } {
    const met = new Set<string>()
    return {
      met,
      skip: given => {
        const skipped = plain(given)
        const key = keyOf(skipped)
        if (met.has(key)) return
        const known = entries.get(key)
        // What is kept stays as long as it is met, in whatever order.
        if (known === undefined && !hasRoom(skipped)) return
        met.add(key)
        if (known !== undefined) {
          known.crawled ||= crawled
          return
        }
        count?.(skipped.reason)
        entries.set(key, { skipped, since: wallClock(), crawled })
        if (skipped.kind === 'repository') repositories++
        if (isNamedRefusal(skipped)) log?.warn({ backend: instance, repository: skipped.repository }, refusedMessage)
        const { hidden, ...item } = skipped
        log?.debug({ backend: instance, ...(hidden ? { kind: item.kind, reason: item.reason } : item) }, 'skipped')
      }
    }
  }

  function counts (): SkippedReport['counts'] {
    const numbers = new Map<
      string,
      { instance: string, kind: Skipped['kind'], reason: Skipped['reason'], count: number }
    >()
    for (const { skipped: { kind, reason } } of entries.values()) {
      const key = `${kind} ${reason}`
      const number = numbers.get(key) ?? { instance, kind, reason, count: 0 }
      number.count++
      numbers.set(key, number)
    }
    return [...numbers.values()].sort((a, b) =>
      a.kind === b.kind ? b.count - a.count || (a.reason < b.reason ? -1 : 1) : a.kind < b.kind ? -1 : 1
    )
  }

  function remove (key: string, { skipped }: Entry): void {
    entries.delete(key)
    if (skipped.kind === 'repository') repositories--
    if (isNamedRefusal(skipped)) {
      log?.info({ backend: instance, repository: skipped.repository }, 'a repository is no longer refused')
    }
  }

  /** Logs how many hidden repositories are refused, when the number has changed. */
  function reportHiddenRefusals (): void {
    const before = hiddenRefusals
    hiddenRefusals =
      [...entries.values()].filter(({ skipped: { hidden, reason } }) => hidden && reason === 'refused').length
    if (hiddenRefusals > before) log?.warn({ backend: instance, refused: hiddenRefusals }, refusedHiddenMessage)
    else if (hiddenRefusals < before) {
      log?.info({ backend: instance, refused: hiddenRefusals }, 'fewer repositories of the crawl are refused')
    }
  }

  function report (): void {
    reportHiddenRefusals()
    const message = describeCounts(counts())
    if (message !== reported && (reported !== '' || entries.size > 0)) log?.info({ backend: instance }, message)
    reported = message
  }

  return {
    /** Begins a crawl. `end` drops what a complete crawl did not meet, and reports. */
    crawl () {
      const { met, skip } = collect(true)
      return {
        skip,
        end ({ found, failed, refused = [], truncated, unchanged }: Crawl): void {
          const unread = new Set(failed.map(extensionOf))
          // A refused repository was not read: what is skipped in it still is. Whether it is refused, the crawl has
          // met.
          const refusedNames = new Set(refused.map(extensionOf))
          const there = new Set([...found.map(({ metadata }) => extensionOf(metadata)), ...unread, ...refusedNames])
          for (const [key, entry] of truncated === true ? [] : entries) {
            const { skipped, crawled } = entry
            const extension = extensionOf(skipped)
            const untouched = unread.has(extension) || (skipped.reason !== 'refused' && refusedNames.has(extension)) ||
              unchanged?.has(skipped.repository ?? '') === true
            if (!met.has(key) && !(crawled ? untouched : there.has(extension))) remove(key, entry)
          }
          report()
        }
      }
    },

    /** Begins a read of one whole extension. `end` drops what only such a read shows, and this one did not meet. */
    load (type: string, name: string) {
      const { met, skip } = collect(false)
      return {
        skip,
        end (): void {
          for (const [key, entry] of entries) {
            if (!entry.crawled && !met.has(key) && extensionOf(entry.skipped) === `${type}/${name}`) remove(key, entry)
          }
        }
      }
    },

    /**
     * Takes an item that is met outside of a crawl and of a read of a whole extension; the next such read that does not
     * meet it drops it.
     */
    add (skipped: Skipped): void { collect(false).skip(skipped) },

    /**
     * Returns what is skipped now. What was skipped in a repository before it was refused is named only if the
     * repository may be.
     */
    report (): SkippedReport {
      const hiddenOnes = new Set(
        [...entries.values()].flatMap(({ skipped: { kind, reason, hidden, repository } }) =>
          kind === 'repository' && reason === 'refused' && hidden ? [repository] : []
        )
      )
      const isNamed = ({ hidden, repository }: Entry['skipped']): boolean =>
        !hidden && (repository === undefined || !hiddenOnes.has(repository))
      const items = [...entries.values()].filter(({ skipped }) => isNamed(skipped)).map((
        { skipped: { hidden, ...item }, since }
      ): SkippedItem => ({
        instance,
        ...item,
        since: utcSeconds(new Date(since).toISOString()) ?? ''
      }))
      return { items, counts: counts() }
    }
  }
}
export type Skips = ReturnType<typeof createSkips>
