import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { freePort } from '../../../bench/process.ts'

await t.test('an unread log does not delay requests, and all its lines are written before the process ' +
  'exits', async t => {
  const port = await freePort()
  const program = spawn(process.execPath, ['server.ts'], {
    env: {
      PATH: process.env.PATH,
      REGISTRY_SERVER_PORT: String(port),
      REGISTRY_SERVER_HOST: '127.0.0.1',
      REGISTRY_SERVER_SHUTDOWN_DELAY_SECONDS: '0',
      REGISTRY_STORE_DIRECTORY: t.testdir({})
    },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const ended = once(program, 'close')
  t.teardown(() => program.kill('SIGKILL'))
  const agent = new Agent({ keepAlive: true, maxSockets: 8 })
  t.teardown(() => { agent.destroy() })
  const send = async (path: string, id: string): Promise<number | undefined> => {
    const [response] = await once(
      get({ port, host: '127.0.0.1', path, agent, headers: { 'x-request-id': id } }),
      'response'
    ) as [IncomingMessage]
    await text(response)
    return response.statusCode
  }
  while (await send('/livez', 'start').catch(() => undefined) !== 200) await sleep(20)

  // The log lines exceed the capacity of a pipe.
  const ids = Array.from({ length: 3000 }, (_, at) => `${at}-${'x'.repeat(120)}`)
  const statuses = await Promise.all(ids.map(async id => await send('/api/v1/extensions', id)))
  t.ok(statuses.every(status => status === 200))

  program.kill('SIGTERM')
  const lines = (await text(program.stdout)).trimEnd().split('\n').map(line =>
    JSON.parse(line) as { reqId?: string, msg: string }
  )
  const logged = lines.filter(({ msg }) => msg === 'request').map(({ reqId }) => reqId)
  t.strictSame(logged.sort(), [...ids].sort(), 'one line for each request')
  t.ok(lines.some(({ msg }) => msg === 'shutting down'))
  t.strictSame(await ended, [0, null])
})
