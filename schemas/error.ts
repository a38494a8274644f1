import { Type, type Static } from '@sinclair/typebox'

/** Body of every error response. */
export const ErrorResponse = Type.Object({
  error: Type.String({
    description:
      'Error type: `not_found`, `invalid_type`, `invalid_version`, `invalid_request`, `auth_error`, ' +
      '`method_not_allowed`, `conflict`, `precondition_failed`, `range_not_satisfiable`, `rate_limit`, ' +
      '`config_error`, `internal_error` or `service_unavailable`. Later versions may add more',
    examples: ['not_found']
  }),
  message: Type.String({
    description: 'Human-readable error message',
    examples: ['Extension provider/nonexistent not found']
  }),
  details: Type.Optional(Type.String({ description: 'Additional details' }))
}, {
  $id: 'registry.ErrorResponse',
  description: 'An error',
  examples: [{ error: 'not_found', message: 'Extension provider/nonexistent not found' }]
})
export type ErrorResponse = Static<typeof ErrorResponse>
