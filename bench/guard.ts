/** Ratios of the CPU time of bare Fastify to that of a registry, by scenario and registry. */
export type Ratios = Record<string, Record<string, number>>

/** Minimum share of an earlier ratio: two runs on one machine differ by less. */
export const margin = 0.85

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
        : [`${scenario}, ${target}: ${ratio.toFixed(2)} of bare Fastify, and was ${then.toFixed(2)}`]
    })
  )
}
