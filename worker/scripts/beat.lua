-- A worker's lease, by Redis's clock. Death is final: a lease that lapsed is not renewed.
-- Answers whether the lease goes on, how many live processes poll, how many ask, and what the inbox holds. A message
-- stays there until a later beat names it as read, so a reply that is lost loses none.
-- KEYS workers, inbox
-- ARGV me, lease ms, 1 to begin a lease, messages read…
local at = redis.call('ZSCORE', KEYS[1], ARGV[1])
local t = now()
if ARGV[3] ~= '1' and (not at or tonumber(at) < t) then return {0} end
redis.call('ZADD', KEYS[1], t + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', t - 3600000)
if #ARGV > 3 then redis.call('SREM', KEYS[2], unpack(ARGV, 4)) end
local polling, asking = 0, 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], t, '+inf')) do
  local role = string.sub(id, 1, 1)
  if role ~= 'a' then polling = polling + 1 end
  if role ~= 'w' then asking = asking + 1 end
end
return {1, polling, asking, redis.call('SRANDMEMBER', KEYS[2], 1000)}
