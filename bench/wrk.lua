-- Requests the paths of a file in turn, one per line, or the path of wrk without a file.
-- Prints one line of JSON at the end.
function init(args)
  if args[1] == nil then return end
  local requests = {}
  for path in io.lines(args[1]) do requests[#requests + 1] = wrk.format('GET', path) end
  local at = 0
  request = function()
    at = at % #requests + 1
    return requests[at]
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('\n{"requests":%d,"seconds":%f,"errors":%d,"p50":%f,"p99":%f}\n', summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
