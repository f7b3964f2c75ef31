-- How many different persons a caller asks in an hour. A person who was asked in it already counts once.
-- KEYS persons of the caller
-- ARGV keyed hash of the person, most in an hour
local t = now()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', t - 3600000)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  return redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] + 3600000 - t
end
redis.call('ZADD', KEYS[1], t, ARGV[1])
redis.call('PEXPIRE', KEYS[1], 3600000)
return 0
