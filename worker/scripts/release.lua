-- An owner lets go; whoever comes next finds the pace as it was.
-- KEYS record, open, owned by me
-- ARGV op, id, me, gen, interval ms, not before ms, ambiguous, pending at ms
if again() then return {'ok', redis.call('HGET', KEYS[1], 'wk')} end
if not mine() then return {'fence', '0'} end
local wk = redis.call('HINCRBY', KEYS[1], 'wk', 1)
redis.call('HSET', KEYS[1], 'own', '', 'iv', ARGV[5], 'nb', ARGV[6], 'amb', ARGV[7], 'pa', ARGV[8], 'op', ARGV[1])
redis.call('SREM', KEYS[3], ARGV[2])
redis.call('ZADD', KEYS[2], now() + 2000, ARGV[2])
return {'ok', tostring(wk)}
