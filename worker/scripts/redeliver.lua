-- A caller or an operator wants the webhooks again. Nobody may be sending at the moment.
-- KEYS record, open, due, queues…
-- ARGV op, id, expected gen, deliveries, wake in ms, moves
if again() then return {'ok', redis.call('HGET', KEYS[1], 'wk')} end
local f = redis.call('HMGET', KEYS[1], 'own', 'gen')
if not f[2] then return {'gone', '0'} end
if f[1] ~= '' or f[2] ~= ARGV[3] then return {'owned', '0'} end
local wk = redis.call('HINCRBY', KEYS[1], 'wk', 1)
redis.call('HSET', KEYS[1], 'dl', ARGV[4], 'due', 1, 'gen', f[2] + 1, 'op', ARGV[1])
redis.call('HDEL', KEYS[1], 'ak')
redis.call('ZADD', KEYS[2], now() + ARGV[5], ARGV[2])
redis.call('SADD', KEYS[3], ARGV[2])
queue(ARGV[6], 3)
redis.call('PUBLISH', 'stepup:final', ARGV[2]) -- for whoever follows: it may be delivered before they look
return {'ok', tostring(wk)}
