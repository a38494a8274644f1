import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { createGiteaFake } from '../fakes/gitea.ts'
import { matchStrictly } from '../fakes/match.ts'
import { startDockerRegistry } from '../real/docker-registry.ts'
import { blobPath, digestOf, fileOf, flipByte, publishFiles } from '../real/published-files.ts'
import { curl } from './curl.ts'
import { startDownloads } from './download-setting.ts'

/** Bytes at the end of the file that are sent only after its verification. */
const held = 32 * 1024
const size = 8 * 1024 * 1024
const file = fileOf(size)
const digest = digestOf(file)
/** Offsets of the damage: at the start, in the middle, and in the part that is withheld. */
const places = [0, size / 2, size - 1]

const folder = t.testdir({})
const docker = await startDockerRegistry(t, join(folder, 'registry'))
await publishFiles(docker, join(folder, 'layouts'), [{
  repository: 'provisioning/taskserv/big',
  title: 'big.tar.gz',
  content: file
}])
const gitea = await createGiteaFake({
  owner: { login: 'provisioning' },
  repositories: [{
    name: 'big_taskserv',
    releases: [{
      tag: 'v1.0.0',
      assets: [{ name: 'big.tar.gz', content: file }, {
        name: 'big.tar.gz.sha256',
        content: `${digest.slice('sha256:'.length)}  big.tar.gz\n`
      }]
    }]
  }]
})
t.teardown(gitea.close)

/** Upstreams, each with a function that inverts one bit of its file; a second call restores the bit. */
const upstreams = {
  oci: {
    env: { REGISTRY_OCI_REGISTRY: docker, REGISTRY_OCI_NAMESPACE: 'provisioning' },
    flip: async (at: number) => { await flipByte(blobPath(join(folder, 'registry'), digest), at) }
  },
  gitea: {
    env: { REGISTRY_GITEA_URL: gitea.url, REGISTRY_GITEA_ORGANIZATION: 'provisioning' },
    flip: async (at: number) => {
      const content = gitea.repository('big_taskserv').releases[0]?.assets[0]?.content
      content?.writeUInt8(content.readUInt8(at) ^ 1, at)
    }
  }
}

for (const [instance, { env, flip }] of Object.entries(upstreams)) {
  await t.test(`a file that is damaged on the disk of ${instance === 'oci' ? 'a real docker-registry' : 'a Gitea'} ` +
    'never completes, is reported, and can be resumed after the upstream is repaired', async t => {
    const store = join(folder, `store-${instance}`)
    const { file: address, metric, lines, stored, idle } = await startDownloads(t, store, env)
    const url = address('taskserv', 'big')
    const failures = async () => await metric(`checksum_failures_total{backend="${instance}"}`)
    const got = join(folder, `${instance}.tar.gz`)

    for (const at of places) {
      const before = await failures()
      await flip(at)
      lines.length = 0
      const cut = await curl(folder, '--output', got, url)
      matchStrictly(t, cut, {
        exit: 18,
        status: 200,
        size: size - held,
        headers: { 'content-length': String(size), 'repr-digest': /^sha-256=:/ }
      }, `damaged at ${at}: all but the end is sent, and curl reports it`)
      t.equal(await failures(), before + 1, 'the failure is counted for its instance')
      const stopped = 'a file differs from the published file: the download was stopped'
      matchStrictly(t, lines.filter(({ msg }) => msg === stopped), [{
        level: 40,
        backend: instance,
        extension: 'taskserv/big',
        version: '1.0.0',
        details: 'File is damaged'
      }], 'one line of the log reports it')
      matchStrictly(t,
        lines.filter(({ err }) => err !== undefined),
        [{ err: { instance, details: 'File is damaged' } }],
        'one line of the log reports the incomplete response'
      )
      await idle()
      t.strictSame(await stored(), [], 'the damaged file is not stored')
      const end = await curl(folder, '--output', `${got}.end`, '--range', '-100', url)
      matchStrictly(t, end, { exit: 0, status: 503 }, 'a range within the withheld part fails')
      matchStrictly(t, JSON.parse(await readFile(`${got}.end`, 'utf8')), { error: 'service_unavailable' })
      t.equal(await failures(), before + 2)
      await flip(at)
    }

    const failed = await failures()
    // The bytes before the damage were correct, so the download can be resumed.
    const resumed = await curl(folder, '--continue-at', '-', '--output', got, url)
    matchStrictly(t, resumed, { exit: 0, status: 206, size: held }, 'the download is resumed after the repair')
    t.equal(digestOf(await readFile(got)), digest)
    await idle()
    const blob = join(store, 'blobs/sha256', digest.slice(7, 9), digest.slice(7))
    t.strictSame(await stored(), [blob], 'the file is stored')
    t.equal(await metric('download_bytes_total{source="store"}'), 0)
    const again = await curl(folder, '--output', `${got}.again`, url)
    matchStrictly(t, again, { exit: 0, status: 200, size })
    t.ok((await readFile(`${got}.again`)).equals(file))
    t.equal(await metric('download_bytes_total{source="store"}'), size, 'the next download is served from the store')
    t.equal(await failures(), failed)
  })
}
