import {
  Type as TypeBox,
  type ArrayOptions,
  type IntegerOptions,
  type NumberOptions,
  type ObjectOptions,
  type SchemaOptions,
  type Static,
  type StringOptions,
  type TArray,
  type TBoolean,
  type TInteger,
  type TNumber,
  type TObject,
  type TOptional,
  type TProperties,
  type TSchema,
  type TString
} from '@sinclair/typebox'

/** Type of the default of a schema with these options; `unknown` for options without a default. */
export type DefaultOf<O> = O extends { default: infer D } ? { default: D } : unknown

/** Constructors of TypeBox. In contrast to TypeBox's own types, theirs record whether a schema has a default. */
interface Constructors extends Omit<typeof TypeBox, 'Array' | 'Boolean' | 'Integer' | 'Number' | 'Object' | 'String'> {
  Array<S extends TSchema, O extends ArrayOptions> (items: S, options?: O): TArray<S> & DefaultOf<O>
  Boolean<O extends SchemaOptions> (options?: O): TBoolean & DefaultOf<O>
  Integer<O extends IntegerOptions> (options?: O): TInteger & DefaultOf<O>
  Number<O extends NumberOptions> (options?: O): TNumber & DefaultOf<O>
  Object<P extends TProperties, O extends ObjectOptions> (properties: P, options?: O): TObject<P> & DefaultOf<O>
  String<O extends StringOptions> (options?: O): TString & DefaultOf<O>
}

/** TypeBox for schemas with an {@link InputOf}. */
export const Type = TypeBox as Constructors

type OptionalKey<P> = { [K in keyof P]: P[K] extends { default: unknown } | TOptional<TSchema> ? K : never }[keyof P]

/**
 * The type of a value before its defaults are filled in: a key with a default is optional. A key that is `undefined`
 * counts as absent.
 */
export type InputOf<S extends TSchema> =
  S extends TObject<infer P> ? TableOf<{ [K in keyof P]: P[K] extends TSchema ? InputOf<P[K]> : never }, OptionalKey<P>>
    : S extends TArray<infer I> ? ReadonlyArray<InputOf<I>>
      : Static<S>

/** A table of values, of which some keys are optional. */
export type TableOf<T, Optional extends keyof T> =
  & { [K in Exclude<keyof T, Optional>]: T[K] }
  & { [K in Optional]?: T[K] | undefined }

// Keywords in addition to those of JSON Schema: `expected` describes the pattern in words. `secret` marks a value that
// is never shown, `path` one that may be relative to the configuration file. `examples` has the value for a key without
// default in config.example.toml.

/** Returns the schema of a whole number with its limits. */
export const Integer = (description: string, value: number, minimum: number, maximum: number) =>
  Type.Integer({ description, default: value, minimum, maximum })

/** Returns the schema of a number of seconds, which may have a fraction. */
export const Seconds = (description: string, value: number, minimum: number, maximum: number) =>
  Type.Number({ description, default: value, minimum, maximum })

/** Returns the schema of an http or https address. */
export const Address = (description: string, example: string) =>
  Type.String({
    description,
    pattern: '^https?://[^\\s/\\\\@?#]+(/[^\\s\\\\?#]*)?$',
    expected: 'an http:// or https:// address without user, query and fragment',
    examples: [example]
  })

/** Returns the schema of a path of a file or a directory. */
export const File = (description: string, example: string) =>
  Type.String({ description, minLength: 1, path: true, expected: 'a path', examples: [example] })
