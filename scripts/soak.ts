import { parseArgs } from 'node:util'
import { soak } from '../test/soak/soak.ts'

const { positionals: [minutes = '1', seed = '1'] } = parseArgs({ allowPositionals: true })
const seconds = Number(minutes) * 60
if (!(seconds > 0 && seconds <= 24 * 3600) || !Number.isSafeInteger(Number(seed))) {
  console.error('Usage: npm run soak -- [MINUTES] [SEED]')
  process.exit(64)
}
const { lines, reasons } = await soak({ seconds, seed: Number(seed) })
console.log(lines.join('\n'))
for (const reason of reasons) console.error(`failed: ${reason}`)
process.exitCode = reasons.length > 0 ? 1 : 0
