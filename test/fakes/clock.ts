/** Creates a clock that moves only on command. */
export function createClock (start = 1_000_000) {
  let now = start
  return {
    now: () => now,
    /** Moves the clock forward by a number of seconds. */
    forward (seconds: number) { now += seconds * 1000 }
  }
}
