import { Type, type Static } from '@sinclair/typebox'
import { extensionSources, extensionTypes } from './extension.ts'
import { maxNameLength, namePattern } from './name.ts'
import { StringEnum } from './string-enum.ts'

/*
 * The last good catalog of one instance as it is kept on disk: lines of JSON. The first is a head, then come listings,
 * each followed by its extensions, and version lists; the last one has the SHA-256 of all bytes before it. Times are
 * milliseconds of the epoch. TypeBox checks these schemas, so they reuse no schema of the HTTP API that has keywords
 * for Ajv.
 */

const type = StringEnum(extensionTypes)
const name = Type.String({ pattern: namePattern, maxLength: maxNameLength })
const at = Type.Number()
const version = Type.String({ minLength: 1, maxLength: 128 })
const published_at = Type.String({ pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ$' })
const size = Type.Optional(Type.Integer({ minimum: 0 }))
const text = Type.Optional(Type.String())

const SavedExtension = Type.Object({
  name,
  type,
  version,
  description: Type.String(),
  author: text,
  repository: text,
  source: StringEnum(extensionSources),
  published_at,
  download_url: text,
  checksum: text,
  size,
  tags: Type.Optional(Type.Array(Type.String()))
})

const SavedRelease = Type.Object({
  version,
  published_at,
  prerelease: Type.Optional(Type.Literal(true)),
  file: Type.Optional(Type.Object({
    name: Type.String({ minLength: 1 }),
    size,
    checksum: text,
    url: text,
    validator: Type.String({ pattern: '^[\\x21\\x23-\\x7e]+$' }),
    locator: Type.String({ minLength: 1 }),
    /** A checksum that was not looked up yet stays so. */
    checksumLocator: text
  }))
})

export const SnapshotHead = Type.Object({
  format: Type.Literal(1),
  /** What the instance was configured to read: of another configuration nothing is taken over. */
  identity: Type.String()
}, { description: 'First line of a snapshot' })
export type SnapshotHead = Static<typeof SnapshotHead>

export const SnapshotListing = Type.Object({
  kind: Type.Literal('listing'),
  type,
  at,
  missing: Type.Boolean(),
  unread: Type.Array(name),
  /** Names whose answer is older than the walk, and when it was given. */
  kept: Type.Optional(Type.Array(Type.Object({ name, at }))),
  proof: Type.Optional(Type.Object({ at, names: Type.Array(name) }))
}, { description: "One type's listing, without its extensions" })
export type SnapshotListing = Static<typeof SnapshotListing>

export const SnapshotExtensions = Type.Object({
  kind: Type.Literal('extensions'),
  extensions: Type.Array(SavedExtension)
}, { description: 'Extensions of the listing before' })
export type SnapshotExtensions = Static<typeof SnapshotExtensions>

export const SnapshotVersions = Type.Object({
  kind: Type.Literal('versions'),
  at,
  extension: SavedExtension,
  releases: Type.Array(SavedRelease, { minItems: 1 })
}, { description: 'All versions of one extension' })
export type SnapshotVersions = Static<typeof SnapshotVersions>

export const SnapshotRecord = Type.Union([SnapshotListing, SnapshotExtensions, SnapshotVersions])
export type SnapshotRecord = Static<typeof SnapshotRecord>

export const SnapshotEnd = Type.Object({ sha256: Type.String() }, { description: 'Last line of a snapshot' })
export type SnapshotEnd = Static<typeof SnapshotEnd>
