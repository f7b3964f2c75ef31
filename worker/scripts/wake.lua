-- One wake-up, for one of the sweepers that saw the need: the wake number goes up and the wake-by time moves on in one step.
-- KEYS record, open, due
-- ARGV op, id, dead owner or '' when the wake-by time passed
if again() then return {redis.call('HGET', KEYS[1], 'wk'), redis.call('HGET', KEYS[1], 'st')} end
local f = redis.call('HMGET', KEYS[1], 'st', 'own', 'gen', 'woken', 'wn')
if not f[1] then
  redis.call('ZREM', KEYS[2], ARGV[2])
  redis.call('SREM', KEYS[3], ARGV[2])
  return {'0', 'gone'}
end
if ARGV[3] == '' then
  local by = redis.call('ZSCORE', KEYS[2], ARGV[2])
  if not by or tonumber(by) > now() then return {'0', f[1]} end
elseif f[2] ~= ARGV[3] then
  return {'0', 'gone'}
elseif f[4] == f[3] then
  return {'0', f[1]}
end
local wn = math.min(tonumber(f[5] or '0') + 1, 6)
local wk = redis.call('HINCRBY', KEYS[1], 'wk', 1)
redis.call('HSET', KEYS[1], 'wn', wn, 'woken', f[3], 'op', ARGV[1])
redis.call('ZADD', KEYS[2], now() + math.min(60, 2 ^ wn) * 1000, ARGV[2])
return {tostring(wk), f[1]}
