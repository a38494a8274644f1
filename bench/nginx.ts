import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { header, type Recorded } from './recording.ts'

/** Headers that nginx itself adds to a file. */
const own = new Set(['content-type', 'content-length', 'etag', 'last-modified'])

const quoted = (value: string): string => `"${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`

/** Returns the path of the recorded response with this number. */
export const nginxPath = (number: number): string => `/${number}`

/**
 * Writes the recorded bodies as files and a configuration of a single process that serves them with their recorded
 * headers and an ETag of nginx. Returns the path of the configuration.
 */
export async function writeNginx (folder: string, port: number, recorded: readonly Recorded[]): Promise<string> {
  const files = join(folder, 'nginx')
  await mkdir(files)
  const locations = await Promise.all(recorded.map(async (response, number) => {
    await writeFile(join(files, String(number)), Buffer.from(response.body, 'base64'))
    const added = response.headers.flatMap((name, at, all) =>
      at % 2 === 1 || own.has(name.toLowerCase()) ? [] : [`add_header ${name} ${quoted(all[at + 1] ?? '')};`]
    )
    return `location = ${nginxPath(number)} { default_type ${
      quoted(header(response, 'content-type') ?? 'text/plain')
    }; ${added.join(' ')} }`
  }))
  const path = join(folder, 'nginx.conf')
  await writeFile(path, `daemon off; master_process off; pid ${folder}/nginx.pid; error_log stderr crit;
events { worker_connections 256; }
http {
  access_log off; server_tokens off; sendfile on; open_file_cache max=10000;
  keepalive_requests 1000000000; keepalive_timeout 72s;
  client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy; fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi; scgi_temp_path ${folder}/scgi;
  server {
    listen 127.0.0.1:${port}; root ${files};
    ${locations.join('\n    ')}
  }
}
`)
  return path
}
