import { GiteaConfig } from '../schemas/upstreams.ts'
import { registryError } from './errors.ts'
import { decodeText, FileProblem, watchFile, type FileLog } from './watched-file.ts'

/** Returns a secret; undefined when none is configured. It is called for each use. */
export type Secret = () => Promise<string | undefined>

/** Keys of the configuration that name a file with one secret. */
export type SecretFileKey = 'token_file' | 'password_file'

/** Maximum size in bytes of a file with a secret. */
export const secretBytes = 65_536

const { pattern: tokenPattern = '', expected: tokenExpected } = GiteaConfig.properties.token as {
  pattern?: string,
  expected?: string
}
const isToken = new RegExp(tokenPattern)

/** Returns the text unchanged. Throws a {@link FileProblem} unless it is one line without control characters. */
export function checkLine (text: string): string {
  if (/[\r\n\u2028\u2029]/.test(text)) throw new FileProblem('expected one line, got more than one')
  if (/\p{Cc}/u.test(text)) throw new FileProblem('expected text without control characters')
  return text
}

/**
 * Returns the secret in the bytes of a file, without a byte order mark and surrounding whitespace. Throws a {@link
 * FileProblem}. A token follows the rules of the inline form; a password may be any text of one line.
 */
export function parseSecret (key: SecretFileKey, bytes: Uint8Array): string {
  const text = decodeText(bytes).replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, '')
  if (text === '') throw new FileProblem('expected a secret, but the file is empty')
  if (key === 'token_file' && !isToken.test(checkLine(text))) throw new FileProblem(`expected ${tokenExpected}`)
  return checkLine(text)
}

export interface CredentialFileOptions<T> {
  file: string
  /** Key of the configuration that names the file. */
  key: string
  instance: string
  log?: FileLog | undefined
  /** Maximum size of the file in bytes; 64 KiB if unset. */
  limit?: number
  parse: (bytes: Buffer) => T
}

/**
 * Returns a function that returns the parsed content of a file with credentials. The file is read again when it has
 * changed. A file that cannot be used is logged once per change with its key and path. The function then throws
 * `config_error` until the file changes; the error names the instance and the key only.
 */
export function createCredentialFile<T> (
  { file, key, instance, log, limit = secretBytes, parse }: CredentialFileOptions<T>
): () => Promise<T> {
  const read = watchFile(file, limit, parse)
  const what = `${key} of instance ${instance}`
  let failing = false
  return async () => {
    const { changed, exists, ...outcome } = await read()
    const about = { backend: instance, key, ...(exists && { file }) }
    if ('problem' in outcome) {
      if (changed) {
        log?.error(
          about,
          `${what} cannot be used: ${outcome.problem.message}; requests that need it fail until the file changes`
        )
      }
      failing = true
      throw registryError('config_error', `${what} cannot be used`, {
        instance,
        cause: outcome.problem,
        proxyError: 'proxy_configuration_error'
      })
    }
    if (failing) log?.info(about, `${what} can be used again`)
    failing = false
    return outcome.value
  }
}

/**
 * Returns a function that returns a secret from the configuration or from a file. See {@link createCredentialFile} for
 * files that change or cannot be used.
 */
export function createSecret (
  { value, file, key, instance, log }: {
    value?: string,
    file?: string,
    key: SecretFileKey,
    instance: string,
    log?: FileLog
  }
): Secret {
  if (file === undefined) return async () => value
  return createCredentialFile({ file, key, instance, log, parse: bytes => parseSecret(key, bytes) })
}
