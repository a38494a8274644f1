import { Type, type Static } from '@sinclair/typebox'
import { extensionSources, extensionTypes } from './extension.ts'
import { maxNameLength, namePattern } from './name.ts'
import { StringEnum } from './string-enum.ts'

/*
 * The last complete catalog of one instance on disk, as lines of JSON. The first line is a head. Next are the listings,
 * each followed by its extensions, and the version lists. The last line has the SHA-256 of all bytes before it. Times
 * are milliseconds since the epoch. TypeBox checks these schemas, so they must not contain keywords of Ajv from the
 * schemas of the HTTP API.
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
    /** Location of a checksum that was not read yet, so that it can be read after the restart. */
    checksumLocator: text
  }))
})

export const SnapshotHead = Type.Object({
  format: Type.Literal(1),
  /** Hash of the configuration of the instance. A snapshot of another configuration is not restored. */
  identity: Type.String()
}, { description: 'First line of a snapshot' })
export type SnapshotHead = Static<typeof SnapshotHead>

const readTimes = Type.Optional(Type.Array(Type.Object({ name, at })))

export const SnapshotListing = Type.Object({
  kind: Type.Literal('listing'),
  type,
  at,
  missing: Type.Boolean(),
  unread: Type.Array(name),
  /** Names whose data is kept because their last read failed, and the time of that data. */
  kept: readTimes,
  /** Names that the crawl did not read, and the time of their data. */
  unconfirmed: readTimes,
  proof: Type.Optional(Type.Object({ at, names: Type.Array(name) }))
}, { description: 'The listing of one type, without its extensions' })
export type SnapshotListing = Static<typeof SnapshotListing>

export const SnapshotExtensions = Type.Object({
  kind: Type.Literal('extensions'),
  extensions: Type.Array(SavedExtension)
}, { description: 'Extensions of the preceding listing' })
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
