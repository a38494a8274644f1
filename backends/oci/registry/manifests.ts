import { createHash } from 'node:crypto'
import { isRegistryError } from '../../../lib/errors.ts'
import type { UpstreamResponse } from '../../../plugins/upstream/client.ts'
import { isDigest, verifyBytes } from '../content.ts'
import { indexTypes, manifestTypes } from '../media-types.ts'
import { ContentError, maxManifestBytes, type Manifest, type Target } from '../transport.ts'
import type { Requests } from './requests.ts'

/** `Accept` of a manifest: without the exact types some servers respond with 404. */
const accepted = [...manifestTypes, ...indexTypes].join(', ')

/** Creates the reader of manifests and of the tags that point to them. */
export function createManifests (requests: Requests) {
  const mediaTypeOf = ({ headers }: UpstreamResponse) =>
    headers['content-type'] === undefined ? {} : { mediaType: headers['content-type'] }

  /** Reads a manifest by tag or digest, without verifying it; undefined when it does not exist. */
  async function fetchManifest (
    repository: string,
    reference: string
  ): Promise<UpstreamResponse & { body: Buffer } | undefined> {
    try {
      const response = await requests.send(
        repository,
        requests.address(repository, 'manifests', reference),
        maxManifestBytes,
        { accept: accepted }
      )
      if (await requests.isProvenAbsent(response)) return undefined
      requests.mustSucceed(response)
      return response
    } catch (error) {
      if (!isRegistryError(error) || error.proxyError !== 'http_response_body_size') throw error
      throw new ContentError('The manifest is longer than allowed', { cause: error })
    }
  }

  /** Resolves a tag by its manifest; the digest is computed where the server does not send it. */
  async function resolveByContent (repository: string, tag: string) {
    const response = await fetchManifest(repository, tag)
    if (response === undefined) return undefined
    const stated = String(response.headers['docker-content-digest'] ?? '')
    const digest = isDigest(stated) ? stated : `sha256:${createHash('sha256').update(response.body).digest('hex')}`
    verifyBytes(response.body, digest)
    const manifest: Manifest = { digest, bytes: response.body, ...mediaTypeOf(response) }
    return { digest, manifest, ...mediaTypeOf(response) }
  }

  return {
    /** Returns the verified manifest of a digest; undefined when it does not exist. */
    async byDigest (repository: string, digest: string): Promise<Manifest | undefined> {
      const response = await fetchManifest(repository, digest)
      if (response === undefined) return undefined
      verifyBytes(response.body, digest)
      return { digest, bytes: response.body, ...mediaTypeOf(response) }
    },

    /** Returns the target of a tag, with its manifest where requested or needed; undefined when it does not exist. */
    async resolve (repository: string, tag: string, withManifest: boolean): Promise<Target | undefined> {
      if (withManifest) return await resolveByContent(repository, tag)
      const response = await requests.send(
        repository,
        requests.address(repository, 'manifests', tag),
        maxManifestBytes,
        { method: 'HEAD', accept: accepted }
      )
      if (await requests.isProvenAbsent(response)) return undefined
      if (response.status !== 405 && response.status !== 501) requests.mustSucceed(response)
      const digest = String(response.headers['docker-content-digest'] ?? '')
      return isDigest(digest) ? { digest, ...mediaTypeOf(response) } : await resolveByContent(repository, tag)
    }
  }
}
