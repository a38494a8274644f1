/** What a Gitea holds, in its own terms; what `createGiteaFake` serves and `fillGitea` uploads. */
export interface GiteaContent {
  owner: OwnerContent
  repositories: RepositoryContent[]
}

export interface OwnerContent {
  login: string
  full_name?: string
  description?: string
  /** `organization` unless told. */
  kind?: 'organization' | 'user'
}

/** A repository; whatever is left out is false, empty or absent, except `has_releases`, which is true. */
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
  /** When somebody last pushed to it, RFC 3339; the time of everything that no content dates unless told. */
  updated_at?: string
  /** A name it had before, which redirects. */
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
  /** RFC 3339; one and the same time for all that leave it out, as if one script had published them. */
  published_at?: string
  assets?: AssetContent[]
}

export interface AssetContent {
  name: string
  content: Buffer | string
  /** Derived from the asset's number unless told. */
  uuid?: string
  /** Forgejo only; `external` needs `url`, and is served as a redirect to there. */
  type?: 'attachment' | 'external'
  url?: string
}
