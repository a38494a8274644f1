/** A clock that stands until it is moved. */
export function createClock (start = 1_000_000) {
  let now = start
  return {
    now: () => now,
    /** Moves on by seconds. */
    forward (seconds: number) { now += seconds * 1000 }
  }
}
