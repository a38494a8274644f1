import { isDeepStrictEqual } from 'node:util'
import { LRUCache } from 'lru-cache'
import type { GiteaRepository } from '../../schemas/gitea.ts'
import type { Release } from '../driver/driver.ts'

export interface ChangeTrackerOptions {
  /**
   * Seconds within which every repository is asked again, though nothing shows that it has changed; 0 to ask at each
   * walk.
   */
  reconcile: number
  /** Milliseconds of a clock that only goes forward. */
  clock: () => number
  /** Milliseconds of the epoch. */
  wallClock?: () => number
}

/** What a repository's row in a listing shows of its releases. */
interface Sign { id: number | undefined, owner: string, counter: number, updated: string }

const same = (a: Sign | undefined, b: Sign | undefined): boolean =>
  a?.id === b?.id && a?.owner === b?.owner && a?.counter === b?.counter && a?.updated === b?.updated

/** What a repository last said: its current release, or that it has none. */
export interface Word { release: Release | undefined }

interface Remembered extends Word {
  sign: Sign
  /** When it was asked (milliseconds). */
  at: number
  /** Until when it is asked at each walk. */
  lively: number
}

/** Repositories that are remembered: as many as a listing can have. */
const maxRemembered = 20_000
/** Milliseconds after a change in which a release may get its files, which no row of a listing shows. */
const afterwards = 3_600_000

function signOf ({ id, owner, release_counter: counter, updated_at: updated }: GiteaRepository): Sign | undefined {
  return counter === undefined || typeof updated !== 'string' ? undefined : { id, owner: owner.login, counter, updated }
}

/**
 * Remembers what each repository said when it was last asked, so that a walk asks only those that may say another thing
 * now. A published and a deleted release show in the listing's `release_counter`, a pushed tag in `updated_at`; an
 * edited release, a replaced file, and a release deleted and another published between two walks show in neither. So
 * what has changed is asked at each walk for an hour more, and all the others in turn, each within `reconcile`.
 */
export function createChangeTracker ({ reconcile, clock, wallClock = Date.now }: ChangeTrackerOptions) {
  const words = new LRUCache<string, Remembered>({ max: maxRemembered })
  const period = reconcile * 1000
  let last: number | undefined
  /** Questions of the reconciliation that are due, and the part of one that is left over. */
  let due = 0

  const recent = (time: unknown): boolean =>
    typeof time === 'string' && Math.abs(wallClock() - Date.parse(time)) < afterwards

  return {
    now: clock,

    /**
     * The words that still hold for the rows of a listing, by the repository's name: who is not among them is asked.
     */
    holding (rows: readonly GiteaRepository[]): Map<string, Word> {
      const now = clock()
      const settled = rows.flatMap(row => {
        const word = words.get(row.name)
        // That there is no version is not told again of one that has releases: a 404 rests on it.
        const tells = word !== undefined && (word.release !== undefined || word.sign.counter === 0)
        const holds = tells && same(signOf(row), word.sign) && now >= word.lively && now - word.at < period
        return holds ? [{ name: row.name, word }] : []
      })
      // Of those without a release there is nothing to ask.
      const queue = settled.filter(({ word }) => word.sign.counter !== 0).sort((a, b) => a.word.at - b.word.at)
      // The share is of all: those that are asked anyway must not make the others wait for longer.
      due = queue.length === 0
        ? 0
        : Math.min(
          queue.length,
          due + rows.filter(row => row.release_counter !== 0).length * (now - (last ?? now)) / period
        )
      last = now
      const share = Math.floor(due)
      due -= share
      const asked = new Set(queue.slice(0, share).map(({ name }) => name))
      return new Map(settled.filter(({ name }) => !asked.has(name)).map(({ name, word }) => [name, word]))
    },

    /** Takes down what a repository said, who was asked `at`; an older word does not replace a younger one. */
    remember (row: GiteaRepository, release: Release | undefined, at: number): void {
      const sign = signOf(row)
      const before = words.peek(row.name)
      if (before !== undefined && before.at > at) return
      if (sign === undefined) {
        words.delete(row.name)
        return
      }
      const changed = before === undefined
        ? recent(row.updated_at) || recent(release?.published_at)
        : !same(sign, before.sign) || !isDeepStrictEqual(release, before.release)
      words.set(row.name, { sign, release, at, lively: changed ? at + afterwards : before?.lively ?? -Infinity })
    },

    /**
     * What a repository has said since a walk began, to whomever; undefined when nobody has asked it, or could not read
     * it.
     */
    since (name: string, began: number): Word | undefined {
      const word = words.peek(name)
      return word !== undefined && word.at >= began ? word : undefined
    },

    /** Forgets one repository: it is asked at the next walk. */
    forget (name: string): void { words.delete(name) },

    /** Forgets all that are not in a listing any more. */
    retain (names: ReadonlySet<string>): void {
      for (const name of [...words.keys()]) if (!names.has(name)) words.delete(name)
    },

    /** How many are remembered. */
    get size () { return words.size }
  }
}
export type ChangeTracker = ReturnType<typeof createChangeTracker>
