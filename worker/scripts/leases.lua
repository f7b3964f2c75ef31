-- What the leases say, by the clock of the node that keeps them.
-- KEYS workers
-- ARGV owner: its lease's end; or '' for all that are alive
local t = now()
if ARGV[1] ~= '' then return {t, redis.call('ZSCORE', KEYS[1], ARGV[1]) or ''} end
return {t, redis.call('ZRANGEBYSCORE', KEYS[1], t, '+inf')}
