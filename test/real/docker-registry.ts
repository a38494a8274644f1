import { spawn } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'

/** Starts the real docker-registry on a free port, with its content below `folder`; gives its address. */
export async function startDockerRegistry (t: Test, folder: string, auth: object = {}): Promise<string> {
  await mkdir(folder, { recursive: true })
  const config = join(folder, 'config.yml')
  // JSON is YAML.
  await writeFile(config, JSON.stringify({
    version: 0.1,
    log: { level: 'info', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: join(folder, 'storage') }, cache: { blobdescriptor: 'inmemory' }, maintenance: { uploadpurging: { enabled: false } } },
    http: { addr: '127.0.0.1:0' },
    ...(Object.keys(auth).length > 0 && { auth })
  }))
  const registry = spawn('docker-registry', ['serve', config], { stdio: ['ignore', 'ignore', 'pipe'], env: { PATH: process.env.PATH, OTEL_TRACES_EXPORTER: 'none' } })
  t.teardown(async () => {
    const gone = new Promise(resolve => registry.once('exit', resolve))
    registry.kill('SIGTERM')
    await gone
  })
  const lines: string[] = []
  for await (const line of createInterface(registry.stderr)) {
    lines.push(line)
    const address = /listening on (127\.0\.0\.1:\d+)/.exec(line)?.[1]
    if (address === undefined) continue
    registry.stderr.resume()
    return `http://${address}`
  }
  throw new Error(`docker-registry ended before it listened: ${lines.join('\n')}`)
}
