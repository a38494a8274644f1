import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { startProgram, type Running } from './server.ts'

/** The real process with a store of its own. */
export interface DownloadSetting extends Running {
  /** Address of version 1.0.0 of an extension. */
  file: (type: string, name: string) => string
  /** A sample of `GET /metrics`, 0 when there is none. */
  metric: (sample: string) => Promise<number>
  /** What it logged. */
  lines: Array<Record<string, unknown>>
  /** Files in its store by their paths, half ones included. */
  stored: () => Promise<string[]>
  /** Settles when no transfer is under way any more: what was is in its place. */
  idle: () => Promise<void>
}

/** Starts the real process on a directory for its store; `env` tells of the upstreams. */
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
