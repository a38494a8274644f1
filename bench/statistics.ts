/** The middle one of some numbers; of an even number of them the mean of both in the middle. */
export function median (values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length / 2
  return ((sorted[Math.ceil(middle) - 1] ?? NaN) + (sorted[Math.floor(middle)] ?? NaN)) / 2
}

/** The middle of some measurements with the least and the greatest of them. */
export interface Spread { median: number, least: number, greatest: number }

export const spread = (values: readonly number[]): Spread => ({
  median: median(values),
  least: Math.min(...values),
  greatest: Math.max(...values)
})

/**
 * What of each round stands to the same round of another series: what slows a whole round down says nothing of either.
 */
export const ratios = (values: readonly number[], base: readonly number[]): Spread =>
  spread(values.map((value, round) => value / (base[round] ?? NaN)))
