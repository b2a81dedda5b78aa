-- What wrk sends: `plan` (given by bench/api.py) holds the callers' keys, and what to ask for. Runs inside wrk's threads.
local counter = 0
local threads = {}

function setup(thread)
   counter = counter + 1
   thread:set("id", counter)
   table.insert(threads, thread)
end

function init(args)
   dofile(args[1])
   math.randomseed(plan.seed + id)
   sent = 0
end

-- To anybody but the sender.
local function payment(sender)
   local recipient = (sender + math.random(#plan.handles - 1) - 1) % #plan.handles + 1
   return '{"recipient":"@' .. plan.handles[recipient] .. '","asset":"USDC","amount":"0.' ..
      string.format("%06d", math.random(999999)) .. '"}'
end

function request()
   sent = sent + 1
   local sender = math.random(#plan.keys)
   local headers = {
      ["Authorization"] = "Bearer " .. plan.keys[sender],
      ["Content-Type"] = "application/json",
   }
   if plan.what == "balances" then
      return wrk.format("GET", "/v1/balances", headers)
   end
   if plan.what == "bare" then
      return wrk.format("GET", "/health/live", {})
   end
   headers["Idempotency-Key"] = plan.run .. "-" .. id .. "-" .. sent
   if plan.what == "transfers" then
      return wrk.format("POST", "/v1/transfers", headers, payment(sender))
   end
   local items = {}
   for place = 1, plan.size do
      items[place] = payment(sender)
   end
   return wrk.format("POST", "/v1/transfers/bulk", headers, '{"transfers":[' .. table.concat(items, ",") .. "]}")
end

function done(summary, latency, requests)
   io.write(string.format(
      'ANSWER {"requests": %d, "seconds": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "failed": %d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
      summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout
   ))
end
