import type { OutgoingHttpHeaders } from 'node:http'

/** One page of names. */
export interface NamePage { names: string[] | null, link?: string }

/**
 * Differences between registries, from the recordings (`test/recordings/oci`); those of Harbor are from its source and
 * API description.
 */
export interface Flavour {
  /** Headers of every response of the API. */
  common: OutgoingHttpHeaders
  json: string
  /** Whether manifests require an `Accept` with their type. */
  needsAccept: boolean
  /** Whether responses have an ETag (`etags`), and `If-None-Match` is supported (`conditional`). */
  etags: boolean
  conditional: boolean
  blobHeaders: OutgoingHttpHeaders
  /** Returns one page of names; a number is a refused `n`, and undefined is a 404 without a body. */
  catalog: (names: string[], n: string | null, last: string | null) => NamePage | number
  tags: (names: string[], path: string, n: string | null, last: string | null) => NamePage | undefined
  /** Returns the body of an error. */
  error: (code: string, message: string, detail: unknown) => string
}

const after = (names: string[], last: string | null) => last === null ? names : names.filter(name => name > last)
const version = { 'docker-distribution-api-version': 'registry/2.0' }
const verbose = (code: string, message: string, detail: unknown) =>
  JSON.stringify({ errors: [{ code, message, detail }] })

const dockerRegistry: Flavour = {
  common: version,
  json: 'application/json; charset=utf-8',
  needsAccept: true,
  etags: true,
  conditional: true,
  blobHeaders: {
    'accept-ranges': 'bytes',
    'cache-control': 'max-age=31536000',
    'content-type': 'application/octet-stream'
  },
  catalog: (names, n, last) => {
    const maximum = Number(n ?? 100)
    if (maximum > 1000) return maximum
    const rest = after([...names].sort(), last)
    const page = rest.slice(0, maximum)
    return {
      names: page,
      ...(rest.length > maximum && { link: `/v2/_catalog?last=${encodeURIComponent(page.at(-1) ?? '')}&n=${maximum}` })
    }
  },
  tags: names => ({ names: names.length === 0 ? null : names }),
  error: (code, message, detail) => `${verbose(code, message, detail)}\n`
}

const zot: Flavour = {
  common: {},
  json: 'application/json',
  needsAccept: false,
  etags: false,
  conditional: false,
  blobHeaders: { 'content-type': '' },
  catalog: (names, n, last) => {
    const rest = after([...names].sort(), last)
    const page = n === null ? rest : rest.slice(0, Number(n))
    return { names: page, ...(rest.length > page.length && { link: `/v2/_catalog?n=${n}&last=${page.at(-1) ?? ''}` }) }
  },
  tags: (names, path, n, last) => {
    const sorted = [...names].sort()
    if (last !== null && !sorted.includes(last)) return undefined
    const rest = after(sorted, last)
    const page = n === null ? rest : rest.slice(0, Number(n))
    return { names: page, ...(rest.length > page.length && { link: `${path}?n=${n}&last=${page.at(-1) ?? ''}` }) }
  },
  error: (code, message, detail) => verbose(code, message, { description: message, ...detail as object })
}

const gitea: Flavour = {
  common: { ...version, 'x-content-type-options': 'nosniff', 'x-frame-options': 'SAMEORIGIN' },
  json: 'application/json',
  needsAccept: false,
  etags: true,
  conditional: false,
  blobHeaders: { 'content-type': 'application/vnd.oci.image.layer.v1.tar+gzip' },
  catalog: (names, n, last) => {
    const maximum = Math.min(100, Math.max(1, Number(n ?? 100)))
    const page = after([...names].sort(), last).slice(0, maximum)
    return {
      names: page,
      ...(page.length === maximum &&
        { link: `/v2/_catalog?last=${encodeURIComponent(page.at(-1) ?? '')}&n=${maximum}` })
    }
  },
  tags: (names, path, n, last) => {
    const rest = after(names.map(name => name.toLowerCase()).sort(), last)
    const page = n === null ? rest : rest.slice(0, Number(n))
    return {
      names: page,
      ...(page.length > 0 &&
        { link: `${path}?last=${encodeURIComponent(page.at(-1) ?? '')}${n === null ? '' : `&n=${n}`}` })
    }
  },
  error: code => `${JSON.stringify({ errors: [{ code, message: '' }] })}\n`
}

const harbor: Flavour = {
  ...dockerRegistry,
  catalog: names => ({ names: [...names].sort() }),
  tags: (names, path, n, last) => zot.tags(names, path, n, last) ?? { names: [] },
  error: verbose
}

export const flavours = { 'docker-registry': dockerRegistry, zot, gitea, harbor }
export type FlavourName = keyof typeof flavours
