import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { destination } from 'pino'

/** Destination of log lines in this process. */
export interface LogStream {
  /** Accepts a line, which is written at the end of this turn of the event loop. */
  write (line: string): void
  /** Writes all accepted lines, and returns when they are written. The logger calls it before a fatal line ends. */
  flushSync (): void
  /** Resolves when all accepted lines are written, or after `patienceMs` milliseconds. */
  written (patienceMs: number): Promise<void>
}

/**
 * Creates a stream that writes log lines to a file descriptor in the background. The lines of one turn of the event
 * loop are written together, because each write costs more than its line. While `maxUnread` bytes wait to be written,
 * further lines are dropped.
 */
export function createLogStream ({ fd, maxUnread }: { fd: number, maxUnread: number }): LogStream {
  const output = destination({ dest: fd, sync: false, maxLength: maxUnread })
  let lines = ''
  const pass = (): void => {
    if (lines === '') return
    const passed = lines
    lines = ''
    output.write(passed)
  }
  // The stream below writes its lines when the process exits, so that these must reach it first.
  process.prependListener('exit', pass)
  return {
    write (line) {
      if (lines === '') setImmediate(pass)
      lines += line
    },
    flushSync () {
      pass()
      output.flushSync()
    },
    async written (patienceMs) {
      pass()
      const written = once(output, 'drain')
      output.write('')
      await Promise.race([written, sleep(patienceMs, undefined, { ref: false })])
    }
  }
}
