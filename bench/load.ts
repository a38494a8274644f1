// Reads files with raw connections, and checks only the number of bytes: `node load.ts PORT CLIENTS SECONDS FILE`. FILE
// has a JSON array of paths, which the clients request in turn. Each client keeps its connection. With 0 seconds each
// path is requested once; otherwise the clients continue until the time is over, the last files in part. Prints the
// bytes, the milliseconds, the complete responses with the milliseconds of each, and the first line of each wrong one.
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'

const [port, clients, seconds, file = ''] = process.argv.slice(2)
const paths = JSON.parse(readFileSync(file, 'utf8')) as string[]
const timed = Number(seconds) > 0
const end = performance.now() + Number(seconds) * 1000
let requested = 0
let bytes = 0
const wrong: string[] = []
const times: number[] = []

const nextPath = (): string | undefined => {
  if (timed ? performance.now() > end || wrong.length > 0 : requested === paths.length) return undefined
  return paths[requested++ % paths.length]
}

/** Requests files on one connection until there are no more, and resolves when it has closed. */
async function readFiles (): Promise<void> {
  // The bytes are discarded, so all responses of a connection share one buffer.
  const buffer = Buffer.allocUnsafe(256 * 1024)
  /** Bytes of the current response that are missing; undefined before its headers. */
  let left: number | undefined
  let began = 0
  let open = false
  let problem = 'closed before its end'
  await new Promise<void>(resolve => {
    function fail (text: string): void {
      problem = text
      open = true
      socket.destroy()
    }
    function request (): void {
      const path = nextPath()
      if (path === undefined) {
        socket.destroy()
        return
      }
      began = performance.now()
      left = undefined
      open = true
      socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\n\r\n`)
    }
    const socket = connect({
      port: Number(port),
      host: '127.0.0.1',
      noDelay: true,
      onread: {
        buffer,
        callback (count) {
          let from = 0
          if (left === undefined) {
            // The headers are small and arrive in one chunk.
            const text = buffer.toString('latin1', 0, count)
            const head = text.indexOf('\r\n\r\n')
            const length = /\r\ncontent-length: (\d+)/i.exec(text)?.[1]
            if (!text.startsWith('HTTP/1.1 200') || head < 0 || length === undefined) {
              fail(text.slice(0, text.indexOf('\r\n')))
              return false
            }
            left = Number(length)
            from = head + 4
          }
          bytes += count - from
          left -= count - from
          if (left < 0) {
            fail('longer than its length')
          } else if (left === 0) {
            open = false
            times.push(performance.now() - began)
            request()
          } else if (timed && performance.now() > end) {
            open = false
            socket.destroy()
          }
          return true
        }
      }
    })
    socket.once('connect', request)
    socket.on('error', () => {})
    socket.once('close', () => {
      if (open) wrong.push(problem)
      resolve()
    })
  })
}

const began = performance.now()
await Promise.all(Array.from({ length: Number(clients) }, readFiles))
console.log(JSON.stringify({ bytes, milliseconds: performance.now() - began, wrong, times }))
