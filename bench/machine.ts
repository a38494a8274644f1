import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { cpus, totalmem } from 'node:os'

const require = createRequire(import.meta.url)
const gib = 1024 ** 3

/** Returns the processors and the memory of this machine, without its name. */
export function describeMachine (): string {
  const [cpu] = cpus()
  return `${cpus().length} cores (${cpu?.model.trim() || 'unknown model'}), ${
    Math.round(totalmem() / gib)
  } GiB of memory, ${process.platform} ${process.arch}`
}

/** Returns the versions of Node.js and Fastify, and of nginx if it is installed. */
export function describeVersions (): string {
  const { version: fastify } = require('fastify/package.json') as { version: string }
  const nginx = /nginx\/(\S+)/.exec(spawnSync('nginx', ['-v'], { encoding: 'utf8' }).stderr ?? '')?.[1]
  return [`Node.js ${process.version}`, `Fastify ${fastify}`, ...(nginx === undefined ? [] : [`nginx ${nginx}`])].join(
    ', '
  )
}
