const days = ['Mon', 'Tues', 'Wednes', 'Thurs', 'Fri', 'Satur', 'Sun']
const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

const shortDay = `(?:${days.map(day => day.slice(0, 3)).join('|')})`
const longDay = `(?:${days.join('|')})day`
const month = `(?<month>${months.join('|')})`
const time = '(?<hour>\\d\\d):(?<minute>\\d\\d):(?<second>\\d\\d)'

/** IMF-fixdate, RFC 850 and asctime, all of which a recipient must accept (RFC 9110, section 5.6.7). */
const forms = [
  `${shortDay}, (?<day>\\d\\d) ${month} (?<year>\\d{4}) ${time} GMT`,
  `${longDay}, (?<day>\\d\\d)-${month}-(?<year>\\d\\d) ${time} GMT`,
  `${shortDay} ${month} (?<day>\\d\\d| \\d) ${time} (?<year>\\d{4})`
].map(form => new RegExp(`^${form}$`))

/**
 * Returns the time of an HTTP-date in milliseconds since the epoch; undefined for other text (RFC 9110, section 5.6.7).
 * A wrong day of the week is accepted. `now`, in milliseconds, determines the century of a two-digit year.
 */
export function parseHttpDate (text: string, now: number = Date.now()): number | undefined {
  const groups = forms.map(form => form.exec(text)?.groups).find(groups => groups !== undefined)
  if (groups === undefined) return undefined
  const number = (name: string) => Number(groups[name])
  const [day, hour, minute, second] = [number('day'), number('hour'), number('minute'), number('second')]
  // Second 60 is a leap second.
  if (hour > 23 || minute > 59 || second > 60) return undefined
  const at = (year: number): Date => {
    const date = new Date(0)
    // `Date.UTC` maps years below 100 to the 20th century.
    date.setUTCFullYear(year, months.indexOf(groups.month ?? ''), day)
    return date
  }
  const limit = new Date(now)
  limit.setUTCFullYear(limit.getUTCFullYear() + 50)
  const century = groups.year?.length === 2 ? Math.floor(new Date(now).getUTCFullYear() / 100) * 100 : 0
  let date = at(century + number('year'))
  if (century > 0 && date.setUTCHours(hour, minute, second) > limit.getTime()) date = at(century - 100 + number('year'))
  return date.getUTCDate() === day ? date.setUTCHours(hour, minute, second) : undefined
}
