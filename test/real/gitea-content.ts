import { randomBytes } from 'node:crypto'
import { provisioningContent, sha256 } from '../fakes/gitea/provisioning.ts'
import type { AssetContent, GiteaContent, ReleaseContent, RepositoryContent } from '../fakes/gitea/content.ts'

/** One uploaded file, as the server named it. */
export interface FilledFile {
  repository: string
  tag: string
  name: string
  uuid: string
  size: number
  /** Hexadecimal SHA-256 of the content. */
  sha256: string
}

export interface FilledGitea {
  url: string
  organization: string
  /**
   * Token of a user with read access to every repository of the organization, including the private one, and no write
   * access.
   */
  readerToken: string
  /** The uploaded content; the server may list less of it, see `provisioningContent`. */
  content: GiteaContent
  files: FilledFile[]
}

const readerScopes = ['read:organization', 'read:repository', 'read:user']

/** Creates a client for the API of one Gitea that throws for each status except 2xx. */
function createCaller (url: string, authorization: string) {
  return async function call (method: string, path: string, body?: object): Promise<Record<string, unknown>> {
    const form = body instanceof FormData
    const response = await fetch(`${url}/api/v1${path}`, {
      method,
      headers: { authorization, ...(body === undefined || form ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { body: form ? body : JSON.stringify(body) })
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
    return text === '' ? {} : JSON.parse(text) as Record<string, unknown>
  }
}

type Call = ReturnType<typeof createCaller>

async function createReader (url: string, call: Call, organization: string): Promise<string> {
  const username = `${organization}-reader`
  const password = randomBytes(18).toString('base64url')
  await call('POST', '/admin/users', {
    username,
    password,
    email: `${username}@example.com`,
    must_change_password: false
  })
  const units = ['repo.code', 'repo.releases']
  const team = await call('POST', `/orgs/${organization}/teams`, {
    name: 'readers',
    permission: 'read',
    units,
    includes_all_repositories: true
  })
  await call('PUT', `/teams/${String(team['id'])}/members/${username}`)
  const asReader = createCaller(url, `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`)
  const token = await asReader('POST', `/users/${username}/tokens`, { name: 'reader', scopes: readerScopes })
  return String(token['sha1'])
}

async function upload (
  call: Call,
  path: string,
  { name, content }: AssetContent
): Promise<Omit<FilledFile, 'repository' | 'tag'>> {
  const bytes = Buffer.from(content)
  const form = new FormData()
  form.set('attachment', new Blob([new Uint8Array(bytes)]), name)
  const asset = await call('POST', `${path}/assets?name=${encodeURIComponent(name)}`, form)
  return { name: String(asset['name']), uuid: String(asset['uuid']), size: bytes.length, sha256: sha256(bytes) }
}

async function publish (
  call: Call,
  path: string,
  { tag, draft = false, prerelease = false, notes = '', assets = [] }: ReleaseContent
): Promise<Array<Omit<FilledFile, 'repository'>>> {
  const release = await call('POST', `${path}/releases`, {
    tag_name: tag,
    target_commitish: 'main',
    name: tag,
    body: notes,
    draft,
    prerelease
  })
  const files = []
  for (const asset of assets) {
    files.push({ tag, ...await upload(call, `${path}/releases/${String(release['id'])}`, asset) })
  }
  return files
}

async function createRepository (
  call: Call,
  organization: string,
  repository: RepositoryContent
): Promise<FilledFile[]> {
  const { name, description = '', topics = [], releases = [] } = repository
  const created = repository.renamed_from ?? name
  await call('POST', `/orgs/${organization}/repos`, {
    name: created,
    description,
    private: repository.private ?? false,
    auto_init: !repository.empty,
    default_branch: 'main'
  })
  if (created !== name) await call('PATCH', `/repos/${organization}/${created}`, { name })
  const path = `/repos/${organization}/${name}`
  if (topics.length > 0) await call('PUT', `${path}/topics`, { topics })
  const files = []
  for (const release of releases) files.push(...await publish(call, path, release))
  if (repository.has_releases === false) await call('PATCH', path, { has_releases: false })
  if (repository.archived) await call('PATCH', path, { archived: true })
  return files.map((file) => ({ repository: name, ...file }))
}

/**
 * Creates an organization with the content of `provisioningContent`, or another one, through the API of a Gitea, and a
 * user with read access. The server must allow migrations from itself (`[migrations] ALLOW_LOCALNETWORKS` when it
 * listens on a local address).
 * @param adminToken token of an administrator with all scopes
 * @param organization name of the new organization; the default is unique
 * @param content content to publish in it
 */
export async function fillGitea (
  url: string,
  adminToken: string,
  organization = `provisioning-${randomBytes(4).toString('hex')}`,
  content = provisioningContent(organization)
): Promise<FilledGitea> {
  const base = url.replace(/\/+$/, '')
  const call = createCaller(base, `token ${adminToken}`)
  const { full_name: fullName, description } = content.owner
  await call('POST', '/orgs', { username: organization, full_name: fullName, description, visibility: 'public' })
  const files: FilledFile[] = []
  for (const repository of content.repositories) {
    if (repository.mirror) {
      await call('POST', '/repos/migrate', {
        clone_addr: `${base}/${organization}/kubernetes_taskserv.git`,
        repo_owner: organization,
        repo_name: repository.name,
        description: repository.description,
        service: 'git',
        mirror: true
      })
    } else files.push(...await createRepository(call, organization, repository))
  }
  const readerToken = await createReader(base, call, organization)
  return { url: base, organization, readerToken, content, files }
}
