import t from 'tap'
import { checkDocument } from '../faults/document.ts'
import { runMatrix } from '../faults/runner.ts'
import { sources, temperatures } from '../faults/table.ts'

for (const source of sources) {
  for (const temperature of temperatures) {
    await t.test(`faults in front of a fake upstream end as documented: ${source}, ${temperature}`, async t => {
      checkDocument(t, source, temperature, await runMatrix(t, source, temperature))
    })
  }
}
