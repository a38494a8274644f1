import type { FastifyBaseLogger } from 'fastify'
import type { Download } from '../../plugins/replies/plugin.ts'
import { createDeadline, late, type Deadline } from '../../lib/deadline.ts'
import type { Downloads, OpenAt, Origin, Wanted } from '../../plugins/downloads/plugin.ts'
import { isRegistryError, registryError, type RegistryError } from '../../lib/errors.ts'
import {
  extensionSources,
  extensionTypes,
  type Extension,
  type ExtensionSource,
  type ExtensionType,
  type ExtensionVersion
} from '../../schemas/extension.ts'
import { answering, whenThere, type MaybePromise } from '../../lib/maybe-promise.ts'
import { type Backend, type Listing, type SkippedReport, type ReadOptions } from '../cached/backend.ts'
import type { Artifact, FileReference } from '../driver/driver.ts'
import { createCatalogViews, type CatalogView, type InstanceListing } from './view.ts'
import { type CachedResult, type InstanceIssue, type ListPage, type Result, combined } from '../../lib/result.ts'

export interface CatalogDependencies {
  downloads: Pick<Downloads, 'look' | 'open'>
  /** In order of appearance in the configuration, Gitea's before OCI's. */
  backends: readonly Backend[]
  log: FastifyBaseLogger
  /** Seconds: the oldest cached entry that a 404 may rest on. */
  negativeTtl: number
  /** Seconds that one question may take, over all instances. */
  budget: number
}

const none: readonly Extension[] = []

const nothing: ReadonlySet<string> = new Set()

const only: Record<ExtensionType, readonly ExtensionType[]> = {
  provider: ['provider'],
  taskserv: ['taskserv'],
  cluster: ['cluster']
}

/** What one instance answered when it was asked for everything. */
type Read = { backend: Backend, answer: CachedResult<Listing>, error?: never } | {
  backend: Backend,
  answer?: never,
  error: RegistryError
}

/** Whose an extension is; or seconds since the oldest word that nobody's it is. */
type Owned<T> = { backend: Backend, answer: Result<T>, oldest?: never } | {
  backend?: never,
  answer?: never,
  oldest: number
}

export interface Scope { source?: ExtensionSource | undefined }

export interface Name extends Scope { type: ExtensionType, name: string }

/** The order of ownership: smaller priority first, then Gitea before OCI, then order of appearance. */
export function byOwnership (backends: readonly Backend[]): Backend[] {
  return [...backends].sort((a, b) =>
    a.priority - b.priority || extensionSources.indexOf(a.source) - extensionSources.indexOf(b.source)
  )
}

/** Of several causes the one to answer with: unavailable, else the rate limit, else the credentials. */
function worst (errors: readonly RegistryError[]): RegistryError {
  const order = ['internal_error', 'service_unavailable', 'rate_limit', 'auth_error', 'config_error']
  const [first] = [...errors].sort((a, b) => order.indexOf(a.code) - order.indexOf(b.code))
  return first ?? registryError('service_unavailable', 'No instance can be asked')
}

function rethrowUnknown (error: unknown): RegistryError {
  if (!isRegistryError(error)) throw error
  return error
}

/**
 * One catalog over all instances. An extension belongs to the first instance, in order of ownership, that has it;
 * `source` narrows to instances of that kind first. An instance that cannot be asked never hands ownership over: unless
 * its last complete listing lacks the name, the answer is its failure.
 */
export function createCatalog ({ backends, downloads, log, negativeTtl, budget }: CatalogDependencies) {
  const instances = byOwnership(backends)
  const views = createCatalogViews(log)
  const ofSource = new Map(
    extensionSources.map(source => [source, instances.filter(backend => backend.source === source)])
  )
  const of = ({ source }: Scope) => source === undefined ? instances : ofSource.get(source) ?? []
  const types = (type: ExtensionType | undefined): readonly ExtensionType[] =>
    type === undefined ? extensionTypes : only[type]

  function wrap<T> (
    value: T,
    answers: ReadonlyArray<CachedResult<unknown>>,
    stale: InstanceIssue[],
    missing: InstanceIssue[]
  ): Result<T> {
    const { age, ttl, hit } = combined(answers)
    const whole = stale.length === 0 && missing.length === 0 && answers.length > 0
    return { value, age, ttl: whole ? ttl : 0, hit, stale, missing }
  }

  /** All extensions of a scope, merged by ownership, of whatever instances and cached entries can answer. */
  function everything (scope: { type?: ExtensionType | undefined } & Scope): MaybePromise<Result<CatalogView>> {
    const deadline = createDeadline(budget * 1000)
    const asked = of(scope).map((backend): MaybePromise<Read> => {
      const answer = backend.list(types(scope.type), { deadline })
      return answer instanceof Promise
        ? answer.then(answer => ({ backend, answer }), (error: unknown) => ({ backend, error: rethrowUnknown(error) }))
        : { backend, answer }
    })
    return asked.every(one => !(one instanceof Promise))
      ? merge(scope, asked as Read[])
      : Promise.all(asked).then(asked => merge(scope, asked))
  }

  /** What was answered, merged by ownership; throws when nobody answered. */
  function merge (
    { type, source }: { type?: ExtensionType | undefined } & Scope,
    asked: readonly Read[]
  ): Result<CatalogView> {
    const stale: InstanceIssue[] = []
    const missing: InstanceIssue[] = []
    const answers: Array<CachedResult<unknown>> = []
    const shares: InstanceListing[] = []
    for (const { backend: { name: instance }, answer, error } of asked) {
      if (answer === undefined) {
        missing.push({ instance, error })
        continue
      }
      const { types, unread, incomplete } = answer.value
      if (incomplete) missing.push({ instance, error: answer.error })
      else if (answer.error !== undefined) stale.push({ instance, error: answer.error })
      answers.push(answer)
      shares.push({ instance, types, unread })
    }
    if (answers.length === 0 && asked.length > 0) throw worst(asked.flatMap(({ error }) => error ?? []))
    return wrap(views.merge(shares, `${source ?? ''}:${type ?? ''}`), answers, stale, missing)
  }

  /** The first instance's answer that is not "not there"; undefined when all of them could be asked and none has it. */
  function first<T> (
    scope: Scope,
    question: (backend: Backend) => MaybePromise<CachedResult<T | undefined>>
  ): MaybePromise<Owned<T>> {
    const doubts: InstanceIssue[] = []
    const absences: Array<CachedResult<unknown>> = []
    const candidates = of(scope)
    function ask (at: number): MaybePromise<Owned<T>> {
      const backend = candidates[at]
      if (backend === undefined) {
        if (doubts.length > 0) throw worst(doubts.flatMap(doubt => doubt.error ?? []))
        return { oldest: Math.max(0, ...absences.map(({ age }) => age)) }
      }
      const take = (answer: CachedResult<T | undefined>): MaybePromise<Owned<T>> => {
        const { value, error } = answer
        if (value !== undefined) {
          const stale = error === undefined ? doubts : [...doubts, { instance: backend.name, error }]
          return { backend, answer: wrap(value, [...absences, answer], stale, []) }
        }
        if (error !== undefined) doubts.push({ instance: backend.name, error })
        absences.push(answer)
        return ask(at + 1)
      }
      const asked = question(backend)
      return asked instanceof Promise
        ? asked.then(take, (error: unknown) => {
          throw worst([...doubts.flatMap(doubt => doubt.error ?? []), rethrowUnknown(error)])
        })
        : take(asked)
    }
    return ask(0)
  }

  /** The same, with what is cached made as young as a 404 must be before nothing is found. */
  const owner = <T>(
    scope: Scope,
    deadline: Deadline,
    question: (backend: Backend, terms: ReadOptions) => MaybePromise<CachedResult<T | undefined>>
  ): MaybePromise<Owned<T>> =>
      whenThere(
        first(scope, backend => question(backend, { deadline })),
        found =>
          found.answer !== undefined || found.oldest <= negativeTtl
            ? found
            : first(scope, backend => question(backend, { deadline, maxAge: negativeTtl }))
      )

  /** Opens a file in the time that is left. */
  async function openWithin<T> (
    instance: string,
    deadline: Deadline,
    signal: AbortSignal,
    open: (signal: AbortSignal) => Promise<T>
  ): Promise<T> {
    const tooLate = new AbortController()
    const timer = setTimeout(() => { tooLate.abort(late(instance)) }, deadline.left())
    try {
      return await open(AbortSignal.any([signal, tooLate.signal]))
    } finally {
      clearTimeout(timer)
    }
  }

  /** Where a file is: at its owner, and at other instances that have told of the same content. */
  function sourcesOf (owner: Backend, file: FileReference, open: Origin['open']): Origin[] {
    let opened: FileReference | undefined
    const first: Origin = {
      instance: owner.name,
      async open (at) {
        if (opened !== undefined) return await owner.reopen(opened, at)
        const artifact = await open(at) as Artifact | undefined
        opened = artifact?.file
        return artifact
      }
    }
    const { checksum } = file
    const others = checksum === undefined
      ? []
      : instances.flatMap(backend => {
        const same = backend === owner ? undefined : backend.holding(checksum)
        return same === undefined
          ? []
          : [{ instance: backend.name, open: async (at: OpenAt) => await backend.reopen(same, at) }]
      })
    return [first, ...others]
  }

  /** The answer about a name, or that there is none. */
  const foundOr404 = ({ type, name }: Name) => <T>({ answer }: Owned<T>): Result<T> => {
    if (answer === undefined) throw registryError('not_found', `Extension ${type}/${name} not found`)
    return answer
  }

  return {
    /** Every instance, in order of ownership. */
    instances,

    // What is in the cache is given as it is, without a promise: whoever asks awaits either.

    /** A page of all extensions, by type and then by name. */
    list: (
      query: { type?: ExtensionType | undefined, limit: number, offset: number } & Scope
    ): MaybePromise<Result<ListPage<Extension>>> =>
      answering(() =>
        whenThere(
          everything(query),
          all => ({ ...all, value: { items: all.value.page(query), total: all.value.extensions.length } })
        )
      ),

    /** The best matches for `q`, in the order of {@link search}. */
    search: (
      query: { q: string, type?: ExtensionType | undefined, limit: number } & Scope
    ): MaybePromise<Result<ListPage<Extension>>> =>
      answering(() => whenThere(everything(query), all => ({ ...all, value: all.value.search(query.q, query.limit) }))),

    /** An extension at its current version. Throws `not_found`. */
    find: (name: Name): MaybePromise<Result<Extension>> =>
      answering(() =>
        whenThere(
          owner(name, createDeadline(budget * 1000), (backend, terms) => backend.find(name.type, name.name, terms)),
          foundOr404(name)
        )
      ),

    /** All versions of an extension, highest first. Throws `not_found`. */
    versions: (name: Name): MaybePromise<Result<readonly ExtensionVersion[]>> =>
      answering(() =>
        whenThere(
          owner(name, createDeadline(budget * 1000), (backend, terms) => backend.versions(name.type, name.name, terms)),
          foundOr404(name)
        )
      ),

    /**
     * The file of a version of the extension's owner, not opened yet. Throws `not_found` when there is no such version,
     * or it has no file.
     */
    async file ({ version, ...name }: Name & { version: string }): Promise<Result<Download>> {
      const { type, name: extension } = name
      const missing = registryError('not_found', `Extension ${type}/${extension} version ${version} not found`)
      const deadline = createDeadline(budget * 1000)
      const { backend, answer } = await owner(
        name,
        deadline,
        (candidate, terms) => candidate.has(type, extension, terms)
      )
      if (backend === undefined) throw missing
      const stat = await backend.stat(type, extension, version, { deadline })
      if (stat.value === undefined) throw stat.error ?? missing
      const { file, published_at: published } = stat.value
      if (file === undefined) {
        throw registryError('not_found', `Extension ${type}/${extension} version ${version} has no file`)
      }
      const wanted: Omit<Wanted, 'sources'> = {
        file,
        local: backend.local,
        ref: { instance: backend.name, type, name: extension, version }
      }
      const download: Download = {
        file,
        published,
        digest: await downloads.look(wanted),
        deadline,
        late: () => late(backend.name),
        open: async signal => {
          const sources = sourcesOf(
            backend,
            file,
            async ({ signal }) => await backend.open(type, extension, version, { signal })
          )
          const content = await openWithin(
            backend.name,
            deadline,
            signal,
            async signal => await downloads.open({ ...wanted, sources }, signal)
          )
          if (content === undefined) throw missing
          return content
        }
      }
      return wrap(
        download,
        [answer, stat],
        stat.error === undefined ? answer.stale : [{ instance: backend.name, error: stat.error }],
        []
      )
    },

    /** Returns what the instances skip, in the order of ownership, with why and since when. No upstream is asked. */
    skipped (): SkippedReport {
      const reports = instances.map(backend => backend.skipped())
      return { items: reports.flatMap(({ items }) => items), counts: reports.flatMap(({ counts }) => counts) }
    },

    /**
     * What the cached listings hold now, without asking anybody: extensions by type and source, and shadowed twins by
     * instance.
     */
    census () {
      const known = instances.map(backend => ({
        instance: backend.name,
        unread: nothing,
        types: new Map(extensionTypes.map(type => [type, backend.peek(type) ?? none]))
      }))
      const { extensions, shadowed } = views.merge(known, 'census')
      return { extensions, shadowed }
    }
  }
}

export type Catalog = ReturnType<typeof createCatalog>
