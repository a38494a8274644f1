import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { createGiteaFake, provisioningContent } from '../../fakes/gitea.ts'
import { startProgram } from '../server.ts'
import { matchStrictly } from '../../fakes/match.ts'

const base = '/api/v1/extensions'
const file = '/taskserv/kubernetes/1.28.0'
const content = provisioningContent('provisioning')
const expected = createHash('sha256').update(
  content.repositories.find(({ name }) => name === 'kubernetes_taskserv')?.releases?.find(({ tag }) => tag === '1.28.0')
    ?.assets?.[0]?.content ?? ''
).digest('hex')

/** Module that prints each request when its head is read; the log contains only requests with a response. */
const announce = 'data:text/javascript,' + encodeURIComponent(`import { subscribe } from 'node:diagnostics_channel'
subscribe('http.server.request.start', ({ request }) => {
  console.log(JSON.stringify({ accepted: request.headers['x-request-id'] }))
})`)

interface Outcome {
  id: string
  path: string
  reused: boolean
  status?: number
  sha256?: string
  closes?: boolean
  error?: string
}

/** Sends a request and reads its response; returns `error` for a missing or incomplete response. */
async function send (agent: Agent, address: string, path: string, id: string): Promise<Outcome> {
  const request = get(`${address}${base}${path}`, { agent, headers: { 'x-request-id': id } })
  const outcome = () => ({ id, path, reused: request.reusedSocket })
  try {
    const [response] = await once(request, 'response') as [IncomingMessage]
    const hash = createHash('sha256')
    for await (const chunk of response) hash.update(chunk as Buffer)
    return {
      ...outcome(),
      status: response.statusCode ?? 0,
      sha256: hash.digest('hex'),
      closes: response.headers.connection === 'close'
    }
  } catch (error) {
    return { ...outcome(), error: (error as NodeJS.ErrnoException).code ?? String(error) }
  }
}

/** Starts an upstream and the program. Without a store, the default, each file is read from its upstream. */
async function setUp (t: Test, shutdownDelay: number, store = false) {
  const gitea = await createGiteaFake(content)
  t.teardown(gitea.close)
  const accepted = new Set<string>()
  const program = await startProgram(t, {
    command: [process.execPath, '--import', announce, 'server.ts'],
    env: {
      REGISTRY_GITEA_URL: gitea.url,
      REGISTRY_GITEA_ORGANIZATION: 'provisioning',
      REGISTRY_CACHE_TTL_SECONDS: '1',
      ...(store ? { REGISTRY_STORE_DIRECTORY: t.testdir({}) } : { REGISTRY_STORE_ENABLED: 'false' }),
      REGISTRY_SERVER_SHUTDOWN_DELAY_SECONDS: String(shutdownDelay)
    },
    onLine: line => {
      const { accepted: id } = JSON.parse(line) as { accepted?: string }
      if (id !== undefined) accepted.add(id)
    }
  })
  return { gitea, accepted, ...program }
}

async function refused (address: string): Promise<void> {
  const socket = connect(Number(new URL(address).port), '127.0.0.1')
  const error = await once(socket, 'connect').then(() => undefined, (error: NodeJS.ErrnoException) => error)
  socket.destroy()
  if (error?.code !== 'ECONNREFUSED') await refused(address)
}

for (const store of [false, true]) {
  await t.test('SIGTERM under load completes every accepted request, on kept-alive and on new connections, ' +
    `${store ? 'with' : 'without'} a store`, async t => {
    await underLoad(t, store)
  })
}

async function underLoad (t: Test, store: boolean): Promise<void> {
  const { gitea, accepted, address, kill, end } = await setUp(t, 1, store)
  gitea.fault = async () => await sleep(5, undefined)
  const paths = ['', '/provider/aws', file, '/taskserv/kubernetes/versions', '/search?q=aws', file]
  const outcomes: Outcome[] = []
  const late: Outcome[] = []
  let signalled = false

  /** Sends requests one after the other over one connection until a request fails. */
  async function client (number: number): Promise<void> {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    for (let at = number; ; at++) {
      const afterwards = signalled
      const outcome = await send(agent, address, paths[at % paths.length] ?? '', `client-${number}-${at}`)
      outcomes.push(outcome)
      if (afterwards) late.push(outcome)
      if (outcome.error !== undefined) break
    }
    agent.destroy()
  }

  const clients = Array.from({ length: 12 }, async (_, number) => { await client(number) })
  while (outcomes.length < 200) await sleep(10)
  kill('SIGTERM')
  signalled = true
  await Promise.all(clients)
  t.equal(await end, 0)

  const completed = new Map(outcomes.filter(({ error }) => error === undefined).map(outcome => [outcome.id, outcome]))
  t.ok(accepted.size > 200)
  t.strictSame([...accepted].filter(id => !completed.has(id)), [], 'every accepted request has a response')
  t.strictSame([...completed.values()].filter(({ status }) => status !== 200), [])
  t.strictSame(
    [...completed.values()].filter(({ path, sha256 }) => path === file && sha256 !== expected),
    [],
    'every file is complete'
  )
  // The kernel can accept connections after the last accept() of the process: their clients see a reset.
  t.strictSame(
    outcomes.filter(({ error, reused }) =>
      error !== undefined && (reused || !['ECONNREFUSED', 'ECONNRESET'].includes(error))
    ),
    [],
    'kept-alive connections were not interrupted'
  )
  t.ok(late.some(({ reused, status, closes }) => !reused && status === 200 && closes), 'new connections were served')
}

await t.test('requests that wait for their upstream when listening ends complete, including downloads', async t => {
  const { gitea, accepted, address, kill, end } = await setUp(t, 0)
  const agent = new Agent({ keepAlive: true })
  t.teardown(() => { agent.destroy() })
  await send(agent, address, file, 'first')
  const { promise: released, resolve: release } = Promise.withResolvers<undefined>()
  gitea.fault = async () => await released
  const paths = [file, file, file, '/provider/aws/versions', '/provider/upcloud/versions']
  const outcomes = paths.map(async (path, at) => await send(agent, address, path, `waits-${at}`))
  while (accepted.size < paths.length + 1) await sleep(5)
  kill('SIGTERM')
  await refused(address)
  release(undefined)
  const [one, two, three, ...others] = await Promise.all(outcomes)
  matchStrictly(
    t,
    [one, two, three],
    Array.from({ length: 3 }, () => ({ status: 200, sha256: expected, closes: true }))
  )
  t.strictSame(others.map(({ status, closes }) => [status, closes]), [[200, true], [200, true]])
  t.equal(await end, 0)
})

await t.test('a second signal ends the process at once during a request', async t => {
  const { gitea, accepted, address, kill, end } = await setUp(t, 0)
  const agent = new Agent({ keepAlive: true })
  t.teardown(() => { agent.destroy() })
  await send(agent, address, file, 'first')
  gitea.fault = () => 'hang'
  const outcome = send(agent, address, file, 'never')
  while (!accepted.has('never')) await sleep(5)
  kill('SIGTERM')
  await refused(address)
  kill('SIGINT')
  t.equal(await end, 1)
  matchStrictly(t, await outcome, { error: 'ECONNRESET' })
})
