import type { GiteaRepository } from '../../schemas/gitea.ts'
import type { Metadata, Skip, Skipped, SkipReason } from '../driver/driver.ts'
import type { ExtensionMatch, RepositoryMapping } from '../driver/mapping.ts'
import { maxDescription, plainTags, plainText } from '../driver/text.ts'

/** A repository that holds an extension, by its name, and that may be shown. */
export interface Candidate { repository: GiteaRepository, extension: ExtensionMatch }

/** The release of a candidate, as far as it is known: the fields that a skipped item of it has. */
export type ReleaseRef = Pick<Skipped, 'type' | 'name' | 'repository' | 'version' | 'tag'>

/** Returns whether a repository is not readable without credentials. */
export const isPrivate = (repository: GiteaRepository): boolean => repository.private || repository.internal === true

/** Returns the fields that each skipped item of a candidate has. */
export const releaseRef = ({ repository, extension: { type, name } }: Candidate): ReleaseRef => ({
  type,
  name,
  repository: repository.name
})

/** Skips a whole repository. Its name is hidden when the repository is private, or when its releases are refused. */
export function skipRepository (
  candidate: Candidate,
  reason: SkipReason,
  skip: Skip,
  refused = reason === 'refused'
): void {
  skip({
    kind: 'repository',
    reason,
    ...releaseRef(candidate),
    ...((refused || isPrivate(candidate.repository)) && { hidden: true })
  })
}

/** Returns why a repository is not shown although its name is that of an extension; undefined when it is shown. */
function skipReason (repository: GiteaRepository, includePrivate: boolean): SkipReason | undefined {
  if (!includePrivate && isPrivate(repository)) return 'private'
  if (repository.mirror === true) return 'mirror'
  return repository.has_releases === false ? 'releases_off' : undefined
}

export interface CandidatesOptions {
  /** Base of the addresses that people open, without a trailing slash. */
  publicUrl: string
  includePrivate: boolean
  mapping: Pick<RepositoryMapping, 'identify'>
}

/** Creates the selection of the repositories that hold extensions, and the metadata of these extensions. */
export function createCandidates ({ publicUrl, includePrivate, mapping }: CandidatesOptions) {
  /** Returns the address of a repository's page in the browser. */
  const pageUrl = ({ owner, name }: GiteaRepository): string =>
    `${publicUrl}/${encodeURIComponent(owner.login)}/${encodeURIComponent(name)}`

  /** Returns a repository with its extension; undefined when it holds no extension, or is skipped. */
  function select (repository: GiteaRepository, skip: Skip): Candidate | undefined {
    const extension = mapping.identify(repository.name)
    if (extension === undefined) return undefined
    const candidate = { repository, extension }
    const reason = skipReason(repository, includePrivate)
    if (reason === undefined) return candidate
    skipRepository(candidate, reason, skip)
    return undefined
  }

  function metadata ({ repository, extension: { type, name } }: Candidate): Metadata {
    const { owner, description, topics } = repository
    const tags = plainTags(topics ?? [])
    return {
      name,
      type,
      description: plainText(description, maxDescription) ?? '',
      author: plainText(owner.full_name) ?? owner.login,
      repository: pageUrl(repository),
      ...(tags !== undefined && { tags })
    }
  }

  return { select, metadata, pageUrl }
}
export type Candidates = ReturnType<typeof createCandidates>
