-- How long the prompt of a push stands, now that more is known: 0 when it is answered. The push stays counted in its hour.
-- KEYS person
-- ARGV push, ms from now
local at, till = pushed(redis.call('HGET', KEYS[1], ARGV[1]) or '0 0')
if till == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], at .. ' ' .. (ARGV[2] == '0' and 0 or now() + ARGV[2]))
return 1
