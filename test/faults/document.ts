import { readFileSync, writeFileSync } from 'node:fs'
import type { Test } from 'tap'
import { faultNames, faults } from './faults.ts'
import type { Seen } from './runner.ts'
import { questions, table, type Source, type Temperature } from './table.ts'

const file = new URL('../../docs/fault-matrix.md', import.meta.url)

const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`

/** What was seen of one half of one kind of upstream: a row for each fault. */
export function tableOf (source: Source, temperature: Temperature, seen: readonly Seen[]): string {
  const reasons: string[] = []
  const rows = faultNames.map(fault => line([faults[fault].title, ...questions.map(question => {
    const cell = table[fault][source][question][temperature]
    if ('outcomes' in cell) return seen.find(candidate => candidate.fault === fault && candidate.question === question)?.told ?? 'not asked'
    if (!reasons.includes(cell.notApplicable)) reasons.push(cell.notApplicable)
    return `not applicable (${reasons.indexOf(cell.notApplicable) + 1})`
  })]))
  const legend = reasons.length === 0 ? [] : ['', ...reasons.map((reason, at) => `${at + 1}. ${reason}`)]
  return [line(['The upstream', ...questions]), line(['---', ...questions.map(() => '---')]), ...rows, ...legend].join('\n')
}

/** Compares what was seen with what the documentation says; with `FAULT_MATRIX=write` writes it there instead. */
export function checkDocument (t: Test, source: Source, temperature: Temperature, seen: readonly Seen[]): void {
  const text = readFileSync(file, 'utf8')
  const part = new RegExp(`(<!-- observed: ${source}, ${temperature} -->\n).*?(<!-- /observed -->)`, 's')
  const [whole, start = '', end = ''] = part.exec(text) ?? []
  if (whole === undefined) throw new Error(`docs/fault-matrix.md has no part for ${source}, ${temperature}`)
  const wanted = `${start}\n${tableOf(source, temperature, seen)}\n\n${end}`
  if (process.env['FAULT_MATRIX'] === 'write') writeFileSync(file, text.replace(whole, () => wanted))
  else t.equal(whole, wanted, 'docs/fault-matrix.md tells what is seen; npm run faults writes it')
}
