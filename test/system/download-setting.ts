import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { startProgram, type Running } from './server.ts'

/** Real process with its own store. */
export interface DownloadSetting extends Running {
  /** Returns the address of version 1.0.0 of an extension. */
  file: (type: string, name: string) => string
  /** Returns the value of a sample of `GET /metrics`; 0 if it does not exist. */
  metric: (sample: string) => Promise<number>
  /** Parsed log lines. */
  lines: Array<Record<string, unknown>>
  /** Returns the paths of all files in the store, including partial files. */
  stored: () => Promise<string[]>
  /** Settles when no transfer is in progress and all files are stored. */
  idle: () => Promise<void>
}

/** Starts the real process with its store in a directory; `env` configures the upstreams. */
export async function startDownloads (
  t: Test,
  directory: string,
  env: Record<string, string>
): Promise<DownloadSetting> {
  const lines: Array<Record<string, unknown>> = []
  const program = await startProgram(t, {
    env: { REGISTRY_STORE_DIRECTORY: directory, ...env },
    onLine: line => { lines.push(JSON.parse(line) as Record<string, unknown>) }
  })
  const metric = async (sample: string) => {
    const text = await (await fetch(`${program.address}/metrics`)).text()
    return Number(text.split('\n').find(line => line.startsWith(`${sample} `))?.slice(sample.length + 1) ?? 0)
  }
  return {
    ...program,
    lines,
    metric,
    file: (type, name) => `${program.address}/api/v1/extensions/${type}/${name}/1.0.0`,
    async stored () {
      const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => [])
      return entries.filter(entry => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name))
    },
    idle: async () => { while (await metric('transfers_active') > 0) await sleep(10) }
  }
}
