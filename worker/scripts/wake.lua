-- One wake-up, for one of the sweepers that saw the need: the wake number goes up and the wake-by time moves on in one step.
-- Answers the wake number or '0', the state, how often in a row it was woken, and '1' when it is long past its expiry.
-- KEYS record, open, due
-- ARGV op, id, dead owner or '' when the wake-by time passed, ms after expires_at at which a pending one must be woken
local f = redis.call('HMGET', KEYS[1], 'st', 'own', 'gen', 'woken', 'wn', 'exp', 'wk')
local t = now()
local last = tonumber(f[6] or '0') + ARGV[4]
local late = f[1] == 'pending' and t >= last and '1' or '0'
if again('wop') then return {f[7], f[1], f[5] or '0', late} end
if not f[1] then
  redis.call('ZREM', KEYS[2], ARGV[2])
  redis.call('SREM', KEYS[3], ARGV[2])
  return {'0', 'gone', '0', '0'}
end
if ARGV[3] == '' then
  local by = redis.call('ZSCORE', KEYS[2], ARGV[2])
  if not by or tonumber(by) > t then return {'0', f[1], '0', '0'} end
elseif f[2] ~= ARGV[3] then
  return {'0', 'gone', '0', '0'}
elseif f[4] == f[3] then
  return {'0', f[1], '0', '0'}
end
local wn = math.min(tonumber(f[5] or '0') + 1, 6)
local wk = redis.call('HINCRBY', KEYS[1], 'wk', 1)
redis.call('HSET', KEYS[1], 'wn', wn, 'woken', f[3], 'wop', ARGV[1])
local by = t + math.min(60, 2 ^ wn) * 1000
if f[1] == 'pending' and t < last then by = math.min(by, last) end
redis.call('ZADD', KEYS[2], by, ARGV[2])
return {tostring(wk), f[1], tostring(wn), late}
