import { extensionTypes } from '../schemas/extension.ts'
import { words, type Described } from './words.ts'

const path = '/api/v1/extensions'
/** Number of requests after which the sequence repeats. */
export const sequenceLength = 20_000

function address (route: string, query: Record<string, string | number | undefined>): string {
  const given = Object.entries(query).flatMap(([key, value]): Array<[string, string]> =>
    value === undefined ? [] : [[key, String(value)]]
  )
  return given.length === 0 ? route : `${route}?${new URLSearchParams(given).toString()}`
}

function shuffle<T> (values: T[], random: () => number): T[] {
  for (let last = values.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1))
    const value = values[last] as T
    values[last] = values[other] as T
    values[other] = value
  }
  return values
}

/**
 * Returns distinct addresses of typical client requests in random order: pages by type, limit and offset, searches,
 * extensions by name.
 */
export function createAddresses (extensions: readonly Described[], random: () => number): string[] {
  const types = [undefined, ...extensionTypes]
  const pages = types.flatMap(type =>
    [undefined, 10, 20, 50, 100].flatMap(limit =>
      Array.from(
        { length: 20 },
        (_, page) => address(path, { type, limit, offset: page === 0 ? undefined : page * Math.min(limit ?? 50, 20) })
      )
    )
  )
  const searches = words.flatMap(q =>
    types.flatMap(type => [undefined, 10].map(limit => address(`${path}/search`, { q, type, limit })))
  )
  const names = shuffle([...extensions], random).slice(0, 600).map(({ type, name }) => `${path}/${type}/${name}`)
  return shuffle([...new Set([...pages, ...searches, ...names])], random)
}

/** Returns the cumulative probabilities of Zipf's law: the n-th item is requested 1/n times as often as the first. */
export function zipf (count: number): number[] {
  let sum = 0
  const sums = Array.from({ length: count }, (_, at) => (sum += 1 / (at + 1)))
  return sums.map(value => value / sum)
}

/** Returns a sequence of requests: each address at least once, the rest by Zipf's law in the given order. */
export function createSequence (addresses: readonly string[], random: () => number, length = sequenceLength): string[] {
  const sums = zipf(addresses.length)
  const draw = (): string => {
    const share = random()
    let [low, high] = [0, sums.length - 1]
    while (low < high) {
      const middle = (low + high) >> 1
      if ((sums[middle] ?? 1) < share) low = middle + 1
      else high = middle
    }
    return addresses[low] ?? ''
  }
  return shuffle([...addresses, ...Array.from({ length: length - addresses.length }, draw)], random)
}
