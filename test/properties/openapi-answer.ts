import { deepEqual, equal, ok } from 'node:assert/strict'
import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import AjvCompiler from '@fastify/ajv-compiler'
import type { LightMyRequestResponse } from 'fastify'
import { errorTable } from '../../lib/errors.ts'
import type { Operation, Route } from './openapi-input.ts'

interface Described {
  $ref?: string
  headers?: Record<string, { $ref?: string, description?: string }>
  content?: Record<string, { schema: object }>
  description?: string
}
export interface Document {
  paths: Record<string, Record<string, Operation>>
  components: { headers: Record<string, { description: string }>, responses: Record<string, Described> }
}

/** Headers of HTTP itself, and of CORS. */
const ofTransport =
  /^(?:content-type|content-length|date|connection|transfer-encoding|vary|x-test-route|access-control-.*)$/
const methods = new Set(['get', 'head', 'post', 'put', 'patch', 'delete', 'options'])

export const routesOf = ({ paths }: Document): Route[] =>
  Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).filter(([method]) => methods.has(method)).map(([method, operation]) => ({
      path,
      method: method.toUpperCase(),
      operation
    }))
  )

const escaped = (part: string): string => encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1'))

const decoders: Record<string, (bytes: Buffer) => Buffer> = { br: brotliDecompressSync, gzip: gunzipSync }

/** Returns the body of a response without its content coding. */
function decode ({ headers, rawPayload }: LightMyRequestResponse): Buffer {
  const coding = headers['content-encoding']
  if (coding === undefined) return rawPayload
  const decoder = decoders[String(coding)]
  ok(decoder, `the coding is known: ${String(coding)}`)
  return decoder(rawPayload)
}

/** Creates a judge of responses that uses only an OpenAPI document; keys outside the schema of an object are errors. */
export function createJudge (document: Document) {
  const strict = JSON.parse(
    JSON.stringify(document),
    (_key, value: unknown) =>
      typeof value === 'object' && value !== null && 'properties' in value && !('additionalProperties' in value)
        ? { ...value, additionalProperties: false }
        : value
  ) as object
  const compile = AjvCompiler()(
    { openapi: { $id: 'openapi', ...strict } } as never,
    {
      customOptions: {
        coerceTypes: false,
        removeAdditional: false,
        useDefaults: false,
        strict: false,
        allErrors: false
      }
    } as never
  ) as unknown as (route: { schema: object }) => { (body: unknown): boolean, errors?: unknown }
  const validators = new Map<string, ReturnType<typeof compile>>()

  function validate (pointer: string, body: unknown): void {
    const validator = validators.get(pointer) ?? compile({ schema: { $ref: `openapi#/${pointer}` } })
    validators.set(pointer, validator)
    ok(
      validator(body),
      `the body matches ${decodeURIComponent(pointer)}: ${JSON.stringify(validator.errors)} ${
        JSON.stringify(body).slice(0, 500)
      }`
    )
  }

  function headersOf ({ headers = {} }: Described): Array<{ name: string, description: string }> {
    return Object.entries(headers).map(([name, header]) => {
      const { description = '' } = header.$ref === undefined
        ? header
        : document.components.headers[header.$ref.split('/').at(-1) ?? ''] ?? {}
      return { name: name.toLowerCase(), description }
    })
  }

  function error (status: number, body: unknown): void {
    const { error, message } = body as { error: keyof typeof errorTable, message: string }
    ok(Object.hasOwn(errorTable, error), `${error} is an error of the table`)
    equal(status, errorTable[error].status, `${error} has its status`)
    ok(message.length > 0, 'with a message')
  }

  return {
    /** Throws unless the response is documented for the operation. */
    check ({ path, method, operation }: Route, response: LightMyRequestResponse): void {
      const { statusCode: status, headers } = response
      const given = operation.responses[status] as Described | undefined
      ok(given !== undefined, `status ${status} is documented`)
      const shared = given.$ref?.split('/').at(-1)
      const described = shared === undefined ? given : document.components.responses[shared] ?? {}
      const pointer = shared === undefined
        ? `paths/${escaped(path)}/${method.toLowerCase()}/responses/${status}`
        : `components/responses/${shared}`

      const documented = headersOf(described)
      deepEqual(
        Object.keys(headers).filter(name =>
          !ofTransport.test(name) && !documented.some(header => header.name === name)
        ),
        [],
        'every header is documented'
      )
      // The description of a header states if it may be absent.
      for (const { name, description } of documented) {
        if (!description.includes('absent')) ok(headers[name] !== undefined, `${name} is present`)
      }

      const [type, content] = Object.entries(described.content ?? {})[0] ?? []
      if (content === undefined || (method === 'HEAD' && response.rawPayload.length === 0)) {
        return equal(response.rawPayload.length, 0, 'the body is empty')
      }
      equal(String(headers['content-type']).split(';')[0], type, 'the body has its documented type')
      if (type !== 'application/json') return
      const body: unknown = JSON.parse(decode(response).toString())
      validate(`${pointer}/content/${escaped(type)}/schema`, body)
      if (status >= 400) error(status, body)
    },

    /** Throws unless the response is valid for a path without an operation. */
    checkUnknown (reply: LightMyRequestResponse): void {
      ok(reply.statusCode === 404 || reply.statusCode === 400, `status ${reply.statusCode} of an unknown path`)
      // A response to HEAD has no body.
      if (reply.rawPayload.length === 0) return
      validate('components/schemas/ErrorResponse', reply.json())
      error(reply.statusCode, reply.json())
    }
  }
}
