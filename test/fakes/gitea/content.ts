/** Content of a Gitea in its own terms; `createGiteaFake` serves it and `fillGitea` uploads it. */
export interface GiteaContent {
  owner: OwnerContent
  repositories: RepositoryContent[]
}

export interface OwnerContent {
  login: string
  full_name?: string
  description?: string
  /** The default is `organization`. */
  kind?: 'organization' | 'user'
}

/** A repository; missing fields are false, empty or absent, except `has_releases`, which is true. */
export interface RepositoryContent {
  name: string
  description?: string
  topics?: string[]
  private?: boolean
  archived?: boolean
  mirror?: boolean
  fork?: boolean
  /** Without any commit. */
  empty?: boolean
  has_releases?: boolean
  /** Time of the last push, RFC 3339; the default is the time of all undated content. */
  updated_at?: string
  /** A former name, which redirects. */
  renamed_from?: string
  /** In the order of publication. */
  releases?: ReleaseContent[]
}

export interface ReleaseContent {
  tag: string
  draft?: boolean
  prerelease?: boolean
  /** The release notes, which Gitea calls its body. */
  notes?: string
  /** RFC 3339; releases without it have the same time, as if one script had published them. */
  published_at?: string
  assets?: AssetContent[]
}

export interface AssetContent {
  name: string
  content: Buffer | string
  /** Derived from the number of the asset by default. */
  uuid?: string
  /** Forgejo only; `external` needs `url`, and is redirected to it. */
  type?: 'attachment' | 'external'
  url?: string
}
