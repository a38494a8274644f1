import { Type, type Static, type TSchema } from '@sinclair/typebox'

/*
 * What is read of the answers of Gitea >= 1.22 and Forgejo >= 11, and nothing else: every field that is not here may
 * come, go and change.
 */

const Nullable = <T extends TSchema>(schema: T) => Type.Optional(Type.Union([schema, Type.Null()]))

/**
 * An element of `GET /orgs/{org}/repos` and `GET /users/{user}/repos`, and the whole of `GET /repos/{owner}/{repo}`.
 */
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
  /** Of use where it is a text, and no reason to leave a repository out where it is not. */
  updated_at: Type.Optional(Type.Unknown()),
  /** Absent before Gitea 1.23; null in some of Forgejo's answers. */
  topics: Nullable(Type.Array(Type.String()))
})
export type GiteaRepository = Static<typeof GiteaRepository>

/** A release's file. */
export const GiteaAsset = Type.Object({
  id: Type.Integer(),
  /** Gitea keeps at most 255. */
  name: Type.String({ minLength: 1, maxLength: 512 }),
  size: Type.Integer({ minimum: 0 }),
  uuid: Type.String({ pattern: '^[0-9A-Fa-f-]{36}$' }),
  /** Forgejo >= 9: `external` assets are links that anybody may have written. */
  type: Type.Optional(Type.String()),
  digest: Nullable(Type.String()),
  sha256: Nullable(Type.String())
})
export type GiteaAsset = Static<typeof GiteaAsset>

/** An element of `GET /repos/{owner}/{repo}/releases`; `assets` are checked one by one. */
export const GiteaRelease = Type.Object({
  tag_name: Type.String({ minLength: 1 }),
  draft: Type.Boolean(),
  /** Of use where it is `true`, and not a reason to quarantine the release where it is not a boolean. */
  prerelease: Type.Optional(Type.Unknown()),
  created_at: Nullable(Type.String()),
  published_at: Nullable(Type.String()),
  assets: Type.Array(Type.Unknown())
})
export type GiteaRelease = Static<typeof GiteaRelease>
