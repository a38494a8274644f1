import { Type, type Static, type TSchema } from '@sinclair/typebox'
import { extensionSources, extensionTypes } from './extension.ts'
import { maxNameLength, namePattern } from './name.ts'
import { withError, type ParameterError } from './parameter-error.ts'
import { StringEnum } from './string-enum.ts'

/** Returns the schema of a parameter with a default: optional for clients, always present for handlers. */
const Defaulted = <T extends TSchema>(schema: T) => Type.Unsafe<Static<T>>(Type.Optional(schema))

const invalidType: ParameterError = {
  code: 'invalid_type',
  message: 'Invalid extension type: expected provider, taskserv or cluster'
}
const type = withError(
  StringEnum(extensionTypes, { description: 'Extension type', examples: ['taskserv'] }),
  invalidType
)

// Filters have no examples. Swagger UI would fill them in, and the request would not return all entries.
const typeFilter = withError(
  StringEnum(extensionTypes, { description: 'Filter by extension type: provider, taskserv, cluster' }),
  invalidType
)
const source = StringEnum(extensionSources, {
  description: 'Filter by source: gitea, oci. The owner of a name is chosen among the instances of this source'
})

const name = Type.String({
  description: 'Extension name, case-sensitive',
  pattern: namePattern,
  maxLength: maxNameLength,
  examples: ['kubernetes']
})

/** A version of semver 2.0.0 with an optional leading `v`, or `latest`. The pattern is that of semver.org. */
const version = withError(
  Type.String({
    description: 'Extension version (semver 2.0.0; a leading `v` is accepted), or `latest`',
    pattern:
      '^(?:latest|v?(?:0|[1-9]\\d*)\\.(?:0|[1-9]\\d*)\\.(?:0|[1-9]\\d*)' +
      '(?:-(?:0|[1-9]\\d*|\\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\\.(?:0|[1-9]\\d*|\\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?' +
      '(?:\\+[0-9a-zA-Z-]+(?:\\.[0-9a-zA-Z-]+)*)?)$',
    maxLength: 128,
    examples: ['1.28.0']
  }),
  {
    code: 'invalid_version',
    message: 'Invalid version: expected a semantic version such as 1.2.0, or latest'
  }
)

export const ExtensionPath = Type.Object({ type, name })
export const VersionPath = Type.Object({ type, name, version })

export const SourceQuery = Type.Object({ source: Type.Optional(source) })

export const ListQuery = Type.Object({
  type: Type.Optional(typeFilter),
  source: Type.Optional(source),
  limit: Defaulted(Type.Integer({ description: 'Maximum results', minimum: 1, maximum: 1000, default: 100 })),
  offset: Defaulted(
    Type.Integer({ description: 'Pagination offset', minimum: 0, maximum: Number.MAX_SAFE_INTEGER, default: 0 })
  )
})

const searchTerm = withError(
  Type.String({
    description:
      'Search query (case-insensitive) for names, tags and descriptions: 1 to 256 characters without surrounding ' +
        'whitespace',
    pattern: '^\\s*\\S(?:[\\s\\S]{0,254}\\S)?\\s*$',
    examples: ['kubernetes']
  }),
  {
    code: 'invalid_request',
    message: 'Invalid query parameter q: expected 1 to 256 characters',
    keyword: 'pattern'
  }
)

export const SearchQuery = Type.Object({
  q: searchTerm,
  type: Type.Optional(typeFilter),
  source: Type.Optional(source),
  limit: Defaulted(Type.Integer({ description: 'Maximum results', minimum: 1, maximum: 100, default: 50 }))
})
