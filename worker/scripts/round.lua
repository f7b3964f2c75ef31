-- What a round of webhooks brought; the step-up is let go. What its caller acknowledged meanwhile is told first.
-- KEYS record, open, personal, owned by me, due, failing, queues…
-- ARGV op, id, me, gen, deliveries, 1 when some are still due, wake in ms, the acknowledgements that are in the deliveries,
--      completed ms when the step-up is one that fails or 0, moves, purged at ms or 0, sealed result…, purged fields…
if again() then return {'ok', redis.call('HGET', KEYS[1], 'wk')} end
if not mine() then return {'fence', '0'} end
local ak = redis.call('HGET', KEYS[1], 'ak') or ''
if ak ~= ARGV[8] then return {'acked', ak} end
local wk = redis.call('HINCRBY', KEYS[1], 'wk', 1)
redis.call('HSET', KEYS[1], 'dl', ARGV[5], 'due', ARGV[6], 'own', '', 'op', ARGV[1])
redis.call('SREM', KEYS[4], ARGV[2])
rest(KEYS[2], KEYS[5], ARGV[6], ARGV[7])
if ARGV[9] == '0' then
  redis.call('ZREM', KEYS[6], ARGV[2])
else
  trim(KEYS[6], now() - keep)
  redis.call('ZADD', KEYS[6], ARGV[9], ARGV[2])
  redis.call('PEXPIRE', KEYS[6], keep)
end
queue(ARGV[10], 6)
purge(KEYS[3], 11)
return {'ok', tostring(wk)}
