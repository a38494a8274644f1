// Sends a fixed number of GET requests on kept connections: `node fixed-load.ts PORT COUNT FILE`. FILE is JSON with the
// paths, which are requested in turn, and the headers of every request. Each connection sends its next request when its
// response is complete. Prints the number of responses for each status.
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { connections } from './generator.ts'

const [port, count, file = ''] = process.argv.slice(2)
const { paths, headers } = JSON.parse(readFileSync(file, 'utf8')) as {
  paths: string[]
  headers: Record<string, string>
}
const fields = Object.entries({ host: 'localhost', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`)
const requests = paths.map(path => Buffer.from(`GET ${path} HTTP/1.1\r\n${fields.join('')}\r\n`))
const statuses: Record<string, number> = {}
const endOfHead = Buffer.from('\r\n\r\n')
let sent = 0

/** Sends requests on one connection until all requests are sent. Rejects when the connection ends early. */
async function exchange (): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    /** Bytes of the response that have not arrived yet. */
    let left = 0
    const next = (): void => {
      const request = requests[sent % requests.length]
      if (sent === Number(count) || request === undefined) {
        socket.destroy()
        resolve()
        return
      }
      sent++
      socket.write(request)
    }
    const socket = connect({
      port: Number(port),
      host: '127.0.0.1',
      noDelay: true,
      onread: {
        // The content of a response is not used, except its head.
        buffer: Buffer.allocUnsafe(64 * 1024),
        callback (size, buffer) {
          if (left === 0) {
            const end = Buffer.from(buffer.buffer, buffer.byteOffset, size).indexOf(endOfHead)
            const head = Buffer.from(buffer.buffer, buffer.byteOffset, Math.max(end, 0)).toString('latin1')
            const status = head.slice(9, 12)
            if (end === -1 || !head.startsWith('HTTP/1.1 ')) reject(new Error('A head arrived in parts'))
            statuses[status] = (statuses[status] ?? 0) + 1
            left = end + endOfHead.length + Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? 0)
          }
          left -= size
          if (left === 0) next()
          return true
        }
      }
    })
    socket.once('connect', next)
    socket.once('error', reject)
    socket.once('close', () => { reject(new Error('A connection was closed')) })
  })
}

await Promise.all(Array.from({ length: connections }, exchange))
console.log(JSON.stringify(statuses))
