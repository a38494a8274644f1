import type { Test } from 'tap'
import type { Extension, ExtensionVersion } from '../../schemas/extension.ts'
import { startApp } from '../fakes/app.ts'

/**
 * Returns all responses of the HTTP API for one `[[oci]]` upstream by path: status, body and the headers of the
 * content.
 */
export async function everything (t: Test, config: object): Promise<Record<string, unknown>> {
  const { get } = await startApp(t, { server: { public_url: 'https://registry.example.com' }, oci: config })
  const described: Record<string, unknown> = {}
  const send = async (path: string) => {
    const response = await get(`/api/v1/extensions${path}`)
    const {
      etag,
      'content-type': type,
      'content-length': length,
      'content-disposition': disposition,
      'repr-digest': digest,
      'x-total-count': total,
      'x-partial': partial,
      location
    } = response.headers
    described[path] = {
      status: response.statusCode,
      headers: { etag, type, length, disposition, digest, total, partial, location },
      body: response.body
    }
    return response
  }
  const extensions = (await send('')).json<Extension[]>()
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
  ) await send(path)
  for (const { type, name } of extensions) {
    await send(`/${type}/${name}`)
    for (const { version } of (await send(`/${type}/${name}/versions`)).json<ExtensionVersion[]>()) {
      await send(`/${type}/${name}/${encodeURIComponent(version)}`)
    }
  }
  return described
}
