-- A caller has an event that it pulled. While somebody sends the others, it is noted beside the deliveries, and the round
-- takes it from there; otherwise they are written at once. Either way under the fence that was read: what is noted was not
-- given up before.
-- KEYS record, open, personal, due, queue
-- ARGV op, id, event, acknowledgement, expected owner, expected gen, deliveries, 1 when some are still due, wake in ms,
--      purged at ms or 0, sealed result…, purged fields…
if again() then return 'ok' end
local f = redis.call('HMGET', KEYS[1], 'own', 'gen', 'ak')
if not f[2] then return 'gone' end
if f[1] ~= ARGV[5] or f[2] ~= ARGV[6] then return 'owned' end
if f[1] ~= '' then
  local ak = f[3] or ''
  if not string.find(ak, ARGV[3], 1, true) then
    redis.call('HSET', KEYS[1], 'ak', ak == '' and ARGV[4] or ak .. ' ' .. ARGV[4])
  end
  redis.call('ZREM', KEYS[5], ARGV[3])
  return 'noted'
end
redis.call('HSET', KEYS[1], 'dl', ARGV[7], 'due', ARGV[8], 'gen', f[2] + 1, 'op', ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[3])
rest(KEYS[2], KEYS[4], ARGV[8], ARGV[9])
purge(KEYS[3], 10)
return 'ok'
