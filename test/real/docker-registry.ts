import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import type { Test } from 'tap'

export interface DockerRegistry {
  readonly url: string
  /** Sends a signal to the process; resolves at once, or after its end for SIGKILL and SIGTERM. */
  kill: (signal: NodeJS.Signals) => Promise<void>
  /** Starts the process again after its end, on the same port with the same content. */
  start: () => Promise<void>
}

/** Starts the real docker-registry on a free port, with its content below `folder`. */
export async function createDockerRegistry (t: Test, folder: string, auth: object = {}): Promise<DockerRegistry> {
  await mkdir(folder, { recursive: true })
  const config = join(folder, 'config.yml')
  let address = '127.0.0.1:0'
  let registry: ChildProcessByStdio<null, null, Readable> | undefined

  async function start (): Promise<void> {
    // Every JSON document is also YAML, so the configuration needs no YAML library.
    await writeFile(
      config,
      JSON.stringify({
        version: 0.1,
        log: { level: 'info', accesslog: { disabled: true } },
        storage: {
          filesystem: { rootdirectory: join(folder, 'storage') },
          cache: { blobdescriptor: 'inmemory' },
          delete: { enabled: true },
          maintenance: { uploadpurging: { enabled: false } }
        },
        http: { addr: address },
        ...(Object.keys(auth).length > 0 && { auth })
      })
    )
    const started = spawn('docker-registry', ['serve', config], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { PATH: process.env.PATH, OTEL_TRACES_EXPORTER: 'none' }
    })
    registry = started
    const lines: string[] = []
    for await (const line of createInterface(started.stderr)) {
      lines.push(line)
      const listening = /listening on (127\.0\.0\.1:\d+)/.exec(line)?.[1]
      if (listening === undefined) continue
      started.stderr.resume()
      address = listening
      return
    }
    throw new Error(`docker-registry ended before it listened: ${lines.join('\n')}`)
  }

  async function kill (signal: NodeJS.Signals): Promise<void> {
    if (registry === undefined || registry.exitCode !== null || registry.signalCode !== null) return
    const gone = once(registry, 'exit')
    registry.kill(signal)
    if (signal === 'SIGKILL' || signal === 'SIGTERM') await gone
  }

  t.teardown(async () => { await kill('SIGKILL') })
  await start()
  return { url: `http://${address}`, kill, start }
}

/** Starts the real docker-registry, and returns only its address. */
export async function startDockerRegistry (t: Test, folder: string, auth: object = {}): Promise<string> {
  return (await createDockerRegistry(t, folder, auth)).url
}
