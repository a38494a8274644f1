/** Returns the median; of an even number of values, the mean of the middle two. */
export function median (values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length / 2
  return ((sorted[Math.ceil(middle) - 1] ?? NaN) + (sorted[Math.floor(middle)] ?? NaN)) / 2
}

/** Median, minimum and maximum of some measurements. */
export interface Spread { median: number, least: number, greatest: number }

export const spread = (values: readonly number[]): Spread => ({
  median: median(values),
  least: Math.min(...values),
  greatest: Math.max(...values)
})

/** Returns the ratios of two series, round by round: a disturbance of a whole round affects both series alike. */
export const ratios = (values: readonly number[], base: readonly number[]): Spread =>
  spread(values.map((value, round) => value / (base[round] ?? NaN)))
