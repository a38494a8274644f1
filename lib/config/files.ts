import type { Config } from '../../schemas/config.ts'
import { authoritiesBytes, parseAuthorities } from '../authorities.ts'
import { ConfigError, formatKey } from './parse.ts'
import { parseSecret, secretBytes } from '../secret.ts'
import { FileProblem, readBounded } from '../watched-file.ts'
import type { LoadedConfig } from './load.ts'

export interface CheckedFile {
  file: string
  /** Key of the configuration with the path, and the source of its value. */
  key: string
  origin: string
  /** Maximum number of bytes that are read. */
  limit: number
  parse: (bytes: Buffer) => unknown
}

/**
 * Reads and parses a file of the configuration. Throws a {@link ConfigError} with key and path, but without content,
 * when the file cannot be used.
 */
export async function checkFile ({ file, key, origin, limit, parse }: CheckedFile): Promise<void> {
  try {
    parse(await readBounded(file, limit))
  } catch (error) {
    if (!(error instanceof FileProblem)) throw error
    // A path without a file may be a secret that was written under the wrong key.
    throw new ConfigError(
      key,
      error.exists ? `file ${file}: ${error.message}` : 'expected a file that can be read',
      origin,
      { cause: error }
    )
  }
}

/** Returns the limit and the parser of the file that a key names; undefined for other keys. */
function rulesOf (key: string): Pick<CheckedFile, 'limit' | 'parse'> | undefined {
  if (key === 'token_file' || key === 'password_file') {
    return {
      limit: secretBytes,
      parse: bytes => parseSecret(key, bytes)
    }
  }
  if (key === 'ca_file') return { limit: authoritiesBytes, parse: parseAuthorities }
  return undefined
}

/**
 * Checks the files with secrets and certificates at the start, so that later requests do not fail because of them.
 * Throws a {@link ConfigError} for a file that cannot be used.
 */
export async function checkFiles ({ config: { gitea, oci }, origin }: LoadedConfig): Promise<void> {
  const instances: Array<[kind: keyof Config, index: number, instance: object]> = [...gitea.entries()].map((
    [index, instance]
  ) => ['gitea', index, instance])
  instances.push(
    ...[...oci.entries()].map(([index, instance]): [keyof Config, number, object] => ['oci', index, instance])
  )
  for (const [kind, index, instance] of instances) {
    for (const [name, file] of Object.entries(instance) as Array<[string, unknown]>) {
      const rules = rulesOf(name)
      const path = [kind, index, name]
      if (rules !== undefined && typeof file === 'string') {
        await checkFile({ file, key: formatKey(path), origin: origin(path), ...rules })
      }
    }
  }
}
