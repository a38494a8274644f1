/** Ratios to node:http, by scenario and target. */
export type Ratios = Record<string, Record<string, number>>

/** What of a former ratio must be left: two machines, and two runs on one, differ by less. */
export const margin = 0.7

/** What has become slower than it was, in words; ratios only, since seconds differ from machine to machine. */
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
