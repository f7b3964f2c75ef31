-- The intent, before anything is sent: idempotency key, record, sealed fields, wake-by time.
-- The id is fresh: where the key stands for this very step-up already, this is a repeat.
-- KEYS record, open, prompt, idempotency, lists…
-- ARGV id, idempotency entry, sealed prompt, wake in ms, idempotency ttl ms, prompt ttl ms, created ms, list ttl ms, record fields…
local e = redis.call('GET', KEYS[4])
if e then return e == ARGV[2] and '' or e end
redis.call('SET', KEYS[4], ARGV[2], 'PX', ARGV[5])
redis.call('HSET', KEYS[1], unpack(ARGV, 9))
redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[6])
redis.call('ZADD', KEYS[2], now() + ARGV[4], ARGV[1])
for i = 5, #KEYS do
  trim(KEYS[i], ARGV[7] - ARGV[8])
  redis.call('ZADD', KEYS[i], ARGV[7], ARGV[1])
  redis.call('PEXPIRE', KEYS[i], ARGV[8])
end
return ''
