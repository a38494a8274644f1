import { readdir, realpath, stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { registryError, type RegistryError } from '../../../lib/errors.ts'
import { isMissingPath } from '../../../lib/atomic-file.ts'
import { isDigest, verifyBytes } from '../content.ts'
import { openInside, readWhole, directoryOf, findLayouts } from './files.ts'
import { createLayoutIndexes, LayoutError, type LayoutIndexOptions, type LayoutTags } from './index-file.ts'
import { ContentError, maxManifestBytes, type Tag, type Transport } from '../transport.ts'

export interface LayoutOptions extends Partial<LayoutIndexOptions> {
  /** Name of the instance, for errors. */
  instance: string
  /** The directory: a path, or `file://…`. */
  registry: string
}

function toPath (registry: string, instance: string): string {
  try {
    return registry.startsWith('file:') ? fileURLToPath(registry) : resolve(registry)
  } catch (cause) {
    throw registryError('config_error', `Instance ${instance}: registry is not a local file address`, {
      instance,
      cause
    })
  }
}

/** Returns whether one name is the other, or ends with it after a slash: `aws` and `provider/aws`. */
const sameTail = (a: string, b: string): boolean => a === b || a.endsWith(`/${b}`) || b.endsWith(`/${a}`)

/**
 * Creates the transport of OCI image layouts (image-spec, image-layout.md) in a directory. It is one layout, whose
 * reference names have the repositories, or a tree with one layout per repository, as Zot keeps it. In one layout a tag
 * without a repository belongs to the name of the directory. In a tree the path of a layout is the name of the
 * repository. Each call detects the form again, and reads nothing outside of the directory. Throws `config_error` when
 * `registry` is not a local address. Its methods throw `service_unavailable` when the directory or a layout in it
 * cannot be read.
 */
export function createLayout (options: LayoutOptions): Transport {
  const { instance } = options
  const path = toPath(options.registry, instance)
  const { retries = 3, delay = 50, patience = 60_000, clock = () => performance.now() } = options
  const indexes = createLayoutIndexes({ retries, delay, patience, clock, sleep: options.sleep ?? sleep })

  function unavailable (details: string, cause: unknown): RegistryError {
    return registryError('service_unavailable', `Instance ${instance} is unavailable`, {
      instance,
      details,
      cause,
      proxyError: 'destination_unavailable'
    })
  }

  /** Runs a read of files. Errors of the file system become errors of the table. */
  async function reading<T> (read: (root: string) => Promise<T>): Promise<T> {
    let root: string
    try {
      root = await realpath(path)
      if (!(await stat(root)).isDirectory()) throw new LayoutError('Not a directory')
    } catch (cause) {
      throw unavailable(isMissingPath(cause) ? 'Directory does not exist' : 'Directory cannot be read', cause)
    }
    try {
      return await read(root)
    } catch (error) {
      if (error instanceof LayoutError) throw unavailable('Image layout is damaged', error)
      if (error instanceof Error && 'syscall' in error) throw unavailable('Directory cannot be read', error)
      throw error
    }
  }

  /** Returns the tags of the root by full names of repositories; undefined when the root is not a layout itself. */
  async function single (root: string): Promise<LayoutTags | undefined> {
    if (!await indexes.isLayout(root, root)) {
      indexes.forget(root)
      return undefined
    }
    const tags = new Map(await indexes.tags(root, root))
    const bare = tags.get('')
    const own = basename(root)
    tags.delete('')
    if (bare !== undefined) tags.set(own, [...tags.get(own) ?? [], ...bare])
    return tags
  }

  /**
   * Returns the directory of the layout that holds a repository's content; undefined when that layout does not exist.
   */
  async function layoutOf (root: string, repository: string): Promise<string | undefined> {
    if (await indexes.isLayout(root, root)) return root
    const directory = await directoryOf(root, repository)
    return directory !== undefined && await indexes.isLayout(root, directory) ? directory : undefined
  }

  async function openBlob (root: string, repository: string, digest: string) {
    // The grammar of digests excludes separators and `..`: the path stays inside the directory.
    if (!isDigest(digest)) return undefined
    const directory = await layoutOf(root, repository)
    const [algorithm = '', encoded = ''] = digest.split(':')
    return directory === undefined ? undefined : await openInside(root, join(directory, 'blobs', algorithm, encoded))
  }

  async function tags (repository: string): Promise<Tag[] | undefined> {
    return await reading(async root => {
      const whole = await single(root)
      if (whole !== undefined) return whole.get(repository)?.slice()
      const directory = await directoryOf(root, repository)
      if (directory === undefined) return undefined
      if (!await indexes.isLayout(root, directory)) {
        indexes.forget(directory)
        return undefined
      }
      // The directory determines the repository: tags that name another repository are ignored.
      return [...await indexes.tags(root, directory)].flatMap(([name, found]) =>
        name === '' || sameTail(name, repository) ? found : []
      )
    })
  }

  return {
    local: true,
    tags,

    async repositories (namespace) {
      return await reading(async root => {
        const whole = await single(root)
        return whole === undefined ? await findLayouts(root, namespace) : { names: [...whole.keys()].sort() }
      })
    },

    async resolve (repository, tag) {
      return (await tags(repository))?.find(({ name }) => name === tag)?.target
    },

    async manifest (repository, digest) {
      return await reading(async root => {
        const handle = await openBlob(root, repository, digest)
        if (handle === undefined) return undefined
        try {
          const whole = await readWhole(handle, maxManifestBytes)
          if (whole === undefined) throw new ContentError('The manifest is longer than allowed, or is being written')
          verifyBytes(whole.bytes, digest)
          return { digest, bytes: whole.bytes }
        } finally {
          await handle.close()
        }
      })
    },

    async blob (repository, { digest, size }, { signal, offset = 0 }) {
      return await reading(async root => {
        signal.throwIfAborted()
        const handle = await openBlob(root, repository, digest)
        if (handle === undefined) return undefined
        try {
          if ((await handle.stat()).size !== size) {
            throw new ContentError('The file has another size than its descriptor')
          }
          signal.throwIfAborted()
          return { stream: handle.createReadStream({ signal, start: offset }), offset }
        } catch (error) {
          await handle.close()
          throw error
        }
      })
    },

    async ping (signal) {
      await reading(async root => {
        signal.throwIfAborted()
        if (await single(root) === undefined) await readdir(root)
      })
    }
  }
}
