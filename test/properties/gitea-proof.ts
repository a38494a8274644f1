import { valid } from 'semver'
import type { LoopbackResponse } from '../fakes/loopback.ts'

/*
 * Absences that a response of Gitea proves, derived independently of the product: only these responses permit another
 * instance to own the extension. Any other response must not change the owner.
 */

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function jsonOf ({ headers = {}, body = '' }: LoopbackResponse): unknown {
  if (!/^application\/(?:[\w.+-]+\+)?json\b/i.test(String(headers['content-type'] ?? ''))) return undefined
  try {
    return JSON.parse(Buffer.from(body as string).toString('utf8'))
  } catch {
    return undefined
  }
}

/** Returns true for a repository that is not an extension: a mirror, or one without releases. */
const isNone = (row: Record<string, unknown>): boolean =>
  row['mirror'] === true || row['has_releases'] === false || row['release_counter'] === 0

/** Returns true for a row with a name; a row without a name could be any repository. */
const isNamed = (row: unknown): row is Record<string, unknown> & { name: string } =>
  isObject(row) && typeof row['name'] === 'string' && row['name'] !== ''

/**
 * Returns the repositories of `all` that a complete page of the listing does not contain; none if a row has no name.
 */
function withoutRow (
  body: unknown,
  all: readonly string[],
  page: number,
  onPage: (repository: string) => number
): string[] {
  if (!Array.isArray(body) || !body.every(isNamed)) return []
  return all.filter(name =>
    onPage(name) === page &&
    (!body.some(row => row.name === name) || body.some(row => row.name === name && isNone(row)))
  )
}

/** Returns true if a list of releases is readable and contains no version. */
function hasNoVersion (body: unknown): boolean {
  if (!Array.isArray(body)) return false
  return body.every(row =>
    isObject(row) && typeof row['tag_name'] === 'string' && row['tag_name'] !== '' &&
    typeof row['draft'] === 'boolean' &&
    (row['draft'] || valid(row['tag_name'].replace(/^v/, '')) === null || !row['tag_name'].match(/^v?\d/))
  )
}

/**
 * Returns the repositories of `all` that this response proves to be deleted, renamed or without a version. `onPage`
 * returns the page of the listing that contains a repository.
 */
export function provenAbsent (
  path: string,
  response: LoopbackResponse,
  all: readonly string[],
  onPage: (repository: string) => number
): string[] {
  const url = new URL(path, 'http://gitea')
  const parts = url.pathname.split('/').filter(part => part !== '').slice(2)
  const json = jsonOf(response)
  if (parts[0] === 'orgs' || parts[0] === 'users') {
    return response.status === 200 ? withoutRow(json, all, Number(url.searchParams.get('page') ?? 1), onPage) : []
  }
  const [, , repository = '', rest] = parts
  if (parts[0] !== 'repos' || !all.includes(repository)) return []
  if (rest === 'releases') return response.status === 200 && hasNoVersion(json) ? [repository] : []
  // A 404 of Gitea itself is JSON, and a redirect within its API is a rename.
  if (
    response.status === 404 &&
    /^application\/(?:[\w.+-]+\+)?json\b/i.test(String(response.headers?.['content-type'] ?? ''))
  ) return [repository]
  return response.status === 200 && isNamed(json) && (json.name !== repository || isNone(json)) ? [repository] : []
}
