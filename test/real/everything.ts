import type { Test } from 'tap'
import type { Extension, ExtensionVersion } from '../../schemas/extension.ts'
import { startApp } from '../fakes/app.ts'

/**
 * Returns all responses of the HTTP API for one `[[oci]]` upstream by path: status, body and the headers of the
 * content.
 */
export async function everything (t: Test, config: object): Promise<Record<string, unknown>> {
  const { get } = await startApp(t, { server: { public_url: 'https://registry.example.com' }, oci: config })
  const said: Record<string, unknown> = {}
  const ask = async (path: string) => {
    const answer = await get(`/api/v1/extensions${path}`)
    const {
      etag,
      'content-type': type,
      'content-length': length,
      'content-disposition': disposition,
      'repr-digest': digest,
      'x-total-count': total,
      'x-partial': partial,
      location
    } = answer.headers
    said[path] = {
      status: answer.statusCode,
      headers: { etag, type, length, disposition, digest, total, partial, location },
      body: answer.body
    }
    return answer
  }
  const extensions = (await ask('')).json<Extension[]>()
  for (
    const path of [
      '?type=cluster',
      '?limit=3&offset=2',
      '/search?q=kubernetes',
      '/search?q=with',
      '/provider/nowhere',
      '/provider/nightlyonly',
      '/cluster/aws',
      '/provider/AWS',
      '/provider/aws/9.9.9',
      '/provider/aws/latest',
      '/cluster/web/0.9.0'
    ]
  ) await ask(path)
  for (const { type, name } of extensions) {
    await ask(`/${type}/${name}`)
    for (const { version } of (await ask(`/${type}/${name}/versions`)).json<ExtensionVersion[]>()) {
      await ask(`/${type}/${name}/${encodeURIComponent(version)}`)
    }
  }
  return said
}
