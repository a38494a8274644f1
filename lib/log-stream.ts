import { setTimeout as sleep } from 'node:timers/promises'
import { destination } from 'pino'

/** Destination of log lines in this process. */
export interface LogStream {
  /** Accepts a line, which is written at the end of this turn of the event loop. */
  write (line: string): void
  /** Writes all accepted lines, except those of a write in progress, and returns when they are written. */
  flushSync (): void
  /** Resolves when all accepted lines are written, or after `patienceMs` milliseconds. */
  written (patienceMs: number): Promise<void>
}

/**
 * Creates a stream that writes log lines to a file descriptor in the background. The lines of one turn of the event
 * loop are written together, because each write costs more than its line. While `maxUnread` bytes wait to be written,
 * further lines are dropped. When the process exits, all lines are written.
 */
export function createLogStream ({ fd, maxUnread }: { fd: number, maxUnread: number }): LogStream {
  // Only `flush` begins a write, because no more than `maxLength` bytes can wait for it.
  const maxWrite = 2 * maxUnread
  const output = destination({ dest: fd, sync: false, maxLength: maxUnread, maxWrite, minLength: maxWrite - 1 })
  /** Whether lines were accepted that no write has taken. */
  let hasLines = false
  let writing: Promise<void> | undefined

  function flush (): void {
    if (writing !== undefined || !hasLines) return
    hasLines = false
    writing = new Promise(resolve => { output.flush(() => { resolve() }) })
    // Lines that were accepted during the write need another one.
    void writing.then(() => {
      writing = undefined
      flush()
    })
  }

  async function writeAll (): Promise<void> {
    flush()
    if (writing === undefined) return
    await writing
    await writeAll()
  }

  return {
    write (line) {
      if (!hasLines) setImmediate(flush)
      hasLines = true
      output.write(line)
    },
    flushSync () { output.flushSync() },
    written: async patienceMs => { await Promise.race([writeAll(), sleep(patienceMs, undefined, { ref: false })]) }
  }
}
