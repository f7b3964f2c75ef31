-- The intent, before anything is sent: idempotency key, record, sealed fields, wake-by time.
-- KEYS record, open, personal, idempotency, list
-- ARGV op, fingerprint, id, wake in ms, idempotency ttl ms, personal fields ttl ms, created ms, list ttl ms, n, n record fields…, personal fields…
local e = redis.call('HMGET', KEYS[4], 'id', 'fp', 'out', 'op')
if e[1] then
  if e[4] == ARGV[1] then return {'ok'} end
  return {'exists', e[1], e[2], e[3] or ''}
end
local n = tonumber(ARGV[9])
redis.call('HSET', KEYS[4], 'id', ARGV[3], 'fp', ARGV[2], 'op', ARGV[1])
redis.call('PEXPIRE', KEYS[4], ARGV[5])
redis.call('HSET', KEYS[1], unpack(ARGV, 10, 9 + n))
redis.call('HSET', KEYS[3], unpack(ARGV, 10 + n))
redis.call('PEXPIRE', KEYS[3], ARGV[6])
redis.call('ZADD', KEYS[2], now() + ARGV[4], ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', ARGV[7] - ARGV[8])
redis.call('ZADD', KEYS[5], ARGV[7], ARGV[3])
redis.call('PEXPIRE', KEYS[5], ARGV[8])
return {'ok'}
