import { createHash } from 'node:crypto'
import { epoch } from './store.ts'
import { sha256 } from './provisioning.ts'
import type { Access } from './access.ts'
import type { GiteaOptions } from '../gitea.ts'
import type { Asset, Owner, Release, Repository, Store } from './store.ts'

/** Inputs of a response besides the content. */
export interface View {
  options: Required<GiteaOptions>
  owner: Store['owner']
  /** The Host header of the request, which Gitea uses in some URLs. */
  host: string
  access: Access
}

const never = '0001-01-01T00:00:00Z'

/** Escapes a text like url.PathEscape of Go. */
function pathEscape (text: string): string {
  return encodeURIComponent(text)
    .replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
    .replace(/%(24|26|2B|3A|3D|40)/g, (escaped) => decodeURIComponent(escaped))
}

function pathEscapeSegments (text: string): string {
  return text.split('/').map(pathEscape).join('/')
}

function avatar ({ host }: View, login: string): string {
  return `http://${host}/avatars/${createHash('md5').update(login).digest('hex')}`
}

type Person = Pick<Owner, 'id' | 'login' | 'full_name' | 'description'>

function person (view: View, { id, login, full_name: fullName, description }: Person, email: string): object {
  return {
    id,
    login,
    login_name: '',
    source_id: 0,
    full_name: fullName,
    email,
    avatar_url: avatar(view, login),
    html_url: `http://${view.host}/${login}`,
    language: '',
    is_admin: false,
    last_login: never,
    created: epoch,
    restricted: false,
    active: false,
    prohibit_login: false,
    location: '',
    website: '',
    description,
    visibility: 'public',
    followers_count: 0,
    following_count: 0,
    starred_repos_count: 0,
    username: login
  }
}

function noreply ({ options }: View, { id, login }: Pick<Person, 'id' | 'login'>): string {
  return `${id}+${login}@noreply.${new URL(options.rootUrl).hostname}`
}

export function userJson (view: View): object {
  return person(view, view.owner, view.access.signedIn ? '' : noreply(view, view.owner))
}

export function organizationJson (view: View): object {
  const { id, login, full_name: fullName, description } = view.owner
  return {
    id,
    name: login,
    full_name: fullName,
    email: '',
    avatar_url: avatar(view, login),
    description,
    website: '',
    location: '',
    visibility: 'public',
    repo_admin_change_team_access: false,
    username: login
  }
}

function parentOf (view: View, repository: Repository): object {
  if (repository.fork) {
    const upstream = { ...view.owner, id: 3, login: 'upstream', full_name: 'Upstream' }
    const { fork, ...source } = repository
    return { parent: repositoryJson({ ...view, owner: upstream }, { ...source, id: 1000 + repository.id }) }
  }
  return view.options.forgejo ? { parent: null } : {}
}

function topicsOf ({ options }: View, { topics = [] }: Repository): object {
  if (!options.topics) return {}
  return { topics: options.forgejo && topics.length === 0 ? null : topics }
}

export function repositoryJson (view: View, repository: Repository): object {
  const { options: { rootUrl }, owner, host, access } = view
  const { id, name, description = '', mirror = false, fork = false, archived = false, empty = false } = repository
  const fullName = `${owner.login}/${name}`
  const api = `${rootUrl}api/v1/repos/${fullName}`
  return {
    id,
    owner: person(view, owner, ''),
    name,
    full_name: fullName,
    description,
    empty,
    private: repository.private ?? false,
    fork,
    template: false,
    ...parentOf(view, repository),
    mirror,
    size: 25,
    language: '',
    languages_url: `${api}/languages`,
    html_url: `http://${host}/${fullName}`,
    url: api,
    link: '',
    ssh_url: `git@${new URL(rootUrl).hostname}:${fullName}.git`,
    clone_url: `http://${host}/${fullName}.git`,
    original_url: mirror ? `https://git.example.org/${fullName}.git` : '',
    website: '',
    stars_count: 0,
    forks_count: 0,
    watchers_count: 1,
    branch_count: empty ? 0 : 1,
    open_issues_count: 0,
    open_pr_counter: 0,
    release_counter: repository.releases.filter(({ draft }) => !draft).length,
    default_branch: 'main',
    archived,
    created_at: epoch,
    updated_at: repository.updated_at ?? epoch,
    archived_at: archived ? epoch : '1970-01-01T00:00:00Z',
    permissions: { admin: access.admin, push: access.writes, pull: true },
    has_code: true,
    has_issues: true,
    internal_tracker: {
      enable_time_tracker: true,
      allow_only_contributors_to_track_time: true,
      enable_issue_dependencies: true
    },
    has_wiki: true,
    has_pull_requests: !mirror,
    has_projects: true,
    projects_mode: 'all',
    has_releases: repository.has_releases ?? true,
    has_packages: true,
    has_actions: !mirror,
    ignore_whitespace_conflicts: false,
    allow_merge_commits: !mirror,
    allow_rebase: !mirror,
    allow_rebase_explicit: !mirror,
    allow_squash_merge: !mirror,
    allow_fast_forward_only_merge: !mirror,
    allow_rebase_update: !mirror,
    allow_manual_merge: mirror,
    autodetect_manual_merge: false,
    default_delete_branch_after_merge: false,
    default_merge_style: 'merge',
    default_allow_maintainer_edit: !mirror,
    avatar_url: '',
    internal: false,
    mirror_interval: mirror ? '8h0m0s' : '',
    object_format_name: 'sha1',
    mirror_updated: mirror ? epoch : never,
    ...topicsOf(view, repository),
    licenses: []
  }
}

function assetJson ({ options }: View, asset: Asset, url: string): object {
  return {
    id: asset.id,
    name: asset.name,
    size: asset.type === 'external' ? 0 : asset.content.length,
    download_count: asset.download_count,
    created_at: asset.created_at,
    uuid: asset.uuid,
    browser_download_url: asset.url ?? url,
    ...(options.forgejo ? { type: asset.type ?? 'attachment' } : {}),
    ...(options.digests === 'digest' ? { digest: `sha256:${sha256(asset.content)}` } : {}),
    ...(options.digests === 'sha256' ? { sha256: sha256(asset.content) } : {})
  }
}

/** Returns the JSON of a release with its assets by name; when two assets have the same name, all URLs have uuids. */
export function releaseJson (view: View, repository: Repository, release: Release): object {
  const { id, tag, assets } = release
  const { options: { rootUrl, forgejo }, owner } = view
  const page = `${rootUrl}${owner.login}/${repository.name}`
  const api = `${rootUrl}api/v1/repos/${owner.login}/${repository.name}/releases/${id}`
  const byUuid = new Set(assets.map(({ name }) => name)).size < assets.length
  const boss = { id: 1, login: 'boss', full_name: '', description: '' }
  const sorted = assets.toSorted((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)))
  return {
    id,
    tag_name: tag,
    target_commitish: 'main',
    name: tag,
    body: release.notes ?? '',
    url: api,
    html_url: `${page}/releases/tag/${pathEscapeSegments(tag)}`,
    tarball_url: `${page}/archive/${pathEscapeSegments(tag)}.tar.gz`,
    zipball_url: `${page}/archive/${pathEscapeSegments(tag)}.zip`,
    ...(forgejo ? { hide_archive_links: false } : {}),
    upload_url: `${api}/assets`,
    draft: release.draft,
    prerelease: release.prerelease,
    created_at: release.published_at,
    published_at: release.published_at,
    author: person(view, boss, noreply(view, boss)),
    assets: sorted.map((asset) => assetJson(view, asset, byUuid
      ? `${rootUrl}attachments/${asset.uuid}`
      : `${page}/releases/download/${pathEscape(tag)}/${pathEscape(asset.name)}`)),
    ...(forgejo ? { archive_download_count: { zip: 0, tar_gz: 0 } } : {})
  }
}
