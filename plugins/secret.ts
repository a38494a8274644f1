import { readFile, stat } from 'node:fs/promises'
import { registryError } from './errors.ts'

/** Gives a secret whenever it is needed; undefined when none is configured. */
export type Secret = () => Promise<string | undefined>

/**
 * A secret from the configuration or from a file. A file's trailing newline is dropped, and it is read again when it has
 * changed, which is seen by a `stat` at each use: Kubernetes swaps a link and tells nobody. Throws `config_error`, without
 * the path, when the file cannot be read.
 */
export function createSecret ({ value, file, instance }: { value?: string, file?: string, instance: string }): Secret {
  if (file === undefined) return async () => value
  let known: { stamp: string, secret: string } | undefined
  return async () => {
    try {
      const { mtimeMs, ino, size } = await stat(file)
      const stamp = `${mtimeMs}:${ino}:${size}`
      if (known?.stamp !== stamp) known = { stamp, secret: (await readFile(file, 'utf8')).trimEnd() }
      return known.secret
    } catch (error) {
      throw registryError('config_error', `The secret of instance ${instance} cannot be read`, { instance, cause: error, proxyError: 'proxy_configuration_error' })
    }
  }
}
