/** What is there already, or will be. Whatever fails, fails later: nobody has to look for an error in two places. */
export type MaybePromise<T> = T | Promise<T>

/** Uses what is there already at once, not even in a later turn; anything else when it has come. */
export const whenThere = <T, U>(value: MaybePromise<T>, use: (value: T) => MaybePromise<U>): MaybePromise<U> =>
  value instanceof Promise ? value.then(use) : use(value)

/** What a question gives, with what it throws turned into a rejection. */
export function answering<T> (question: () => MaybePromise<T>): MaybePromise<T> {
  try {
    return question()
  } catch (error) {
    return failing(error)
  }
}

async function failing (error: unknown): Promise<never> {
  throw error
}
