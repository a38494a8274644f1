import { accessOf } from './gitea/access.ts'
import { common, createApi } from './gitea/api.ts'
import { createLoopback } from './loopback.ts'
import { createStorage, createWeb } from './gitea/web.ts'
import { createStore, epoch } from './gitea/store.ts'
import type { GiteaContent } from './gitea/content.ts'
import type { Loopback, LoopbackResponse, LoopbackRequest } from './loopback.ts'
import type { Store } from './gitea/store.ts'
import type { TokenContent } from './gitea/access.ts'

export { provisioningContent } from './gitea/provisioning.ts'
export type { AssetContent, GiteaContent, OwnerContent, ReleaseContent, RepositoryContent } from './gitea/content.ts'
export type { TokenContent } from './gitea/access.ts'

/** Settings of the server; the `options` of a running fake may change, except `serveDirect`. */
export interface GiteaOptions {
  /** Tokens that the server accepts; all others are refused. */
  tokens?: Record<string, TokenContent>
  /** `[server] ROOT_URL`, with its slash at the end; the default is `https://gitea.example.com/`. */
  rootUrl?: string
  /** `[api] MAX_RESPONSE_ITEMS`; the default is 50. */
  maxResponseItems?: number
  /** `[api] DEFAULT_PAGING_NUM`; the default is 30. */
  defaultPagingNum?: number
  /** `[service] REQUIRE_SIGNIN_VIEW`. */
  requireSignin?: boolean
  /** Whether the JSON of a repository has topics, as in Gitea since 1.23; the default is true. */
  topics?: boolean
  /**
   * Whether responses are those of Forgejo: topics are null when empty, `parent` is always present, assets have a
   * `type`. Taken from its source, not recorded.
   */
  forgejo?: boolean
  /** Name of a field with the digest of the server in the JSON of an asset; no released Gitea has it yet. */
  digests?: 'digest' | 'sha256' | 'none'
  /** Whether downloads are redirected to the object storage `storage`. */
  serveDirect?: boolean
  /** Version in `/api/v1/version`. */
  version?: string
}

export interface GiteaFake extends Loopback, Omit<Store, 'find'> {
  readonly options: Required<GiteaOptions>
  /** The server of presigned URLs, with its own requests and faults. */
  readonly storage: Loopback | undefined
}

function health (): LoopbackResponse {
  const pass = [{ status: 'pass', time: epoch }]
  const value = { status: 'pass', description: 'Gitea', checks: { 'cache:ping': pass, 'database:ping': pass } }
  return {
    status: 200,
    headers: { ...common, 'content-type': 'application/json' },
    body: JSON.stringify(value, undefined, 2)
  }
}

function decode (segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}

/**
 * Starts a Gitea with this content, which may change while it runs. Its responses to requests for releases equal those
 * in `test/recordings/gitea`; other paths below `/api/v1` are unknown.
 */
export async function createGiteaFake (content: GiteaContent, options: GiteaOptions = {}): Promise<GiteaFake> {
  const forgejo = options.forgejo ?? false
  const settings: Required<GiteaOptions> = {
    tokens: {},
    rootUrl: 'https://gitea.example.com/',
    maxResponseItems: 50,
    defaultPagingNum: 30,
    requireSignin: false,
    topics: true,
    digests: 'none',
    serveDirect: false,
    version: forgejo ? '15.0.3+gitea-1.22.0' : options.topics === false ? '1.22.6' : 'development',
    ...options,
    forgejo
  }
  const store = createStore(content)
  const storage = settings.serveDirect ? await createStorage(store) : undefined
  const api = createApi(store)
  const web = createWeb(store, storage)

  function handle (request: LoopbackRequest): LoopbackResponse {
    const url = new URL(request.path, 'http://fake')
    const names = url.pathname.split('/').filter((each) => each !== '').map(decode)
    if (names.join('/') === 'api/healthz') return health()
    const access = accessOf(settings.tokens, request.headers)
    const view = access === undefined
      ? undefined
      : { options: settings, owner: store.owner, host: request.headers.host ?? '', access }
    if (names[0] === 'api' && names[1] === 'v1') return api(request, url, names.slice(2), settings, view)
    return web(request, url, names, view)
  }

  const loopback = await createLoopback(handle)
  const { find, ...changes } = store
  return Object.assign(loopback, changes, {
    options: settings,
    storage,
    close: async () => { await Promise.all([loopback.stop(), storage?.stop()]) }
  })
}
