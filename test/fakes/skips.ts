import type { Driver, Skipped } from '../../backends/driver/driver.ts'

/**
 * Returns the driver, and its skipped items as `reason repository:tag`, followed by the name of the file where present.
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
