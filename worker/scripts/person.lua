-- One more push to a person, if the limits allow it. A repeat of the same push counts once.
-- KEYS in flight, last hour
-- ARGV member, in flight until (ms from now), most in flight, most in an hour
local t = now()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', t)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', t - 3600000)
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {'ok', 0} end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then
  return {'busy', redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] - t}
end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then
  return {'limited', redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2] + 3600000 - t}
end
redis.call('ZADD', KEYS[1], t + ARGV[2], ARGV[1])
redis.call('ZADD', KEYS[2], t, ARGV[1])
redis.call('PEXPIRE', KEYS[1], 2 * 3600000)
redis.call('PEXPIRE', KEYS[2], 3600000)
return {'ok', 0}
