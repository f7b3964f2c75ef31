-- What an owner learnt while it goes on: a slower pace, a success answer that waits to be verified.
-- KEYS record, prompt
-- ARGV op, id, me, gen, interval ms, not before ms, ambiguous, pending at ms, raw at ms, sealed prompt with it or ''
if again() then return 'ok' end
if not mine() then return 'fence' end
redis.call('HSET', KEYS[1], 'iv', ARGV[5], 'nb', ARGV[6], 'amb', ARGV[7], 'pa', ARGV[8], 'op', ARGV[1])
if ARGV[10] ~= '' then
  redis.call('HSET', KEYS[1], 'ra', ARGV[9])
  redis.call('SET', KEYS[2], ARGV[10], 'XX', 'KEEPTTL')
end
return 'ok'
