import type { Request, Response } from 'got'

/**
 * Passes chunks on, and fails with `late` when the source is silent for too long while somebody waits for it; a slow
 * reader is not silence. What the source fails with is translated by `failed`: the client's own errors carry the
 * request with its credentials.
 */
export async function * limitSilence (
  source: AsyncIterable<Buffer>,
  seconds: number,
  late: () => Error,
  failed: (error: unknown) => Error
): AsyncGenerator<Buffer> {
  const chunks = source[Symbol.asyncIterator]()
  try {
    for (;;) {
      let timer: NodeJS.Timeout | undefined
      const silence = new Promise<never>((_resolve, reject) => {
        timer = setTimeout(() => reject(late()), seconds * 1000)
      })
      const next = await Promise.race([chunks.next(), silence]).finally(() => clearTimeout(timer))
      if (next.done === true) return
      yield next.value
    }
  } catch (error) {
    throw failed(error)
  } finally {
    // Not awaited: a silent source would never answer.
    chunks.return?.().catch(() => {})
  }
}

/** The first of what a request stream tells: its response, or its failure. */
export async function responseOf (request: Request): Promise<Response> {
  return await new Promise((resolve, reject) => {
    request.once('response', resolve)
    // Stays attached: a request may fail again after it was given up, and nobody else would listen.
    request.on('error', reject)
  })
}
