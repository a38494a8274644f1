import { join } from 'node:path'
import t from 'tap'
import { checkDocument } from '../faults/document.ts'
import { contentOf } from '../fakes/registry.ts'
import { writeLayout } from '../fakes/layout.ts'
import { runMatrix } from '../faults/runner.ts'
import { artifacts } from '../faults/setting.ts'
import { temperatures } from '../faults/table.ts'
import { startDockerRegistry } from '../real/docker-registry.ts'
import { push } from '../real/registry-content.ts'

const folder = t.testdir({})
await writeLayout(join(folder, 'layouts'), artifacts)
const url = await startDockerRegistry(t, join(folder, 'registry'))
await push(await contentOf(join(folder, 'layouts')), { url })

for (const temperature of temperatures) {
  await t.test(`faults in front of a real docker-registry, ${temperature}, end as documented`, async t => {
    checkDocument(t, 'oci', temperature, await runMatrix(t, 'oci', temperature, url))
  })
}
