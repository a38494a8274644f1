import t from 'tap'
import { soak } from '../soak/soak.ts'

await t.test('responses stay correct and resources stay constant while both upstreams fail intermittently', async t => {
  const { lines, reasons } = await soak({ seconds: 30, seed: 1 })
  for (const line of lines) t.comment(line)
  t.strictSame(reasons, [])
})
