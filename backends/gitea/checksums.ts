import { TypeCompiler } from '@sinclair/typebox/compiler'
import { registryError } from '../../plugins/errors.ts'
import { GiteaAsset } from '../../schemas/gitea.ts'
import type { Skip, Skipped } from '../backend.ts'
import { textField, type GiteaApi } from './api.ts'

/** Release that an asset belongs to. */
export type Place = Pick<Skipped, 'type' | 'name' | 'repository' | 'version' | 'tag'>

/** Bytes of a checksum file; a larger one is none. */
const largest = 1024 * 1024
/** Names of files that list the checksums of others, beside `{asset}.sha256`. */
const lists = ['SHA256SUMS', 'checksums.txt']

const asset = TypeCompiler.Compile(GiteaAsset)
const sha256 = /^[0-9a-f]{64}$/i

/** The assets of a release that are as they should be and whose content the server itself has. */
export function usableAssets (assets: readonly unknown[], where: Place, skip: Skip): GiteaAsset[] {
  return assets.filter((element): element is GiteaAsset => {
    if (!asset.Check(element) || !element.name.isWellFormed()) {
      const file = textField(element, 'name')
      skip({ kind: 'asset', reason: 'malformed', ...where, ...(file !== undefined && { file }) })
      return false
    }
    return element.type !== 'external'
  })
}

/** What `sha256sum` writes: a digest, then a name; a file of one digest alone speaks of its one sibling. */
function digestOf (name: string, text: string, alone: boolean): string | undefined {
  for (const line of text.split(/\r?\n/)) {
    // A pattern that could divide blanks in two ways would take hours over a line that is nothing else.
    const [, digest = '', file] = /^\\?([0-9a-fA-F]{64})(?:\s+\*?(\S.*))?$/.exec(line.trimEnd()) ?? []
    if (digest !== '' && (file === undefined ? alone : file.replace(/^\.\//, '') === name)) return digest.toLowerCase()
  }
  return undefined
}

/** Finds the checksums that a release's publisher or its server tells. Checksum files are fetched once: a uuid's content never changes. */
export function createChecksums (api: GiteaApi, { instance, immutable }: { instance: string, immutable: { get: (key: string) => Buffer | undefined, set: (key: string, bytes: Buffer) => void } }) {
  async function content ({ uuid, size }: GiteaAsset, onGone: () => void): Promise<string | undefined> {
    if (size > largest) return undefined
    // Another instance's uuids are another's word.
    const key = `${instance}:${uuid}`
    const known = immutable.get(key)
    if (known !== undefined) return known.toString('utf8')
    const bytes = await api.attachment(uuid, largest)
    if (bytes === undefined) {
      onGone()
      return undefined
    }
    if (bytes.length !== size) throw registryError('service_unavailable', `Instance ${instance} cannot be asked`, { instance, details: 'A checksum file is not as it was published', proxyError: 'http_response_incomplete' })
    immutable.set(key, bytes)
    return bytes.toString('utf8')
  }

  return {
    /**
     * `sha256:…` of a file, by the server's own field or a sibling file; undefined when nobody says. Throws when the sibling
     * cannot be read; `onGone` is told when it is no longer there.
     */
    async of (file: GiteaAsset, siblings: readonly GiteaAsset[], { where, skip, onGone = () => {} }: { where: Place, skip: Skip, onGone?: () => void }): Promise<string | undefined> {
      const told = [file.digest?.replace(/^sha256:/, ''), file.sha256?.replace(/^sha256:/, '')].find(digest => digest !== undefined && sha256.test(digest))
      if (told !== undefined) return `sha256:${told.toLowerCase()}`
      for (const name of [`${file.name}.sha256`, ...lists]) {
        const sibling = siblings.find(candidate => candidate.name === name)
        if (sibling === undefined) continue
        const text = await content(sibling, onGone)
        const digest = text === undefined ? undefined : digestOf(file.name, text, name === `${file.name}.sha256`)
        if (digest !== undefined) return `sha256:${digest}`
        skip({ kind: 'checksum_file', reason: 'bad_checksum_file', ...where, file: name })
      }
      return undefined
    }
  }
}
export type Checksums = ReturnType<typeof createChecksums>
