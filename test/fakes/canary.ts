import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'

/** Shorter ones would be found in words that are no secrets. */
const shortest = 8

/** Keys of a configuration whose value is a secret, and those that name a file with one. */
const secretKeys = new Set(['token'])
const fileKeys = new Set(['token_file', 'password_file', 'docker_config'])

/** Keys that name a directory in which a server keeps files. */
const directoryKey = /(?:^|_)dir(?:ectory)?$/

/**
 * What is secret in a presigned address, which only an upstream's answers have: those of the fakes and of the real
 * ones.
 */
const presigned = ['canary-signature', 'X-Amz-Signature', 'X-Amz-Credential', 'X-Goog-Signature']

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
  const strings = [...content.matchAll(/"(?:auth|password|identitytoken|registrytoken)"\s*:\s*"([^"]+)"/g)].map((
    [, value = '']
  ) => value)
  return strings.flatMap(value => [value, Buffer.from(value, 'base64').toString().split(':')[1] ?? ''])
}

function secretsOf (config: unknown): string[] {
  if (Array.isArray(config)) return config.flatMap(secretsOf)
  if (typeof config !== 'object' || config === null) return []
  const user: unknown = 'username' in config ? config.username : undefined
  return Object.entries(config).flatMap(([key, value]) => {
    if (typeof value !== 'string') return secretsOf(value)
    const secrets = secretKeys.has(key) ? [value] : fileKeys.has(key) ? secretsOfFile(value) : []
    // With its user a password is written in another way.
    return typeof user === 'string' ? [...secrets, ...secrets.map(secret => `${user}:${secret}`)] : secrets
  })
}

function directoriesOf (config: unknown): string[] {
  if (typeof config !== 'object' || config === null) return []
  return Object.entries(config).flatMap(([key, value]) =>
    typeof value !== 'string' ? directoriesOf(value) : directoryKey.test(key) ? [value] : []
  )
}

/** Every file below a directory, its name and its content; none when it is not there. */
function filesOf (directory: string): Array<{ path: string, content: string }> {
  try {
    return readdirSync(directory, { recursive: true, withFileTypes: true }).filter(file => file.isFile()).map(file => {
      const path = join(file.parentPath, file.name)
      return { path, content: readFileSync(path, 'latin1') }
    })
  } catch {
    return []
  }
}

/**
 * Whether a text has one of some secrets, as it is or as it is usually encoded. Short ones are left out: they would be
 * found in words.
 */
export function createSearch (secrets: readonly string[]): (text: string) => boolean {
  // Base64 of what has other text before it differs: of three shifts one is that of the secret, but for its ends.
  const shifted = (secret: string) =>
    [0, 1, 2].map(shift =>
      Buffer.from(`${'\0'.repeat(shift)}${secret}`).toString('base64').slice(shift === 0 ? 0 : 4, -4)
    )
  const forms = secrets.filter(secret => secret.length >= shortest).flatMap(
    secret => [
      secret,
      encodeURIComponent(secret),
      JSON.stringify(secret).slice(1, -1),
      Buffer.from(secret).toString('base64url'),
      ...shifted(secret)
    ]
  )
    .filter(form => form.length >= shortest)
  return text => forms.some(form => text.includes(form))
}

/** What must be nowhere in what a server with this configuration writes. */
export const secretsOfConfig = (config: unknown): string[] => [...presigned, ...secretsOf(config)]

/**
 * Watches a server for the secrets of its configuration and of presigned addresses: at the end of the test none of them
 * has been in a log line, in a header or body that was sent, in the metrics, or in a file of a directory that the
 * configuration or `directories` names. Gives where the log is to be written.
 */
export function watchSecrets (
  t: Test,
  config: unknown,
  directories: readonly string[] = []
): { stream: { write: (line: string) => void }, watch: (app: FastifyInstance) => void } {
  const search = createSearch(secretsOfConfig(config))
  const found = new Set<string>()
  const look = (where: string, text: string) => { if (search(text)) found.add(where) }
  // Of all that is done at the end this is done last: a server may write when it is closed.
  t.teardown(() => {
    for (const directory of [...directoriesOf(config), ...directories]) {
      for (const { path, content } of filesOf(directory)) { look(`the file ${path}`, `${path}\n${content}`) }
    }
    if (found.size > 0) throw new Error(`A secret was in ${[...found].join(', ')}`)
  })
  return {
    stream: { write: line => { look('the log', line) } },
    watch (app) {
      app.addHook('onSend', async (request, reply, payload) => {
        look(`a header of ${request.url}`, JSON.stringify(reply.getHeaders()))
        if (typeof payload === 'string') look(`the body of ${request.url}`, payload)
        return payload
      })
      t.teardown(async () => {
        if (app.hasDecorator('telemetry')) look('the metrics', await app.telemetry.register.metrics())
      })
    }
  }
}
