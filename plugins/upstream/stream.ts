import type { Request, Response } from 'got'
import { untilAborted } from '../../lib/deadline.ts'

/**
 * Yields the chunks of a source. Throws the error of `late` when no chunk arrives within `seconds` after a read; time
 * that the reader needs does not count. `failed` translates the errors of the source, because errors of got contain the
 * request with its credentials.
 */
export async function * limitSilence (
  source: AsyncIterable<Buffer>,
  seconds: number,
  late: () => Error,
  failed: (error: unknown) => Error
): AsyncGenerator<Buffer> {
  const chunks = source[Symbol.asyncIterator]()
  const silence = new AbortController()
  try {
    for (;;) {
      const timer = setTimeout(() => { silence.abort(late()) }, seconds * 1000)
      const next = await untilAborted(chunks.next(), silence.signal).finally(() => { clearTimeout(timer) })
      if (next.done === true) return
      yield next.value
    }
  } catch (error) {
    throw failed(error)
  } finally {
    // The call is not awaited, because a silent source would never return.
    chunks.return?.().catch(() => {})
  }
}

/** Returns the response of a request stream. Throws its error. */
export async function responseOf (request: Request): Promise<Response> {
  return await new Promise((resolve, reject) => {
    request.once('response', resolve)
    // The listener stays attached, because a request may fail again after it was aborted. An error without a listener
    // would end the process.
    request.on('error', reject)
  })
}
