import { readFileSync, writeFileSync } from 'node:fs'
import type { Test } from 'tap'
import { faultNames, faults, type FaultName } from './faults.ts'
import { labelOf } from './outcomes.ts'
import type { Seen } from './runner.ts'
import { operations, table, type UpstreamRequest, type Source, type Temperature } from './table.ts'

const file = new URL('../../docs/fault-matrix.md', import.meta.url)

const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`

/**
 * Returns the text of a cell in the document: the observed outcome, or the documented one. If the promise permits both,
 * timing decides between them.
 */
export type Describe = (fault: FaultName, operation: UpstreamRequest, observed: string) => string

/** Returns the observed half of the matrix for one kind of upstream: a row for each fault. */
export function tableOf (
  source: Source,
  temperature: Temperature,
  seen: readonly Seen[],
  describe: Describe = (_fault, _operation, observed) => observed
): string {
  const reasons: string[] = []
  const rows = faultNames.map(fault =>
    line([
      faults[fault].title,
      ...operations.map(operation => {
        const cell = table[fault][source][operation][temperature]
        if ('outcomes' in cell) {
          return describe(
            fault,
            operation,
            seen.find(cell => cell.fault === fault && cell.operation === operation)?.reported ?? 'not tested'
          )
        }
        if (!reasons.includes(cell.notApplicable)) reasons.push(cell.notApplicable)
        return `not applicable (${reasons.indexOf(cell.notApplicable) + 1})`
      })
    ])
  )
  const legend = reasons.length === 0 ? [] : ['', ...reasons.map((reason, at) => `${at + 1}. ${reason}`)]
  return [line(['The upstream', ...operations]), line(['---', ...operations.map(() => '---')]), ...rows, ...legend]
    .join(
      '\n'
    )
}

/** Compares the observed outcomes with the document; with `FAULT_MATRIX=write` writes them into it. */
export function checkDocument (t: Test, source: Source, temperature: Temperature, seen: readonly Seen[]): void {
  const text = readFileSync(file, 'utf8')
  const part = new RegExp(`(<!-- observed: ${source}, ${temperature} -->\n).*?(<!-- /observed -->)`, 's')
  const [whole, start = '', end = ''] = part.exec(text) ?? []
  if (whole === undefined) throw new Error(`docs/fault-matrix.md has no part for ${source}, ${temperature}`)
  if (process.env['FAULT_MATRIX'] === 'write') {
    writeFileSync(file, text.replace(whole, () => `${start}\n${tableOf(source, temperature, seen)}\n\n${end}`))
    return
  }
  const documented = new Map(
    whole.split('\n').map(row => row.slice(2, -2).split(' | ')).map(([title = '', ...cells]) => [title, cells])
  )
  const describe: Describe = (fault, operation, observed) => {
    const cell = table[fault][source][operation][temperature]
    const open: string[] = 'outcomes' in cell ? cell.outcomes.map(labelOf) : []
    const known = documented.get(faults[fault].title)?.[operations.indexOf(operation)]
    return known !== undefined && open.includes(observed) && open.includes(known) ? known : observed
  }
  t.equal(
    whole,
    `${start}\n${tableOf(source, temperature, seen, describe)}\n\n${end}`,
    'docs/fault-matrix.md contains the observed outcomes; npm run faults writes it'
  )
}
