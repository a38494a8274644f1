import { OutgoingMessage } from 'node:http'
import type { Readable } from 'node:stream'

/**
 * Calls `onWritten` with each chunk that `stream.pipe(response)` has written to the connection, so that the stream can
 * use the memory of the chunk again. Any other destination may keep its chunks, so they are never reported.
 */
export function reportWritten (stream: Readable, onWritten: (chunk: Buffer) => void): void {
  const pipe = stream.pipe.bind(stream)
  stream.pipe = (destination, options) => {
    if (!(destination instanceof OutgoingMessage)) return pipe(destination, options)
    let writing = false
    function writeNext (): void {
      const chunk = stream.read() as Buffer | null
      writing = chunk !== null
      if (chunk === null) return
      // The callback comes after the system has taken the bytes of the chunk, also with TLS.
      destination.write(chunk, (error: Error | null | undefined) => {
        // After an error the destination closes, which ends the stream.
        if (error !== undefined && error !== null) return
        onWritten(chunk)
        writeNext()
      })
    }
    stream.on('readable', () => { if (!writing) writeNext() })
    if (options?.end !== false) stream.once('end', () => { destination.end() })
    // The stream may already have bytes or be at its end, after which it emits `readable` no more.
    writeNext()
    return destination
  }
}
