import { readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'

/** Shorter ones would be found in words that are no secrets. */
const shortest = 8

/** Keys of a configuration whose value is a secret, and those that name a file with one. */
const secretKeys = new Set(['token'])
const fileKeys = new Set(['token_file', 'password_file', 'docker_config'])

function contentOf (path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return ''
  }
}

/** The secrets of a file: its whole content, or what stands in a docker config, as it is and decoded. */
function secretsOfFile (path: string): string[] {
  const content = contentOf(path)
  if (!content.startsWith('{')) return [content]
  const strings = [...content.matchAll(/"(?:auth|password|identitytoken|registrytoken)"\s*:\s*"([^"]+)"/g)].map(([, value = '']) => value)
  return strings.flatMap(value => [value, Buffer.from(value, 'base64').toString().split(':')[1] ?? ''])
}

function secretsOf (config: unknown): string[] {
  if (Array.isArray(config)) return config.flatMap(secretsOf)
  if (typeof config !== 'object' || config === null) return []
  return Object.entries(config).flatMap(([key, value]) => typeof value !== 'string'
    ? secretsOf(value)
    : secretKeys.has(key) ? [value] : fileKeys.has(key) ? secretsOfFile(value) : [])
}

/**
 * Watches a server for the secrets of its configuration: at the end of the test none of them has been in a log line, in a
 * header or body that was sent, or in the metrics. Gives where the log is to be written.
 */
export function watchSecrets (t: Test, config: unknown): { stream: { write: (line: string) => void }, watch: (app: FastifyInstance) => void } {
  const secrets = secretsOf(config).flatMap(secret => [secret, encodeURIComponent(secret), Buffer.from(secret).toString('base64')]).filter(secret => secret.length >= shortest)
  const found = new Set<string>()
  const look = (where: string, text: string) => { if (secrets.some(secret => text.includes(secret))) found.add(where) }
  return {
    stream: { write: line => { look('the log', line) } },
    watch (app) {
      if (secrets.length === 0) return
      app.addHook('onSend', async (request, reply, payload) => {
        look(`a header of ${request.url}`, JSON.stringify(reply.getHeaders()))
        if (typeof payload === 'string') look(`the body of ${request.url}`, payload)
        return payload
      })
      t.teardown(async () => {
        look('the metrics', (await app.inject({ url: '/metrics' })).body)
        if (found.size > 0) throw new Error(`A secret of the configuration was in ${[...found].join(', ')}`)
      })
    }
  }
}
