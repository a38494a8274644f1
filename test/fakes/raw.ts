import { connect } from 'node:net'

/** A response with one character for each byte of its head, and its body decoded as UTF-8. */
export interface RawResponse { status: number, head: string, body: string }

/** Sends an unmodified request, and returns the response. Each character of the request is one byte. */
export async function sendRaw (
  port: number,
  target: string,
  { method = 'GET', headers = '' } = {}
): Promise<RawResponse> {
  const text = await new Promise<string>((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    let received = ''
    socket.setEncoding('latin1')
    socket.on('data', (chunk: string) => { received += chunk })
    socket.on('error', reject)
    socket.on('close', () => {
      resolve(received)
    })
    socket.write(
      Buffer.from(
        `${method} ${target} HTTP/1.1\r\nHost: registry.test\r\n${headers}Connection: close\r\n\r\n`,
        'latin1'
      )
    )
  })
  const end = text.indexOf('\r\n\r\n') + 2
  const rest = text.slice(end + 2)
  const head = text.slice(0, end)
  const chunked = /^transfer-encoding: chunked/im.test(head)
    ? rest.replace(/[0-9a-f]+\r\n([^]*?)\r\n(?=[0-9a-f]+\r\n)/g, '$1').replace(/0\r\n\r\n$/, '')
    : rest
  return {
    status: Number(/^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1]),
    head,
    body: Buffer.from(chunked, 'latin1').toString('utf8')
  }
}

/** Matches a head of printable ASCII, with one header on each line. */
export const plainHead = /^HTTP\/1\.1 \d{3} [ -~]+\r\n(?:[A-Za-z-]+: [ -~]*\r\n)+$/
