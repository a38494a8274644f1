import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'

/** Minimum length of a secret in characters. Shorter ones would be found in ordinary words. */
const shortest = 8

/** Keys of a configuration whose value is a secret, and keys with the path of a file that contains one. */
const secretKeys = new Set(['token'])
const fileKeys = new Set(['token_file', 'password_file', 'docker_config'])

/** Matches keys with the path of a directory in which a server keeps files. */
const directoryKey = /(?:^|_)dir(?:ectory)?$/

/** Secrets of presigned addresses, which occur only in responses of upstreams, both fakes and real ones. */
const presigned = ['canary-signature', 'X-Amz-Signature', 'X-Amz-Credential', 'X-Goog-Signature']

function contentOf (path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return ''
  }
}

/** Returns the secrets of a file: its whole content, or the values of a docker config, original and decoded. */
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
    // A password may be written together with its user.
    return typeof user === 'string' ? [...secrets, ...secrets.map(secret => `${user}:${secret}`)] : secrets
  })
}

function directoriesOf (config: unknown): string[] {
  if (typeof config !== 'object' || config === null) return []
  return Object.entries(config).flatMap(([key, value]) =>
    typeof value !== 'string' ? directoriesOf(value) : directoryKey.test(key) ? [value] : []
  )
}

/** Returns path and content of every file below a directory; an empty list when it does not exist. */
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
 * Returns a function that finds secrets in a text, original or in the usual encodings. Short secrets are skipped,
 * because they would be found in ordinary words.
 */
export function createSearch (secrets: readonly string[]): (text: string) => boolean {
  // Base64 of a secret depends on the length of the text before it. One of three shifts matches, except at its ends.
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

/** Returns the secrets that must not occur in the output of a server with this configuration. */
export const secretsOfConfig = (config: unknown): string[] => [...presigned, ...secretsOf(config)]

/**
 * Fails the test when a log line, sent header or body, metric or file contains a secret of the configuration or of a
 * presigned address. The searched files are those in the directories of the configuration and in `directories`. Returns
 * the log stream of the server.
 */
export function watchSecrets (
  t: Test,
  config: unknown,
  directories: readonly string[] = []
): { stream: { write: (line: string) => void }, watch: (app: FastifyInstance) => void } {
  const search = createSearch(secretsOfConfig(config))
  const found = new Set<string>()
  const look = (where: string, text: string) => { if (search(text)) found.add(where) }
  // This teardown runs last, because a server may write while it closes.
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
