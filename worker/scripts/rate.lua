-- A caller's rate (GCRA): the time at which the bucket is full again moves on by one request.
-- KEYS full-at
-- ARGV ms a request, burst
local t = now()
local at = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), t)
local wait = at - ARGV[1] * (ARGV[2] - 1) - t
if wait > 0 then return math.ceil(wait) end
redis.call('SET', KEYS[1], at + ARGV[1], 'PX', math.ceil(ARGV[1] * ARGV[2]) + 1000)
return 0
