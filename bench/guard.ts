/** Ratios to node:http, by scenario and target. */
export type Ratios = Record<string, Record<string, number>>

/** Minimum share of an earlier ratio: two machines, and two runs on one machine, differ by less. */
export const margin = 0.7

/**
 * Returns a message for each ratio that has become too small; only ratios are compared, as seconds depend on the
 * machine.
 */
export function slower (now: Ratios, baseline: Ratios): string[] {
  return Object.entries(baseline).flatMap(([scenario, targets]) =>
    Object.entries(targets).flatMap(([target, then]) => {
      const ratio = now[scenario]?.[target]
      if (ratio === undefined) return [`${scenario}, ${target}: not measured`]
      return ratio >= then * margin
        ? []
        : [`${scenario}, ${target}: ${ratio.toFixed(2)} of node:http, and was ${then.toFixed(2)}`]
    })
  )
}
