import type { Driver, Skipped } from '../../backends/driver/driver.ts'

/**
 * Returns the driver with what it skips noted as `reason repository:tag`, with the file's name behind it where there is
 * one.
 */
export function notingSkips (driver: Driver): { driver: Driver, skipped: string[] } {
  const skipped: string[] = []
  const skip = ({ reason, repository = '', tag, version, file }: Skipped): void => {
    const place = tag ?? version
    skipped.push(
      `${reason} ${repository}${place === undefined ? '' : `:${place}`}${file === undefined ? '' : ` ${file}`}`
    )
  }
  return {
    skipped,
    driver: {
      ...driver,
      list: async () => await driver.list({ skip }),
      load: async (type, name) => await driver.load(type, name, { skip })
    }
  }
}
