import type { RegistryContent, RepositoryContent } from './content.ts'

/** Start of the clock of a fake, which moves by one second with each change. */
const epoch = Date.parse('2026-01-01T00:00:00Z')

interface Manifest {
  config?: { digest: string, size: number }
  layers?: Array<{ digest: string, size: number }>
  manifests?: Array<{ digest: string }>
}

/** Returns the bytes of all content that the tags of a repository lead to. */
function sizeOf ({ tags, blobs }: RepositoryContent): number {
  const sizes = new Map<string, number>()
  const add = (digest: string): void => {
    const bytes = blobs.get(digest)
    if (bytes === undefined || sizes.has(digest)) return
    sizes.set(digest, bytes.length)
    const { config, layers = [], manifests = [] } = JSON.parse(bytes.toString()) as Manifest
    for (const blob of config === undefined ? layers : [config, ...layers]) sizes.set(blob.digest, blob.size)
    for (const { digest } of manifests) add(digest)
  }
  for (const { digest } of tags.values()) add(digest)
  return [...sizes.values()].reduce((sum, size) => sum + size, 0)
}

/** Creates the states of repositories as Zot and Harbor list them, which follow the content of a registry. */
export function createStates (content: RegistryContent) {
  let now = epoch
  /** Time of the first push of each tag that exists. Zot keeps it when the tag gets another target. */
  const pushed = new Map<string, Map<string, number>>()
  /** Digests of each repository that a tag has pointed at: Harbor keeps an artifact that loses its tag. */
  const artifacts = new Map<string, Set<string>>()

  /** Returns the times of the first pushes of the tags of a repository. */
  function pushesOf (name: string, tags: Iterable<string>): number[] {
    const before = pushed.get(name)
    const times = new Map([...tags].map(tag => [tag, before?.get(tag) ?? (now += 1000)]))
    pushed.set(name, times)
    return [...times.values()]
  }

  return {
    /** Returns a repository as Zot's search lists it. */
    zot (name: string): Record<string, unknown> {
      const repository = content.get(name) ?? { tags: new Map(), blobs: new Map() }
      const [newest] = repository.tags
      const times = pushesOf(name, repository.tags.keys())
      return {
        Name: name,
        LastUpdated: times.length === 0 ? '0001-01-01T00:00:00Z' : new Date(Math.max(...times)).toISOString(),
        Size: String(sizeOf(repository)),
        // Of artifacts without a time of creation the first one counts.
        NewestImage: newest === undefined ? null : { Tag: newest[0], Digest: newest[1].digest }
      }
    },

    /** Returns a repository as Harbor's API lists it. */
    harbor (name: string, id: number): Record<string, unknown> {
      const known = artifacts.get(name) ?? new Set<string>()
      for (const { digest } of content.get(name)?.tags.values() ?? []) known.add(digest)
      artifacts.set(name, known)
      return {
        artifact_count: known.size,
        creation_time: '2026-01-01T00:00:00.000Z',
        id,
        name,
        project_id: 1,
        pull_count: 0,
        update_time: '2026-01-01T00:00:00.000Z'
      }
    }
  }
}
