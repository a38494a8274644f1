import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createCuttingProxy } from '../fakes/cutting-proxy.ts'
import { startDockerRegistry } from '../real/docker-registry.ts'
import { digestOf, fileOf, publishFiles } from '../real/published-files.ts'
import { hashed, startCurl } from './curl.ts'
import { startDownloads } from './download-setting.ts'
import { matchStrictly } from '../fakes/match.ts'

const size = 200 * 1000 * 1000
const clients = 10
const at = (part: number) => Math.floor(size * part)

const folder = t.testdir({})
const docker = await startDockerRegistry(t, join(folder, 'registry'))
const content = fileOf(size)
const digest = digestOf(content)
await publishFiles(docker, join(folder, 'layouts'), [{
  repository: 'provisioning/taskserv/big',
  title: 'big.tar.gz',
  content
}])

/**
 * Runs ten concurrent downloads of a file while the upstream resets connections. Returns the ratio of bytes received
 * from the upstream to the file size, and the upstream requests.
 */
async function share (
  t: Test,
  name: string,
  ranges: boolean
): Promise<{ ratio: number, requests: Array<string | undefined> }> {
  const proxy = await createCuttingProxy(t, docker, {
    path: new RegExp(`/blobs/${digest}$`),
    ranges,
    cuts: [at(0.3), at(0.6), at(0.9)]
  })
  const { file, metric, idle, stored } = await startDownloads(t, join(folder, name), {
    REGISTRY_OCI_REGISTRY: proxy.url,
    REGISTRY_OCI_NAMESPACE: 'provisioning'
  })
  const opened = Promise.withResolvers<void>()
  proxy.hold = [at(0.1), opened.promise]
  const curls = Array.from({ length: clients }, () => startCurl(file('taskserv', 'big')))
  const ends = Promise.all(curls.map(hashed))
  // All downloads start before the file is complete, so that they share its transfer.
  await Promise.race([Promise.all(curls.map(async ({ begun }) => await begun)), ends])
  opened.resolve()
  for (const end of await ends) t.strictSame(end, { exit: 0, size, digest }, 'the file is correct')
  t.strictSame(proxy.cuts, [], 'the upstream was reset three times')
  t.equal(await metric('transfers_resumed_total{backend="oci"}'), 3)
  t.equal(await metric('download_bytes_total{source="upstream"}'), size)
  t.equal(await metric('download_bytes_total{source="coalesced"}'), size * (clients - 1))
  t.equal(await metric('checksum_failures_total{backend="oci"}'), 0)
  await idle()
  t.equal((await stored()).length, 1, 'one file is stored')
  const ratio = proxy.sent / size
  t.comment(`${proxy.sent} bytes from the upstream for a file of ${size}: ${ratio.toFixed(3)} of it`)
  return { ratio, requests: proxy.requests }
}

await t.test('ten concurrent downloads of 200 MB share one transfer, and three upstream resets add less than 10 % to ' +
  'it', async t => {
  const { ratio, requests } = await share(t, 'ranges', true)
  matchStrictly(t, requests, [undefined, /^bytes=\d+-$/, /^bytes=\d+-$/, /^bytes=\d+-$/])
  t.ok(ratio <= 1.1, `${ratio.toFixed(3)} of the file`)
})

await t.test('ten concurrent downloads are correct without upstream ranges, and each reset restarts the ' +
  'transfer', async t => {
  const { ratio, requests } = await share(t, 'no-ranges', false)
  t.equal(requests.length, 4)
  t.ok(ratio <= 2.8 + 0.01, `0.3 + 0.6 + 0.9 + 1: ${ratio.toFixed(3)} of the file`)
})
