import { valid } from 'semver'
import type { LoopbackAnswer } from '../fakes/loopback.ts'

/*
 * What an answer of a Gitea proves, judged apart from the product and only by what Gitea may truly say: the few answers
 * by which an extension may rightly go to another instance. Everything else leaves it where it is.
 */

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function jsonOf ({ headers = {}, body = '' }: LoopbackAnswer): unknown {
  if (!/^application\/(?:[\w.+-]+\+)?json\b/i.test(String(headers['content-type'] ?? ''))) return undefined
  try {
    return JSON.parse(Buffer.from(body as string).toString('utf8'))
  } catch {
    return undefined
  }
}

/** A repository that is there, but which is no extension: mirrors, and those that say that they have no releases. */
const isNone = (row: Record<string, unknown>): boolean =>
  row['mirror'] === true || row['has_releases'] === false || row['release_counter'] === 0

/** A row by which one can tell whose it is: Gitea has no repository without a name. */
const isNamed = (row: unknown): row is Record<string, unknown> & { name: string } =>
  isObject(row) && typeof row['name'] === 'string' && row['name'] !== ''

/** Repositories of `all` that a whole listing does not have; a row that nobody can read may be any of them. */
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

/** Whether a list of releases has nothing that is a version, and nothing that one cannot read. */
function hasNoVersion (body: unknown): boolean {
  if (!Array.isArray(body)) return false
  return body.every(row =>
    isObject(row) && typeof row['tag_name'] === 'string' && row['tag_name'] !== '' &&
    typeof row['draft'] === 'boolean' &&
    (row['draft'] || valid(row['tag_name'].replace(/^v/, '')) === null || !row['tag_name'].match(/^v?\d/))
  )
}

/**
 * The repositories of `all` that this answer truly says to be gone, renamed, or without a version. `onPage` tells on
 * which page of the listing a repository stands.
 */
export function provenAbsent (
  path: string,
  answer: LoopbackAnswer,
  all: readonly string[],
  onPage: (repository: string) => number
): string[] {
  const url = new URL(path, 'http://gitea')
  const parts = url.pathname.split('/').filter(part => part !== '').slice(2)
  const json = jsonOf(answer)
  if (parts[0] === 'orgs' || parts[0] === 'users') {
    return answer.status === 200 ? withoutRow(json, all, Number(url.searchParams.get('page') ?? 1), onPage) : []
  }
  const [, , repository = '', rest] = parts
  if (parts[0] !== 'repos' || !all.includes(repository)) return []
  if (rest === 'releases') return answer.status === 200 && hasNoVersion(json) ? [repository] : []
  // Gitea's own 404 is JSON, and a redirect within its API is a rename.
  if (
    answer.status === 404 && /^application\/(?:[\w.+-]+\+)?json\b/i.test(String(answer.headers?.['content-type'] ?? ''))
  ) return [repository]
  return answer.status === 200 && isNamed(json) && (json.name !== repository || isNone(json)) ? [repository] : []
}
