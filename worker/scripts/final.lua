-- The one final state. Only an approved or denied may pass the fence: the provider says it once.
-- KEYS record, open, personal, events, owned by me, due, prompt, queues…
-- ARGV op, id, me, gen, 1 to pass the fence, wake in ms, ttls of personal fields, events and record in ms, moves,
--      n, n record fields…, m, m personal fields…, event fields…
if again('fop') then return 'ok' end
local st = redis.call('HGET', KEYS[1], 'st')
if not st then return 'gone' end
if st ~= 'pending' and st ~= 'asking' then return 'final' end
local owner = mine()
if not owner and ARGV[5] ~= '1' then return 'fence' end
local n = tonumber(ARGV[11])
local m = tonumber(ARGV[12 + n])
redis.call('HSET', KEYS[1], 'fop', ARGV[1], unpack(ARGV, 12, 11 + n))
redis.call('DEL', KEYS[7])
redis.call('HSET', KEYS[3], unpack(ARGV, 13 + n, 12 + n + m))
redis.call('PEXPIRE', KEYS[3], ARGV[7])
if #ARGV > 12 + n + m then
  redis.call('HSET', KEYS[4], unpack(ARGV, 13 + n + m))
  redis.call('PEXPIRE', KEYS[4], ARGV[8])
end
redis.call('PEXPIRE', KEYS[1], ARGV[9])
if redis.call('HGET', KEYS[1], 'due') == '1' then
  redis.call('ZADD', KEYS[2], now() + ARGV[6], ARGV[2])
  redis.call('SADD', KEYS[6], ARGV[2])
else
  redis.call('ZREM', KEYS[2], ARGV[2])
  if owner then
    redis.call('HSET', KEYS[1], 'own', '')
    redis.call('SREM', KEYS[5], ARGV[2])
  end
end
queue(ARGV[10], 7)
redis.call('PUBLISH', topic, ARGV[2])
return 'ok'
