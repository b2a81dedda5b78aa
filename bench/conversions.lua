-- What wrk sends: `plan` (given by bench/conversions.py) holds the callers' keys, and quotes to take. Runs inside wrk's thread.
function init(args)
   dofile(args[1])
   math.randomseed(plan.seed)
   sent = 0
end

-- As much one way as the other, so that the stock lasts.
local function exchange()
   local cents = string.format("%d.%02d", math.random(1, 9), math.random(0, 99))
   if math.random(2) == 1 then
      return '{"sell":"EUR","buy":"USDC","sell_amount":"' .. cents .. '"'
   end
   return '{"sell":"USDC","buy":"EUR","buy_amount":"' .. cents .. '"'
end

function request()
   sent = sent + 1
   if plan.what == "bare" then
      return wrk.format("GET", "/health/live", {})
   end
   local caller = math.random(#plan.keys)
   local headers = { ["Content-Type"] = "application/json" }
   local body
   local path = "/v1/conversions"
   if plan.what == "take" then
      if sent > #plan.quotes then  -- all are taken: what is left of the time measures nothing
         wrk.thread:stop()
      end
      local place = math.min(sent, #plan.quotes)
      caller = plan.owners[place]
      body = '{"quote":"' .. plan.quotes[place] .. '"}'
   elseif plan.what == "quote" then
      path = "/v1/quotes"
      body = exchange() .. "}"
   else
      body = exchange() .. "}"
   end
   headers["Authorization"] = "Bearer " .. plan.keys[caller]
   if path == "/v1/conversions" then
      headers["Idempotency-Key"] = plan.run .. "-" .. sent
   end
   return wrk.format("POST", path, headers, body)
end

function done(summary, latency, requests)
   io.write(string.format(
      'ANSWER {"requests": %d, "seconds": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "failed": %d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
      summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout
   ))
end
