// Reads one file repeatedly with raw connections, and checks only the number of bytes: `node load.ts PORT PATH CLIENTS
// SECONDS`. Each client reads files until the time is over, the last one in part; with 0 seconds it reads one whole
// file. Prints bytes, milliseconds and the number of incomplete responses.
import { connect } from 'node:net'

const [port, path, clients, seconds] = process.argv.slice(2)
const end = performance.now() + Number(seconds) * 1000
// All connections share one buffer, since the bytes are discarded.
const buffer = Buffer.allocUnsafe(256 * 1024)
let bytes = 0
let wrong = 0

/** Reads one file; its bytes until the end of the measurement count. */
async function get (): Promise<void> {
  let left: number | undefined
  await new Promise<void>(resolve => {
    const socket = connect({
      port: Number(port),
      host: '127.0.0.1',
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
              wrong++
              socket.destroy()
              return false
            }
            left = Number(length)
            from = head + 4
          }
          bytes += count - from
          left -= count - from
          if (left > 0 && performance.now() > end && Number(seconds) > 0) socket.destroy()
          return true
        }
      }
    })
    socket.once('connect', () => {
      socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`)
    })
    socket.on('error', () => {
      wrong++
    })
    socket.once('close', () => {
      if (left !== 0 && performance.now() < end) wrong++
      resolve()
    })
  })
}

const began = performance.now()
await Promise.all(Array.from({ length: Number(clients) }, async () => {
  do await get()
  while (performance.now() < end && wrong === 0)
}))
console.log(JSON.stringify({ bytes, milliseconds: performance.now() - began, wrong }))
