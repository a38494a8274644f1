import { circuitBreaker, CircuitState, ConsecutiveBreaker, handleWhen } from 'cockatiel'
import { isRefusal, isRegistryError, registryError, type RegistryError } from '../../lib/errors.ts'

/** Failures in a row that open the circuit. */
const threshold = 3
/** Different names that fail one after the other, without a success between, that open the circuit. */
const namesThreshold = 5
/** Milliseconds that it stays open at first; doubled with each test that fails. */
const first = 1000
const most = 30_000
/** Longest `Retry-After` (milliseconds) that is obeyed as it is: a slip of an upstream must not silence it for a day. */
const longestPause = 600_000

export const circuits = ['closed', 'open', 'half-open'] as const
export type Circuit = typeof circuits[number]

export interface RunOptions {
  /** Whether a failure is to count as none. */
  forgives?: (error: RegistryError) => boolean
  /** Asked even while the circuit is open. */
  probe?: boolean
  /** Whether the failure that opened the circuit says nothing of this question. */
  passes?: (last: RegistryError) => boolean
  /** Name that the question is about. A forgiven failure of one name is its own; failures of several in a row are not. */
  subject?: string
  /** Whether a success shows only that the upstream is there. It does not close a circuit that failing names have opened. */
  shallow?: boolean
  /** Whether it takes its time. Where it tests the upstream, other questions are not refused meanwhile. */
  slow?: boolean
}

/** Runs a question to its end; the result gives its answer, or throws its error. */
async function outcomeOf<T> (question: () => Promise<T>): Promise<() => Promise<T>> {
  try {
    const answer = await question()
    return async () => answer
  } catch (error) {
    return async () => { throw error }
  }
}

/** Whether an error says something of the upstream: a bug does not, nor do the bounds that the registry sets itself. */
const isFailure = ({ code, proxyError }: RegistryError): boolean => code !== 'internal_error' && proxyError !== 'connection_limit_reached'

/** Whether a failure shows that the upstream itself is there: it says something, though nothing that can be used. */
const isOwnWord = ({ proxyError = '' }: RegistryError): boolean => ['http_protocol_error', 'http_response_incomplete'].includes(proxyError)

/** Whether the upstream itself failed to answer, whatever the name. */
const isServerFailure = ({ upstreamStatus = 0 }: RegistryError): boolean => upstreamStatus >= 500

/**
 * The circuit breaker of one instance. After failures in a row it is open: nothing is asked. Then one question tests the
 * upstream (half-open) and closes it, or opens it for longer. A `Retry-After` opens it at once, for as long as it says, and no
 * success of what was under way ends that. Forgiven failures open it too when different names fail one after the other; then only
 * a success of more than a `shallow` question closes it. `clock` gives milliseconds and only goes forward.
 */
export function createBreaker (clock: () => number) {
  let openUntil = -Infinity
  let pausedUntil = -Infinity
  let breaks = 0
  let last: RegistryError | undefined
  /** Names that failed since the last success. */
  const failing = new Set<string>()
  /** Whether the failure that is being counted opens the circuit at once. */
  let tripping = false
  let openedByNames = false
  const consecutive = new ConsecutiveBreaker(threshold)
  const counted = new WeakSet<object>()

  // When a test may be made is decided here: the library goes by the wall clock, which jumps.
  const circuit = circuitBreaker(handleWhen(error => typeof error === 'object' && error !== null && counted.has(error)), {
    halfOpenAfter: -Infinity,
    breaker: {
      state: undefined,
      success: () => { consecutive.success() },
      failure: () => consecutive.failure() || tripping
    }
  })
  circuit.onBreak(() => {
    // What had waited for a test that failed, and is refused then, is no failure of its own.
    if (clock() >= openUntil) openUntil = clock() + Math.min(most, first * 2 ** breaks++)
    openedByNames ||= tripping
    tripping = false
  })
  circuit.onReset(() => {
    openedByNames = tripping = false
    breaks = 0
    openUntil = -Infinity
  })

  /** The last failure, as the answer to a question that is not asked now. */
  function refusal (left: number): RegistryError {
    const { code = 'service_unavailable', message = 'The upstream is left alone', details, instance, proxyError } = last ?? {}
    return registryError(code, message, {
      retryAfter: left / 1000,
      cause: last,
      ...(details !== undefined && { details }),
      ...(instance !== undefined && { instance }),
      ...(proxyError !== undefined && { proxyError })
    })
  }

  const mayPass = (passes: ((last: RegistryError) => boolean) | undefined): boolean => last !== undefined && !openedByNames && passes?.(last) === true

  function note (error: RegistryError): void {
    counted.add(error)
    last = error
    if (error.retryAfter !== undefined) pausedUntil = Math.max(pausedUntil, clock() + Math.min(longestPause, error.retryAfter * 1000))
  }

  /** Whether a forgiven failure is the instance's after all, because one name after the other fails. */
  function isOfInstance (error: RegistryError, subject: string | undefined): boolean {
    // A refusal, or content that cannot be used, is an answer: the upstream works.
    if (isRefusal(error) || isOwnWord(error)) failing.clear()
    else if (subject !== undefined && isServerFailure(error)) failing.add(subject)
    if (failing.size < namesThreshold) return false
    failing.clear()
    tripping = true
    return true
  }

  return {
    get state (): Circuit {
      if (Math.max(openUntil, pausedUntil) > clock()) return 'open'
      return circuit.state === CircuitState.Closed ? 'closed' : 'half-open'
    },

    /** Why nothing may be asked now, with the time that is left; undefined when something may, or the last failure `passes`. */
    rest (passes?: (last: RegistryError) => boolean): RegistryError | undefined {
      const left = Math.max(pausedUntil, mayPass(passes) ? -Infinity : openUntil) - clock()
      if (left > 0) return refusal(left)
      return circuit.state === CircuitState.HalfOpen ? refusal(first) : undefined
    },

    /**
     * Asks the upstream. What it throws counts as a failure unless it is a bug, or `forgives` says otherwise. Throws what
     * `rest` gives instead of asking; a `probe`, or a question that the last failure `passes`, is asked as a test while the
     * circuit is open, but not against a `Retry-After`.
     */
    async run<T> (question: () => Promise<T>, { forgives = () => false, probe = false, passes, subject, shallow = false, slow = false }: RunOptions = {}): Promise<T> {
      const refused = () => {
        const left = Math.max(pausedUntil, probe || mayPass(passes) ? -Infinity : openUntil) - clock()
        return left > 0 ? refusal(left) : undefined
      }
      const error = refused()
      if (error !== undefined) throw error
      // A probe does not wait for a test that takes its time, and says nothing of how that will end.
      if (probe && circuit.state === CircuitState.HalfOpen) return await question()
      if (shallow && openedByNames) return await question()
      const outcome = slow && circuit.state !== CircuitState.Closed ? await outcomeOf(question) : undefined
      // Another question has failed as a test meanwhile: this one decides nothing any more.
      if (outcome !== undefined && refused() !== undefined) return await outcome()
      return await circuit.execute(async () => {
        const error = outcome === undefined ? refused() : undefined
        if (error !== undefined) {
          counted.add(error)
          throw error
        }
        try {
          const answer = await (outcome ?? question)()
          if (!shallow) failing.clear()
          return answer
        } catch (error) {
          if (!isRegistryError(error)) throw error
          const forgiven = forgives(error)
          // A test that proves nothing leaves the circuit as it was: to the library it would be a success.
          const testing = circuit.state !== CircuitState.Closed && !isOwnWord(error) && !(forgiven && isRefusal(error))
          if (isFailure(error) && (testing || !forgiven || isOfInstance(error, subject))) note(error)
          throw error
        }
      })
    }
  }
}
export type Breaker = ReturnType<typeof createBreaker>
