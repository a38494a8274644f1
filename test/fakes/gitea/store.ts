import { createHash } from 'node:crypto'
import type { AssetContent, GiteaContent, OwnerContent, ReleaseContent, RepositoryContent } from './content.ts'

/** Time of all content without its own date. */
export const epoch = '2026-11-23T05:24:36Z'

export interface Asset extends Omit<AssetContent, 'content'> {
  id: number
  uuid: string
  content: Buffer
  download_count: number
  created_at: string
}

export interface Release extends Required<Omit<ReleaseContent, 'assets' | 'notes'>>, Pick<ReleaseContent, 'notes'> {
  id: number
  /** In the order of upload. */
  assets: Asset[]
}

/** The current state of a repository; a test may set its fields. */
export interface Repository extends Omit<RepositoryContent, 'releases'> {
  id: number
  /** In the order of publication. */
  releases: Release[]
}

export interface Owner extends Required<OwnerContent> {
  id: number
}

function uuidOf (text: string): string {
  const hex = createHash('sha256').update(text).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}

/** Creates the changing content of a fake: numbers and uuids are used once, and names are found in any letter case. */
export function createStore ({ owner, repositories }: GiteaContent) {
  const last = { repository: 0, release: 0, asset: 0 }
  const store = {
    owner: { id: 2, full_name: '', description: '', kind: 'organization', ...owner } as Owner,
    /** In the order of their numbers. */
    repositories: [] as Repository[],
    find,
    repository,
    /** Adds a repository with its releases. */
    add,
    /** Removes a repository. */
    remove,
    /** Adds a release. */
    publish,
    /** Removes a release with its assets. */
    withdraw,
    /** Adds an asset to a release. */
    attach,
    /** Removes the first asset of that name from a release; attaching another one afterwards replaces the file. */
    detach
  }

  function find (name: string): Repository | undefined {
    return store.repositories.find((each) => each.name.toLowerCase() === name.toLowerCase())
  }

  function repository (name: string): Repository {
    const found = find(name)
    if (found === undefined) throw new Error(`the fake has no repository ${name}`)
    return found
  }

  function release (name: string, tag: string): Release {
    const found = repository(name).releases.find((each) => each.tag === tag)
    if (found === undefined) throw new Error(`the fake has no release ${tag} of ${name}`)
    return found
  }

  function add ({ releases = [], ...content }: RepositoryContent): Repository {
    const added: Repository = { ...content, id: ++last.repository, releases: [] }
    store.repositories.push(added)
    for (const each of releases) publish(added.name, each)
    return added
  }

  function remove (name: string): void {
    store.repositories.splice(store.repositories.indexOf(repository(name)), 1)
  }

  function publish (name: string, { assets = [], ...content }: ReleaseContent): Release {
    const added: Release = {
      draft: false,
      prerelease: false,
      published_at: epoch,
      ...content,
      id: ++last.release,
      assets: []
    }
    repository(name).releases.push(added)
    for (const each of assets) attachTo(added, each)
    return added
  }

  function withdraw (name: string, tag: string): void {
    const { releases } = repository(name)
    releases.splice(releases.indexOf(release(name, tag)), 1)
  }

  function attachTo (to: Release, { content, ...asset }: AssetContent): Asset {
    const id = ++last.asset
    const added = {
      uuid: uuidOf(`asset ${id}`),
      ...asset,
      id,
      content: Buffer.from(content),
      download_count: 0,
      created_at: to.published_at
    }
    to.assets.push(added)
    return added
  }

  function attach (name: string, tag: string, asset: AssetContent): Asset {
    return attachTo(release(name, tag), asset)
  }

  function detach (name: string, tag: string, file: string): void {
    const { assets } = release(name, tag)
    const index = assets.findIndex((each) => each.name === file)
    if (index === -1) throw new Error(`the fake has no ${file} in ${tag} of ${name}`)
    assets.splice(index, 1)
  }

  for (const each of repositories) add(each)
  return store
}

export type Store = ReturnType<typeof createStore>
