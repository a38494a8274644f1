import t from 'tap'
import { soak } from '../soak/soak.ts'

await t.test('keeps its promises for as long as both upstreams flap, and grows in nothing', async t => {
  const { lines, reasons } = await soak({ seconds: 30, seed: 1 })
  for (const line of lines) t.comment(line)
  t.strictSame(reasons, [])
})
