/**
 * Returns the `Link` header with the pages of a list (RFC 8288). References are relative to the request's path, so that
 * they are correct below any prefix and behind any proxy.
 */
export function pageLinks (
  query: Record<string, string | undefined>,
  { limit, offset, total }: { limit: number, offset: number, total: number }
): string {
  let scope = '<?'
  for (const key in query) {
    if (query[key] !== undefined) scope += `${encodeURIComponent(key)}=${encodeURIComponent(query[key])}&`
  }
  const link = (rel: string, to: number): string => `${scope}limit=${limit}&offset=${to}>; rel="${rel}"`
  const last = Math.max(0, Math.floor((total - 1) / limit) * limit)
  let links = link('first', 0)
  if (offset > 0) links += `, ${link('prev', Math.min(last, Math.max(0, offset - limit)))}`
  if (offset + limit < total) links += `, ${link('next', offset + limit)}`
  return `${links}, ${link('last', last)}`
}
