-- A worker's lease, by Redis's clock. Death is final: a lease that lapsed is not renewed.
-- KEYS workers, inbox
-- Answers whether the lease goes on, how many workers are alive, and the inbox.
-- ARGV me, lease ms, messages of the last beat that were read, 1 to begin a lease
local at = redis.call('ZSCORE', KEYS[1], ARGV[1])
local t = now()
if ARGV[4] ~= '1' and (not at or tonumber(at) < t) then return {0, 0} end
redis.call('ZADD', KEYS[1], t + ARGV[2], ARGV[1])
if ARGV[3] ~= '0' then redis.call('LTRIM', KEYS[2], ARGV[3], -1) end
return {1, redis.call('ZCOUNT', KEYS[1], t, '+inf'), redis.call('LRANGE', KEYS[2], 0, 99)}
