import type { TSchema } from '@sinclair/typebox'

/** The error of a request whose parameter does not match its schema. */
export interface ParameterError {
  code: 'invalid_type' | 'invalid_version' | 'invalid_request'
  message: string
  /** Keyword of the schema that the message is for, such as `pattern`; every keyword if unset. */
  keyword?: string
}

/** Key of the error on a schema. A symbol is not part of JSON, so the OpenAPI document does not have it. */
const parameterError = Symbol('parameterError')

/** Returns the schema with the error of a request that does not match it. */
export const withError = <T extends TSchema>(schema: T, error: ParameterError): T =>
  ({ ...schema, [parameterError]: error })

/** Returns the error of a schema; undefined for a schema without one. */
export const parameterErrorOf = (schema: object | undefined): ParameterError | undefined =>
  (schema as { [parameterError]?: ParameterError } | undefined)?.[parameterError]
