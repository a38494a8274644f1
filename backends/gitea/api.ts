import type { Static, TSchema } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import type { RegistryError } from '../../lib/errors.ts'
import { forEachYielding } from '../../lib/yielding.ts'
import type { Resumption } from '../../plugins/upstream/resume.ts'
import type { Upstream } from '../../plugins/upstream/client.ts'
import { GiteaRelease, GiteaRepository, GiteaAsset } from '../../schemas/gitea.ts'
import type { Skip, Artifact, FileReference, OpenOptions } from '../driver/driver.ts'
import { tooLargeRow, createPages } from './pages.ts'
import { statusError } from '../../plugins/upstream/errors.ts'
import type { ReleaseRef } from './candidates.ts'

/** Returns a text field of a malformed row; undefined when it is empty or not a text. */
export const textField = (row: unknown, field: string): string | undefined => {
  const value: unknown = typeof row === 'object' && row !== null ? (row as Record<string, unknown>)[field] : undefined
  return typeof value === 'string' && value !== '' ? value : undefined
}

const repositories = TypeCompiler.Compile(GiteaRepository)
const releases = TypeCompiler.Compile(GiteaRelease)
const repositoryFields = Object.keys(GiteaRepository.properties)
const releaseFields = Object.keys(GiteaRelease.properties)

/**
 * The repositories of the owner. `unread` are the names of malformed ones. `truncated` is the reason why others may be
 * missing; absent when the listing is complete.
 */
export interface FoundRepositories { found: GiteaRepository[], unread: string[], truncated?: RegistryError }

export interface GiteaApiOptions {
  /** The organisation or user. */
  owner: string
  /** Maximum number of pages of lists that are requested at the same time; 4 if unset. */
  concurrency?: number
}

const apiPath = ['api', 'v1'] as const

/**
 * Creates the part of Gitea's HTTP API that the registry uses. Its methods throw an error of the table with `instance`
 * when a response cannot be used.
 */
export function createGiteaApi (upstream: Upstream, { owner, concurrency = 4 }: GiteaApiOptions) {
  const unexpected = (details: string, proxyError = 'http_protocol_error'): RegistryError =>
    upstream.unexpected(details, proxyError)
  const pages = createPages(upstream, { concurrency, unexpected })
  const forOwner = createOwner(unexpected)
  const listPath = (kind: OwnerKind) => [...apiPath, kind, owner, 'repos']

  /** Divides the rows of a page. Throws when the page is not a list. */
  function divide<T extends TSchema> (schema: RowCheck<T>, body: unknown, malformed: (row: unknown) => void): Rows<T> {
    if (!Array.isArray(body)) throw unexpected('Response has an unexpected structure')
    const good = body.filter((row: unknown): row is Static<T> => schema.Check(row))
    const bad = body.filter((row: unknown) => !schema.Check(row))
    for (const row of bad) malformed(row)
    return { good, bad }
  }

  return {
    unexpected,

    /**
     * Returns every repository of the owner that the credentials can see, each once. It is `truncated` also when the
     * list changes while it is read: a deleted repository moves others between the pages, where they are missed.
     */
    async repositories (skip: Skip): Promise<FoundRepositories> {
      const { bodies, steady } = await forOwner(async kind => await pages(listPath(kind), repositoryFields))
      const found: Array<Rows<typeof GiteaRepository>> = []
      await forEachYielding(bodies, body => {
        found.push(divide<typeof GiteaRepository>(repositories, body, row => { skipRepositoryRow(row, skip) }))
      })
      const good = found.flatMap(({ good }) => good)
      const bad = found.flatMap(({ bad }) => bad)
      if (bad.length > 0 && good.length === 0) throw unexpected('Response has an unexpected structure')
      const unread = bad.flatMap(row => textField(row, 'name') ?? [])
      return {
        found: [...new Map(good.map(repository => [repository.name, repository])).values()],
        unread: [...new Set(unread)],
        ...(!steady
          ? { truncated: unexpected('Response changed while it was read') }
          : unread.length < bad.length && { truncated: unexpected('Response has an unexpected structure') })
      }
    },

    /**
     * Returns one repository by its exact name; undefined when it does not exist. Gitea also finds a repository by
     * another spelling or a former name: that is not this repository.
     */
    async repository (name: string): Promise<GiteaRepository | undefined> {
      const response = await upstream.json(upstream.address([...apiPath, 'repos', owner, name]))
      if (response.kind !== 'found') return undefined
      if (!repositories.Check(response.body)) throw unexpected('Response has an unexpected structure')
      return response.body.name === name ? response.body : undefined
    },

    /**
     * Returns every published release of a repository, newest first; undefined when the repository does not exist. Each
     * release that cannot be read is given to `malformed`, and `whole` is false.
     */
    async releases (
      repository: string,
      malformed: (row: unknown) => void
    ): Promise<{ found: GiteaRelease[], whole: boolean } | undefined> {
      const path = [...apiPath, 'repos', owner, repository, 'releases']
      const result = await pages(path, releaseFields, { draft: 'false' })
      if (typeof result === 'string') return undefined
      if (!result.steady) throw unexpected('Response changed while it was read')
      const rows = result.bodies.map(body => divide<typeof GiteaRelease>(releases, body, malformed))
      return {
        found: rows.flatMap(({ good }) => good).filter(({ draft }) => !draft),
        whole: rows.every(({ bad }) => bad.length === 0)
      }
    },

    /** Returns the content of a small file by its uuid; undefined when it does not exist. */
    attachment: async (uuid: string, maxBytes: number): Promise<Buffer | undefined> =>
      await upstream.file(upstream.address(['attachments', uuid]), maxBytes),

    /** Opens a file by its uuid, whose content never changes; undefined when it does not exist. */
    open: async (uuid: string, at: Resumption & { signal: AbortSignal }) =>
      await upstream.open(upstream.address(['attachments', uuid]), at),

    /** Requests one row of the repositories, so that it needs the same permissions as `repositories`. */
    async ping (signal: AbortSignal): Promise<void> {
      await forOwner(async kind =>
        (await upstream.json(upstream.address(listPath(kind), { limit: 1, page: 1 }), signal)).kind
      )
    }
  }
}
export type GiteaApi = ReturnType<typeof createGiteaApi>

interface RowCheck<T extends TSchema> { Check: (value: unknown) => value is Static<T> }
/** The rows of a page: well-formed ones, and malformed ones, each of which fails alone. */
interface Rows<T extends TSchema> { good: Array<Static<T>>, bad: unknown[] }

function skipRepositoryRow (row: unknown, skip: Skip): void {
  const name = textField(row, 'name')
  // The name of a private repository is hidden, and a malformed row may not show whether it is private.
  const isPublic = typeof row === 'object' && row !== null && 'private' in row && row.private === false &&
    !('internal' in row && row.internal === true)
  skip({
    kind: 'repository',
    reason: row === tooLargeRow ? 'too_large' : 'malformed',
    ...(isPublic && name !== undefined && { repository: name })
  })
}

type OwnerKind = 'orgs' | 'users'

/**
 * Creates the function that runs a request for the owner: as an organisation, and as a user where that organisation
 * does not exist. The kind that was found is used from then on, until the owner is absent.
 */
function createOwner (unexpected: (details: string) => RegistryError) {
  let known: OwnerKind | undefined
  return async function forOwner<T> (request: (kind: OwnerKind) => Promise<T | 'absent' | 'moved'>): Promise<T> {
    for (const kind of known === undefined ? ['orgs', 'users'] as const : [known]) {
      const result = await request(kind)
      if (result === 'moved') throw unexpected('Organization has been renamed')
      if (result !== 'absent') {
        known = kind
        return result
      }
    }
    known = undefined
    throw unexpected('Organization not found')
  }
}

const asset = TypeCompiler.Compile(GiteaAsset)

/** Returns the assets of a release that are well formed and whose content the server itself stores. */
export function usableAssets (assets: readonly unknown[], release: ReleaseRef, skip: Skip): GiteaAsset[] {
  return assets.filter((element): element is GiteaAsset => {
    if (!asset.Check(element) || !element.name.isWellFormed()) {
      const file = textField(element, 'name')
      skip({ kind: 'asset', reason: 'malformed', ...release, ...(file !== undefined && { file }) })
      return false
    }
    return element.type !== 'external'
  })
}

/**
 * Opens the asset of a file; undefined when it no longer exists. Throws `auth_error` when the server sends a page
 * instead, and `service_unavailable` when the size or the coding differ from those of the published file.
 */
export async function openAsset (
  api: Pick<GiteaApi, 'open' | 'unexpected'>,
  instance: string,
  file: FileReference,
  { signal, offset: firstByte = 0, etag }: OpenOptions
): Promise<Artifact | undefined> {
  const opened = await api.open(file.locator, {
    signal,
    offset: firstByte,
    ...(file.size !== undefined && { size: file.size }),
    ...(etag !== undefined && { etag })
  })
  if (opened === undefined) return undefined
  const { stream, offset, headers } = opened
  const { 'content-type': type = '', 'content-encoding': encoding = 'identity', 'content-length': rest } = headers
  const length = rest === undefined ? file.size : offset + Number(rest)
  // A server that requires a login sends its login page instead of the file. Gitea sends text files as plain text, not
  // as HTML.
  const isPage = /^text\/html\b/i.test(type)
  if (isPage || encoding !== 'identity' || (file.size !== undefined && length !== file.size)) {
    stream.destroy()
    throw isPage
      ? statusError(instance, 401)
      : api.unexpected('File differs from the published file', 'http_response_incomplete')
  }
  return {
    file,
    stream,
    offset,
    ...(length !== undefined && { length }),
    ...(headers.etag !== undefined && { etag: headers.etag })
  }
}
