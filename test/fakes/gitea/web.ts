import { createHash } from 'node:crypto'
import { createLoopback } from '../loopback.ts'
import { movedPath, newestFirst, redirect, textResponse, uncached } from './api.ts'
import type { Loopback, LoopbackResponse, LoopbackRequest } from '../loopback.ts'
import type { View } from './json.ts'
import type { Asset, Repository, Store } from './store.ts'

const attributes = 'Path=/; HttpOnly; Secure; SameSite=Lax'
const session = `i_like_gitea=0000000000000000; ${attributes}`
const page = { ...uncached, 'set-cookie': [session] }
const plain = 'text/plain; charset=utf-8'
const packed = /\.(?:gz|bz2|zip|xz|zst|deb|apk|jar|png|jpg|webp)$/i

function isText (content: Buffer): boolean {
  return !content.subarray(0, 1024).some((byte) => byte < 9 || byte === 11 || (byte > 13 && byte < 32 && byte !== 27))
}

/** Formats a header like mime.FormatMediaType of Go. */
function disposition (name: string): string {
  if (/^[\w!#$%&'*+.^`|~-]+$/.test(name)) return `inline; filename=${name}`
  return /^[\x20-\x7e]*$/.test(name)
    ? `inline; filename="${name.replace(/["\\]/g, '\\$&')}"`
    : `inline; filename*=utf-8''${encodeURIComponent(name)}`
}

interface Range {
  start: number
  end: number
}

/** Parses a range like Gitea: returns a range with a start, or an error. */
function rangeOf (header: string, size: number): Range | { status: number, complaint: string } {
  const [from = '', ...after] = header.slice('bytes='.length).split('-')
  const to = after.join('-')
  const malformed = (text: string): string => `strconv.ParseInt: parsing "${text}": invalid syntax`
  const integer = /^[+-]?\d+$/
  const start = integer.test(from) ? Number(from) : 0
  if (!integer.test(from)) return { status: 416, complaint: malformed(from) }
  if (start >= size) return { status: 416, complaint: 'invalid start range' }
  const open = to === '' && after.length > 0
  const end = Math.min(open ? size - 1 : integer.test(to) ? Number(to) : 0, size - 1)
  if (end < start) return { status: 400, complaint: 'invalid end range' }
  if (!open && !integer.test(to)) return { status: 400, complaint: malformed(to) }
  return { start, end }
}

function served ({ headers }: LoopbackRequest, asset: Asset): LoopbackResponse {
  const { content, uuid, name } = asset
  const etag = `"${uuid}"`
  const modified = new Date(asset.created_at).toUTCString()
  const validators = { ...page, etag, 'last-modified': modified }
  const known = headers['if-none-match']?.split(',').some((each) => each.trim().replace(/^W\//, '') === etag)
  if (known || Date.parse(headers['if-modified-since'] ?? '') >= Date.parse(modified)) {
    return { status: 304, headers: validators }
  }
  const about = {
    ...validators,
    'access-control-expose-headers': 'Content-Disposition',
    'content-disposition': disposition(name),
    'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    ...(packed.test(name) ? { 'no-gzip-compression': '1' } : {})
  }
  const typed = { ...about, 'content-type': isText(content) ? plain : 'application/octet-stream' }
  if (!headers.range?.startsWith('bytes=') || content.length === 0) {
    return { status: 200, headers: typed, body: content }
  }
  const range = rangeOf(headers.range, content.length)
  if ('complaint' in range) {
    return textResponse(range.status, `${range.complaint}\n`, { ...about, 'content-type': plain })
  }
  const { start, end } = range
  return {
    status: 206,
    headers: { ...typed, 'content-range': `bytes ${start}-${end}/${content.length}` },
    body: content.subarray(start, end + 1)
  }
}

const signature = 'X-Amz-Signature=0000000000000000'

function s3Error (status: number, code: string): LoopbackResponse {
  const body = `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code></Error>`
  return { status, headers: { 'content-type': 'application/xml' }, body }
}

/** Starts an object storage that serves presigned URLs, and refuses a second authentication. */
export async function createStorage (store: Store): Promise<Loopback> {
  return await createLoopback(({ path, headers }) => {
    if (headers.authorization !== undefined) return s3Error(400, 'InvalidArgument')
    if (!path.includes(signature)) return s3Error(403, 'AccessDenied')
    const uuid = path.split('?')[0]?.split('/').at(-1)
    const asset = store.repositories.flatMap(({ releases }) => releases).flatMap(({ assets }) => assets).find((each) =>
      each.uuid === uuid
    )
    if (asset === undefined) return s3Error(404, 'NoSuchKey')
    const about = {
      'accept-ranges': 'bytes',
      'content-disposition': disposition(asset.name),
      'content-type': 'application/octet-stream',
      etag: `"${createHash('md5').update(asset.content).digest('hex')}"`,
      'last-modified': new Date(asset.created_at).toUTCString()
    }
    const [, start] = /^bytes=(\d+)-$/.exec(headers.range ?? '') ?? []
    if (start === undefined) return { status: 200, headers: about, body: asset.content }
    const { length } = asset.content
    if (Number(start) >= length) return s3Error(416, 'InvalidRange')
    const range = `bytes ${start}-${length - 1}/${length}`
    return { status: 206, headers: { ...about, 'content-range': range }, body: asset.content.subarray(Number(start)) }
  })
}

/** Creates the responses outside `/api`: assets, and the sign-in page. */
export function createWeb (store: Store, storage: Loopback | undefined) {
  const noAsset = textResponse(404, 'Not Found\n', { ...page, 'content-type': plain })
  const noPage = textResponse(404, 'Not found.\n', { ...page, 'content-type': 'text/plain;charset=utf-8' })

  function give (request: LoopbackRequest, asset: Asset): LoopbackResponse {
    asset.download_count++
    if (asset.type === 'external' && asset.url !== undefined) return redirect(303, asset.url, page)
    if (storage === undefined) return served(request, asset)
    const { uuid } = asset
    const path = `/gitea/attachments/${uuid.slice(0, 1)}/${uuid.slice(1, 2)}/${uuid}`
    const query = `response-content-disposition=${
      encodeURIComponent(disposition(asset.name))
    }&X-Amz-Expires=300&${signature}`
    return redirect(303, `${storage.url}${path}?${query}`, page)
  }

  function mayRead ({ access }: View, repository: Repository): boolean {
    return access.reads(repository) && repository.has_releases !== false
  }

  function attachment (view: View, request: LoopbackRequest, uuid: string): LoopbackResponse {
    const repository = store.repositories.find(({ releases }) =>
      releases.some(({ assets }) => assets.some((each) => each.uuid === uuid))
    )
    const asset = repository?.releases.flatMap(({ assets }) => assets).find((each) => each.uuid === uuid)
    return repository === undefined || asset === undefined || !mayRead(view, repository)
      ? noAsset
      : give(request, asset)
  }

  function download (
    view: View,
    request: LoopbackRequest,
    url: URL,
    [owner, name = '', tag, file]: Array<string | undefined>
  ): LoopbackResponse {
    if (owner?.toLowerCase() !== store.owner.login.toLowerCase()) return noPage
    const repository = store.find(name)
    const moved = repository === undefined ? movedPath(store, name, `${url.pathname}${url.search}`) : undefined
    if (moved !== undefined) return redirect(301, moved, page)
    if (repository === undefined || !mayRead(view, repository)) return noPage
    const latest = newestFirst(repository.releases).find(({ draft, prerelease }) => !draft && !prerelease)
    const release = repository.releases.find((each) => each.tag === tag && (view.access.writes || !each.draft)) ??
      (tag === 'latest' ? latest : undefined)
    const asset = release?.assets.find((each) => each.name === file)
    return asset === undefined ? noAsset : give(request, asset)
  }

  function login (): LoopbackResponse {
    const cookies = [
      session,
      `redirect_to=%2F; ${attributes}`,
      'gitea_incredible=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax'
    ]
    const html =
      '<!DOCTYPE html>\n<html lang="en-US" data-theme="gitea-auto">\n<head>\n\t<title>Sign In - ' +
        'Gitea</title>\n</head>\n</html>\n'
    const headers = {
      ...uncached,
      'set-cookie': cookies,
      'content-type': 'text/html; charset=utf-8',
      'transfer-encoding': 'chunked'
    }
    return { status: 200, headers, body: html }
  }

  /** @param view undefined when the credentials of the request are unknown */
  return function response (
    request: LoopbackRequest,
    url: URL,
    names: string[],
    view: View | undefined
  ): LoopbackResponse {
    if (names.join('/') === 'user/login') return login()
    const [first, second = '', third, fourth, tag, file] = names
    const byUuid = first === 'attachments' && names.length === 2
    if (!byUuid && !(third === 'releases' && fourth === 'download' && names.length === 6)) return noPage
    if (view === undefined) {
      return textResponse(401, 'Failed to authenticate user\n', { ...page, 'content-type': plain })
    }
    if (view.options.requireSignin && !view.access.signedIn) {
      return redirect(303, `/user/login?redirect_to=${encodeURIComponent(request.path)}`, page)
    }
    return byUuid ? attachment(view, request, second) : download(view, request, url, [first, second, tag, file])
  }
}
