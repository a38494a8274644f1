import type { Static, TSchema } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { registryError, type RegistryError } from '../../lib/errors.ts'
import type { Resumption } from '../../plugins/upstream/resume.ts'
import type { Upstream } from '../../plugins/upstream/client.ts'
import { GiteaRelease, GiteaRepository } from '../../schemas/gitea.ts'
import type { Skip } from '../driver/driver.ts'
import { forEachYielding } from '../../lib/yielding.ts'
import { createPages, tooLargeRow } from './pages.ts'

/** Returns a text field of a row that has not the form that it should have. */
export const textField = (row: unknown, field: string): string | undefined => {
  const value: unknown = typeof row === 'object' && row !== null ? (row as Record<string, unknown>)[field] : undefined
  return typeof value === 'string' && value !== '' ? value : undefined
}

const repositories = TypeCompiler.Compile(GiteaRepository)
const releases = TypeCompiler.Compile(GiteaRelease)
const repositoryFields = Object.keys(GiteaRepository.properties)
const releaseFields = Object.keys(GiteaRelease.properties)

/**
 * A listing: `unread` are names of repositories that are not as they should be, `truncated` why there may be others
 * that were not seen.
 */
export interface FoundRepositories { found: GiteaRepository[], unread: string[], truncated?: RegistryError }

export interface GiteaApiOptions {
  instance: string
  /** The organisation or user. */
  owner: string
  /** Most pages of a list that are asked for at once. */
  atOnce?: number
}

/** Gitea's HTTP API, as far as the registry asks it. */
export function createGiteaApi (upstream: Upstream, { instance, owner, atOnce = 4 }: GiteaApiOptions) {
  const api = ['api', 'v1'] as const
  /** Whether the owner is a user; found out by the first listing. */
  let kind: 'orgs' | 'users' | undefined

  const failed = (details: string) =>
    registryError('service_unavailable', `Instance ${instance} cannot be asked`, {
      instance,
      details,
      proxyError: 'http_protocol_error'
    })
  const pages = createPages(upstream, { atOnce, failed })

  /** The elements that are as they should be, and the others, which cost only themselves. */
  function elements<T extends TSchema> (
    check: { Check: (value: unknown) => value is Static<T> },
    body: unknown,
    malformed: (row: unknown) => void
  ): { good: Array<Static<T>>, bad: unknown[] } {
    if (!Array.isArray(body)) throw failed('Answer has an unexpected form')
    const good = body.filter((element: unknown): element is Static<T> => check.Check(element))
    const bad = body.filter((element: unknown) => !check.Check(element))
    for (const row of bad) malformed(row)
    return { good, bad }
  }

  const listPath = (of: 'orgs' | 'users') => [...api, of, owner, 'repos']

  /** Runs a question for an organisation, and where there is no such organisation for a user. */
  async function ofOwner<T> (question: (of: 'orgs' | 'users') => Promise<T | 'absent' | 'moved'>): Promise<T> {
    for (const of of kind === undefined ? ['orgs', 'users'] as const : [kind]) {
      const answer = await question(of)
      if (answer === 'moved') throw failed('Organization has been renamed')
      if (answer !== 'absent') {
        kind = of
        return answer
      }
    }
    kind = undefined
    throw failed('Organization not found')
  }

  return {
    /**
     * Every repository of the owner that the credentials can see, each once. What is deleted while the list is read
     * moves others between the pages, out of sight: then it is `truncated`, too.
     */
    async repositories (skip: Skip): Promise<FoundRepositories> {
      const { bodies, steady } = await ofOwner(async of => await pages(listPath(of), repositoryFields))
      const found: Array<ReturnType<typeof elements<typeof GiteaRepository>>> = []
      const malformed = (row: unknown): void => {
        const name = textField(row, 'name')
        // A private repository is not named, and a row like this may not say what it is.
        const isPublic = typeof row === 'object' && row !== null && 'private' in row && row.private === false &&
          !('internal' in row && row.internal === true)
        skip({
          kind: 'repository',
          reason: row === tooLargeRow ? 'too_large' : 'malformed',
          ...(isPublic && name !== undefined && { repository: name })
        })
      }
      await forEachYielding(bodies, body => {
        found.push(elements<typeof GiteaRepository>(repositories, body, malformed))
      })
      const bad = found.flatMap(({ bad }) => bad)
      if (bad.length > 0 && found.every(({ good }) => good.length === 0)) throw failed('Answer has an unexpected form')
      const unread = bad.flatMap(row => textField(row, 'name') ?? [])
      return {
        found: [
          ...new Map(found.flatMap(({ good }) => good).map(repository => [repository.name, repository])).values()
        ],
        unread: [...new Set(unread)],
        ...(!steady
          ? { truncated: failed('Answer changed while it was read') }
          : unread.length < bad.length && { truncated: failed('Answer has an unexpected form') })
      }
    },

    /** One repository by its exact name: what Gitea finds under another spelling or a former name is not it. */
    async repository (name: string): Promise<GiteaRepository | undefined> {
      const answer = await upstream.json(upstream.address([...api, 'repos', owner, name]))
      if (answer.kind !== 'found') return undefined
      if (!repositories.Check(answer.body)) throw failed('Answer has an unexpected form')
      return answer.body.name === name ? answer.body : undefined
    },

    /**
     * Every published release of a repository, newest first, and whether there are any that cannot be read, each given
     * to `malformed`; undefined when the repository is gone.
     */
    async releases (
      repository: string,
      malformed: (row: unknown) => void
    ): Promise<{ found: GiteaRelease[], whole: boolean } | undefined> {
      const answer = await pages([...api, 'repos', owner, repository, 'releases'], releaseFields, { draft: 'false' })
      if (typeof answer === 'string') return undefined
      if (!answer.steady) throw failed('Answer changed while it was read')
      const read = answer.bodies.map(body => elements<typeof GiteaRelease>(releases, body, malformed))
      return {
        found: read.flatMap(({ good }) => good).filter(({ draft }) => !draft),
        whole: read.every(({ bad }) => bad.length === 0)
      }
    },

    /** A small file's content by its uuid. */
    attachment: async (uuid: string, most: number): Promise<Buffer | undefined> =>
      await upstream.file(upstream.address(['attachments', uuid]), most),

    /** Opens a file by its uuid, which names this very content for ever. */
    open: async (uuid: string, at: Resumption & { signal: AbortSignal }) =>
      await upstream.open(upstream.address(['attachments', uuid]), at),

    /** Asks for one element of the listing: what it needs is what the listing needs. */
    async ping (signal: AbortSignal): Promise<void> {
      await ofOwner(async of =>
        (await upstream.json(upstream.address(listPath(of), { limit: 1, page: 1 }), signal)).kind
      )
    }
  }
}
export type GiteaApi = ReturnType<typeof createGiteaApi>
