import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { HealthResponse } from '../../schemas/health.ts'
import { matchStrictly } from '../fakes/match.ts'
import { contentOf } from '../fakes/registry.ts'
import { createDockerRegistry } from '../real/docker-registry.ts'
import { push, writeContent } from '../real/registry-content.ts'
import { quantile, table } from '../soak/report.ts'
import { startProgram } from './server.ts'

/** Milliseconds within which health must report a change. */
const truth = 20_000
const hot = [
  '',
  '?type=taskserv&limit=3',
  '/search?q=kubernetes',
  '/provider/aws',
  '/taskserv/kubernetes',
  '/provider/aws/versions',
  '/taskserv/kubernetes/versions',
  '/cluster/web',
  '/cluster/web/versions'
]
const unknown = ['/provider/nowhere', '/provider/nowhere/versions', '/cluster/aws', '/provider/nowhere/1.0.0']

await t.test('cached data is served and marked stale while a real docker-registry hangs or is killed, under ' +
  'load', async t => {
  const folder = t.testdir({})
  await writeContent(join(folder, 'layouts'), 'provisioning')
  const docker = await createDockerRegistry(t, join(folder, 'registry'))
  await push(await contentOf(join(folder, 'layouts')), { url: docker.url })
  // The times are short: entries expire in every phase, and requests to the hanging registry end soon.
  const { address } = await startProgram(t, {
    env: {
      REGISTRY_OCI_REGISTRY: docker.url,
      REGISTRY_OCI_NAMESPACE: 'provisioning',
      REGISTRY_OCI_TIMEOUT_SECONDS: '2',
      REGISTRY_CACHE_TTL_SECONDS: '5',
      REGISTRY_CACHE_NEGATIVE_TTL_SECONDS: '1'
    }
  })
  const get = async (path: string, init?: RequestInit) => await fetch(`${address}/api/v1/extensions${path}`, init)
  const health = async () => await (await fetch(`${address}/health`)).json() as HealthResponse

  /** Returns the results of all requests: every hot request, every unknown extension and three files. */
  async function everything (): Promise<Record<string, unknown>> {
    const described: Record<string, unknown> = {}
    for (
      const path of [...hot, ...unknown, '/provider/aws/1.2.0', '/taskserv/kubernetes/1.28.0', '/cluster/multi/1.0.0']
    ) {
      // A compressed body is created in the background with another ETag, so compression is not requested.
      const response = await get(path, { headers: { 'accept-encoding': 'identity' } })
      described[path] = {
        status: response.status,
        etag: response.headers.get('etag'),
        stale: response.headers.get('cache-control') === 'no-cache',
        body: await response.text()
      }
    }
    return described
  }

  let phase = 'healthy'
  const over = new AbortController()
  const times = new Map<string, number[]>()
  const wrong: string[] = []
  let stale = 0
  async function client (start: number): Promise<void> {
    for (let at = start; !over.signal.aborted; at++, await sleep(20)) {
      const path = hot[at % hot.length] ?? ''
      const [requested, begin] = [phase, performance.now()]
      const reply = await get(path)
      await reply.arrayBuffer()
      times.set(requested, [...times.get(requested) ?? [], performance.now() - begin])
      if (reply.status !== 200) wrong.push(`${requested}: ${reply.status} for ${path}`)
      const old = reply.headers.get('cache-control') === 'no-cache'
      if (old) stale++
      if (old !== /detail=stale/.test(reply.headers.get('cache-status') ?? '')) {
        wrong.push(`${requested}: ${path} is badly marked: ${reply.headers.get('cache-status') ?? ''}`)
      }
    }
  }

  /** Starts a phase and waits until health reports it. */
  async function enter (
    name: string,
    status: HealthResponse['status'],
    change: () => void | Promise<void>
  ): Promise<void> {
    phase = name
    await change()
    const began = performance.now()
    while ((await health()).status !== status && performance.now() - began < truth) await sleep(50)
    t.equal((await health()).status, status, `${name}: health reports ${status}`)
    t.comment(`${name}: health reports ${status} after ${((performance.now() - began) / 1000).toFixed(1)} s`)
  }
  async function away (name: string): Promise<void> {
    // A cached 404 expires within this time, so it is no longer served.
    await sleep(6000)
    for (const path of unknown) t.equal((await get(path)).status, 503, `${name}: ${path} is 503, not 404`)
  }

  while ((await health()).status !== 'healthy') await sleep(50)
  const before = await everything()
  t.ok(Object.values(before).every(result => !(result as { stale: boolean }).stale))
  for (const path of unknown) matchStrictly(t, before[path], { status: 404 })
  const clients = [client(0), client(3), client(6)]
  try {
    await sleep(10_000)
    await enter('hanging', 'degraded', async () => { await docker.kill('SIGSTOP') })
    await away('hanging')
    await enter('continued', 'healthy', async () => { await docker.kill('SIGCONT') })
    await sleep(6000)
    t.strictSame(await everything(), before, 'all responses are as before after the hang')
    await enter('killed', 'degraded', async () => { await docker.kill('SIGKILL') })
    await away('killed')
    await enter('restarted', 'healthy', docker.start)
    await sleep(6000)
  } finally {
    over.abort()
    await docker.kill('SIGCONT')
    await Promise.all(clients)
  }
  t.strictSame(await everything(), before, 'all responses are as before after the restart')
  t.strictSame(wrong, [], 'every hot response was 200, and marked when stale')
  t.ok(stale > 0, 'some responses were stale')
  for (
    const line of table(
      ['Phase', 'Hot responses', 'p50 (ms)', 'p99 (ms)'],
      [...times].map((
        [name, values]
      ) => [name, values.length, quantile(values, 0.5).toFixed(1), quantile(values, 0.99).toFixed(1)])
    )
  ) t.comment(line)
})
