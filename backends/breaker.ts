import { circuitBreaker, CircuitState, ConsecutiveBreaker, handleWhen } from 'cockatiel'
import { isRegistryError, registryError, type RegistryError } from '../plugins/errors.ts'

/** Failures in a row that open the circuit. */
const threshold = 3
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
}

/** Whether an error says something of the upstream: a bug does not, nor do the bounds that the registry sets itself. */
const isFailure = ({ code, proxyError }: RegistryError): boolean => code !== 'internal_error' && proxyError !== 'connection_limit_reached'

/** Whether a failure shows that the upstream itself is there: it says something, though nothing that can be used. */
const isOwnWord = ({ proxyError = '' }: RegistryError): boolean => ['http_protocol_error', 'http_response_incomplete'].includes(proxyError)

/**
 * The circuit breaker of one instance. After failures in a row it is open: nothing is asked. Then one question tests the
 * upstream (half-open) and closes it, or opens it for longer. A `Retry-After` opens it at once, for as long as it says, and no
 * success of what was under way ends that. `clock` gives milliseconds and only goes forward.
 */
export function createBreaker (clock: () => number) {
  let openUntil = -Infinity
  let pausedUntil = -Infinity
  let breaks = 0
  let last: RegistryError | undefined
  const counted = new WeakSet<object>()

  // When a test may be made is decided here: the library goes by the wall clock, which jumps.
  const circuit = circuitBreaker(handleWhen(error => typeof error === 'object' && error !== null && counted.has(error)), {
    halfOpenAfter: -Infinity,
    breaker: new ConsecutiveBreaker(threshold)
  })
  circuit.onBreak(() => {
    // What had waited for a test that failed, and is refused then, is no failure of its own.
    if (clock() >= openUntil) openUntil = clock() + Math.min(most, first * 2 ** breaks++)
  })
  circuit.onReset(() => {
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

  const mayPass = (passes: ((last: RegistryError) => boolean) | undefined): boolean => last !== undefined && passes?.(last) === true

  function note (error: RegistryError): void {
    counted.add(error)
    last = error
    if (error.retryAfter !== undefined) pausedUntil = Math.max(pausedUntil, clock() + Math.min(longestPause, error.retryAfter * 1000))
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
    async run<T> (question: () => Promise<T>, { forgives = () => false, probe = false, passes }: RunOptions = {}): Promise<T> {
      const refused = () => {
        const left = Math.max(pausedUntil, probe || mayPass(passes) ? -Infinity : openUntil) - clock()
        return left > 0 ? refusal(left) : undefined
      }
      const error = refused()
      if (error !== undefined) throw error
      // A probe does not wait for a test that takes its time, and says nothing of how that will end.
      if (probe && circuit.state === CircuitState.HalfOpen) return await question()
      return await circuit.execute(async () => {
        const error = refused()
        if (error !== undefined) {
          counted.add(error)
          throw error
        }
        try {
          return await question()
        } catch (error) {
          // A test that proves nothing leaves the circuit as it was: to the library it would be a success.
          const testing = circuit.state !== CircuitState.Closed && isRegistryError(error) && !isOwnWord(error)
          if (isRegistryError(error) && isFailure(error) && (testing || !forgives(error))) note(error)
          throw error
        }
      })
    }
  }
}
export type Breaker = ReturnType<typeof createBreaker>
