import { isRefusal, isRegistryError, registryError, type RegistryError } from '../../lib/errors.ts'
import { createPause } from '../../lib/retry-after.ts'

/** Failures in a row that open the circuit. */
const threshold = 3
/** Number of different names whose failures in a row, without a success between them, open the circuit. */
const namesThreshold = 5
/** Milliseconds for which the circuit is open at first; doubled with each failed test, up to `maxPauseMs`. */
const firstPauseMs = 1000
const maxPauseMs = 30_000

export const circuits = ['closed', 'open', 'half-open'] as const
export type Circuit = typeof circuits[number]

export interface RunOptions {
  /** Returns whether a failure is not to count. */
  forgives?: (error: RegistryError) => boolean
  /** Whether the request is sent even while the circuit is open. */
  probe?: boolean
  /** Returns whether the failure that opened the circuit is unrelated to this request. */
  passes?: (last: RegistryError) => boolean
  /** Extension that the request is about. Forgiven failures of different ones in a row count as the upstream's. */
  extension?: string
  /**
   * Whether a success only shows that the upstream is reachable. It does not close a circuit that failing names opened.
   */
  shallow?: boolean
  /** Whether the request takes long. Other requests are not refused while it is the test. */
  slow?: boolean
}

/**
 * State of a circuit. `until` is the clock's time in milliseconds up to which requests are refused. `breaks` counts
 * how often it opened since it was last closed. `byNames` is set when failing names opened it.
 */
type State = { readonly until: number, readonly breaks: number, readonly byNames: boolean } &
  ({ readonly name: 'closed' | 'open' } | { readonly name: 'half-open', readonly decided: PromiseWithResolvers<void> })

const closed: State = { name: 'closed', until: -Infinity, breaks: 0, byNames: false }

/** Runs a request to its end and returns a function that returns its result or throws its error. */
async function outcomeOf<T> (request: () => Promise<T>): Promise<() => Promise<T>> {
  try {
    const result = await request()
    return async () => result
  } catch (error) {
    return async () => { throw error }
  }
}

/** Returns whether an error is the upstream's: bugs and the registry's own limits are not. */
const isFailure = ({ code, proxyError }: RegistryError): boolean =>
  code !== 'internal_error' && proxyError !== 'connection_limit_reached'

/** Returns whether a failure shows that the upstream is reachable: it sent a response that cannot be used. */
const isUnusableResponse = ({ proxyError = '' }: RegistryError): boolean =>
  ['http_protocol_error', 'http_response_incomplete'].includes(proxyError)

/** Returns whether a forgiven failure is a response of an upstream that works. */
const isResponse = (error: RegistryError): boolean => isUnusableResponse(error) || isRefusal(error)

const isServerFailure = ({ upstreamStatus = 0 }: RegistryError): boolean => upstreamStatus >= 500

/** Creates the error of a request that is not sent: the last failure, and the time that is left as `Retry-After`. */
function refusal (last: RegistryError | undefined, leftMs: number): RegistryError {
  const { code = 'service_unavailable', message = 'Upstream unavailable', details, instance, proxyError } = last ?? {}
  return registryError(code, message, {
    retryAfter: leftMs / 1000,
    cause: last,
    ...(details !== undefined && { details }),
    ...(instance !== undefined && { instance }),
    ...(proxyError !== undefined && { proxyError })
  })
}

/**
 * Creates the state machine. closed -> open: failures in a row. open -> half-open: a request is sent as the test.
 * half-open -> closed or open: the result of the test. Its caller decides when a test may be sent.
 */
function createCircuit (clock: () => number) {
  let state = closed
  let failuresInARow = 0

  /** Starts a request and returns the state in which it runs. While the circuit is open, the request is the test. */
  function start (): State {
    if (state.name === 'open') state = { ...state, name: 'half-open', decided: Promise.withResolvers() }
    return state
  }

  function change (to: State): void {
    const from = state
    state = to
    if (from.name === 'half-open') from.decided.resolve()
  }

  /** Counts a success of a request that was started in a state. */
  function succeed (started: State): void {
    if (started.name === 'closed') failuresInARow = 0
  }

  /** Counts a failure of a request that was started in a state. A test that was overtaken decides nothing. */
  function fail (started: State, ofNames: boolean): void {
    const isTest = started.name === 'half-open'
    if (isTest && started !== state) return
    failuresInARow++
    if (state.name === 'open' || !(isTest || ofNames || failuresInARow >= threshold)) return
    const { until, breaks } = state
    const byNames = state.byNames || ofNames
    const now = clock()
    // A probe may be sent, and fail, before the pause is over. The pause stays as it is then.
    if (now < until) return change({ name: 'open', until, breaks, byNames })
    const pauseMs = Math.min(maxPauseMs, firstPauseMs * 2 ** breaks)
    change({ name: 'open', until: now + pauseMs, breaks: breaks + 1, byNames })
  }

  /** Ends a request. A test that did not fail closes the circuit. */
  function end (started: State): void {
    if (started.name !== 'half-open' || started !== state) return
    failuresInARow = 0
    change(closed)
  }

  /** Returns the end of the test in progress; undefined when there is none. */
  const test = (): Promise<void> | undefined => state.name === 'half-open' ? state.decided.promise : undefined

  return { state: () => state, test, start, succeed, fail, end }
}

/** Creates the set of names that failed since the last success. */
function createFailingNames () {
  const failing = new Set<string>()
  const clear = (): void => { failing.clear() }

  /** Adds a forgiven failure of a name. Returns whether it is the upstream's, because different names fail in a row. */
  function add (error: RegistryError, name: string | undefined): boolean {
    if (isResponse(error)) clear()
    else if (name !== undefined && isServerFailure(error)) failing.add(name)
    if (failing.size < namesThreshold) return false
    clear()
    return true
  }

  return { add, clear }
}

/**
 * Creates the circuit breaker of one instance. After failures in a row it is open: no request is sent. Then one
 * request tests the upstream (half-open), and its result closes the circuit or opens it for longer. A `Retry-After`
 * opens it at once for the given time, and no success of a request in progress ends that. Forgiven failures open it
 * too when different names fail in a row; then only a success of a request that is not `shallow` closes it. `clock`
 * returns milliseconds and is monotonic.
 */
export function createBreaker (clock: () => number) {
  const circuit = createCircuit(clock)
  const failingNames = createFailingNames()
  const pause = createPause(clock)
  let last: RegistryError | undefined

  /** Returns why a request is refused now; undefined when it may be sent. */
  function refused ({ probe = false, passes }: RunOptions): RegistryError | undefined {
    const { until, byNames } = circuit.state()
    const passed = probe || (last !== undefined && !byNames && passes?.(last) === true)
    const leftMs = Math.max(pause.leftMs(), passed ? 0 : until - clock())
    return leftMs > 0 ? refusal(last, leftMs) : undefined
  }

  /** Counts an error of a request that was started in a state, unless it is not the upstream's or is forgiven. */
  function count (started: State, error: RegistryError, { forgives, extension }: RunOptions): void {
    const forgiven = forgives?.(error) === true
    if (!isFailure(error)) return
    // A forgiven failure does not show that the upstream works, unless it is a response. As the result of a test it
    // counts.
    const counts = !forgiven || (circuit.state().name !== 'closed' && !isResponse(error))
    const ofNames = !counts && failingNames.add(error, extension)
    if (!counts && !ofNames) return
    last = error
    if (error.retryAfter !== undefined) pause.begin(error.retryAfter)
    circuit.fail(started, ofNames)
  }

  /** Sends a request and counts its result. */
  async function send<T> (request: () => Promise<T>, options: RunOptions): Promise<T> {
    const started = circuit.start()
    try {
      const result = await request()
      if (options.shallow !== true) failingNames.clear()
      circuit.succeed(started)
      return result
    } catch (error) {
      if (isRegistryError(error)) count(started, error, options)
      throw error
    } finally {
      circuit.end(started)
    }
  }

  /**
   * Sends a request. Its error counts as a failure unless it is a bug or `forgives` returns true. While the circuit is
   * open, throws the last failure with the time that is left, and sends nothing. A `probe`, or a request that the last
   * failure `passes`, is sent as a test then, but not during the pause of a `Retry-After`. Requests wait while a test
   * is in progress.
   */
  async function run<T> (request: () => Promise<T>, options: RunOptions = {}): Promise<T> {
    const error = refused(options)
    if (error !== undefined) throw error
    const { probe = false, shallow = false, slow = false } = options
    const { name, byNames } = circuit.state()
    // A probe does not wait for a slow test, and its result does not decide for it.
    if (probe && name === 'half-open') return await request()
    if (shallow && byNames) return await request()
    const outcome = slow && name !== 'closed' ? await outcomeOf(request) : undefined
    // Another test failed meanwhile: this one decides nothing.
    if (outcome !== undefined && refused(options) !== undefined) return await outcome()
    for (let test = circuit.test(); test !== undefined; test = circuit.test()) await test
    // The test that it waited for may have failed. The refusal does not count as a failure.
    const lateError = outcome === undefined ? refused(options) : undefined
    if (lateError !== undefined) throw lateError
    return await send(outcome ?? request, options)
  }

  return {
    get state (): Circuit {
      const { name, until } = circuit.state()
      if (pause.leftMs() > 0 || until > clock()) return 'open'
      return name === 'closed' ? 'closed' : 'half-open'
    },

    /** Returns why no request is sent now, with the time that is left; undefined when one may be sent. */
    blocked (passes?: (last: RegistryError) => boolean): RegistryError | undefined {
      const error = refused(passes === undefined ? {} : { passes })
      return error ?? (circuit.test() === undefined ? undefined : refusal(last, firstPauseMs))
    },

    run
  }
}
export type Breaker = ReturnType<typeof createBreaker>

/** Runs a call of the driver behind the circuit breaker. */
export type UpstreamCall = <T>(call: () => Promise<T>, options?: RunOptions) => Promise<T>

/** Creates the calls of one instance's driver. An error that is not of the error table becomes `internal_error`. */
export const createUpstreamCall = (instance: string, breaker: Breaker): UpstreamCall =>
  async (call, options = {}) =>
    await breaker.run(async () => {
      try {
        return await call()
      } catch (error) {
        throw isRegistryError(error)
          ? error
          : registryError('internal_error', 'Internal server error', { cause: error, instance })
      }
    }, options)

/**
 * Returns whether a request for one name is sent although this failure opened the circuit. A listing that cannot be
 * used does not show that single names cannot be read.
 */
export const passes = ({ proxyError }: RegistryError): boolean => proxyError === 'http_protocol_error'
