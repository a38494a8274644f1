import t from 'tap'
import { faultNames, faults } from './faults.ts'
import { budget, operations, sources, table, temperatures } from './table.ts'

await t.test('every fault has a promise for every request to every kind of upstream, cold and warm', async t => {
  t.strictSame(Object.keys(table), faultNames)
  t.equal(
    new Set(Object.values(faults).map(({ title }) => title)).size,
    faultNames.length,
    'titles are unique'
  )
  let cells = 0
  for (const fault of faultNames) {
    for (const source of sources) {
      for (const operation of operations) {
        for (const temperature of temperatures) {
          const cell = table[fault][source][operation][temperature]
          cells++
          if ('notApplicable' in cell) t.match(cell.notApplicable, /\w+ \w+/, 'the reason is text')
          else {
            t.ok(
              cell.outcomes.length > 0 && cell.limit > 0 && cell.limit <= budget,
              `${fault}, ${source}, ${operation}, ${temperature}`
            )
          }
        }
      }
    }
  }
  t.equal(cells, faultNames.length * 24)
})
