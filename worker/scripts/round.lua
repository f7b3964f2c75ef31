-- What a round of webhooks brought; the step-up is let go.
-- KEYS record, open, personal, owned by me, due
-- ARGV op, id, me, gen, deliveries, 1 when some are still due, wake in ms, purged at ms or 0, sealed result without the identity or '', purged fields…
if again() then return {'ok', redis.call('HGET', KEYS[1], 'wk')} end
if not mine() then return {'fence', '0'} end
local wk = redis.call('HINCRBY', KEYS[1], 'wk', 1)
redis.call('HSET', KEYS[1], 'dl', ARGV[5], 'due', ARGV[6], 'own', '', 'op', ARGV[1])
redis.call('SREM', KEYS[4], ARGV[2])
if ARGV[6] == '1' then
  redis.call('ZADD', KEYS[2], now() + ARGV[7], ARGV[2])
else
  redis.call('ZREM', KEYS[2], ARGV[2])
  redis.call('SREM', KEYS[5], ARGV[2])
end
if ARGV[8] ~= '0' then
  redis.call('HSET', KEYS[1], 'pur', ARGV[8])
  if redis.call('EXISTS', KEYS[3]) == 1 then
    redis.call('HSET', KEYS[3], 'result', ARGV[9])
    if #ARGV > 9 then redis.call('HDEL', KEYS[3], unpack(ARGV, 10)) end
  end
end
return {'ok', tostring(wk)}
