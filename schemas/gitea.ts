import { Type, type Static, type TSchema } from '@sinclair/typebox'

// The fields that are read from responses of Gitea >= 1.22 and Forgejo >= 11. Other fields are ignored.

const Nullable = <T extends TSchema>(schema: T) => Type.Optional(Type.Union([schema, Type.Null()]))

/** An element of `GET /orgs/{org}/repos` and `GET /users/{user}/repos`, and the body of `GET /repos/{owner}/{repo}`. */
export const GiteaRepository = Type.Object({
  id: Type.Optional(Type.Integer()),
  name: Type.String({ minLength: 1, maxLength: 256 }),
  owner: Type.Object({
    login: Type.String({ pattern: '^(?!\\.{1,2}$)[A-Za-z0-9._-]+$' }),
    full_name: Type.Optional(Type.String())
  }),
  description: Type.Optional(Type.String()),
  private: Type.Boolean(),
  internal: Type.Optional(Type.Boolean()),
  mirror: Type.Optional(Type.Boolean()),
  has_releases: Type.Optional(Type.Boolean()),
  release_counter: Type.Optional(Type.Integer()),
  /** Used if it is a string. Another type is ignored, so that the repository is not skipped for it. */
  updated_at: Type.Optional(Type.Unknown()),
  /** Absent before Gitea 1.23; null in some responses of Forgejo. */
  topics: Nullable(Type.Array(Type.String()))
})
export type GiteaRepository = Static<typeof GiteaRepository>

/** A file of a release. */
export const GiteaAsset = Type.Object({
  id: Type.Integer(),
  /** Gitea stores at most 255 characters. */
  name: Type.String({ minLength: 1, maxLength: 512 }),
  size: Type.Integer({ minimum: 0 }),
  uuid: Type.String({ pattern: '^[0-9A-Fa-f-]{36}$' }),
  /** Forgejo >= 9: `external` assets are links to arbitrary addresses. */
  type: Type.Optional(Type.String()),
  digest: Nullable(Type.String()),
  sha256: Nullable(Type.String())
})
export type GiteaAsset = Static<typeof GiteaAsset>

/** An element of `GET /repos/{owner}/{repo}/releases`; each of its `assets` is checked separately. */
export const GiteaRelease = Type.Object({
  tag_name: Type.String({ minLength: 1 }),
  draft: Type.Boolean(),
  /** Used if it is `true`. Another type is ignored, so that the release is not skipped for it. */
  prerelease: Type.Optional(Type.Unknown()),
  created_at: Nullable(Type.String()),
  published_at: Nullable(Type.String()),
  assets: Type.Array(Type.Unknown())
})
export type GiteaRelease = Static<typeof GiteaRelease>
