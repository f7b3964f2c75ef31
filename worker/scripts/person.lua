-- One more push to a person, if the limits allow it. A repeat of the same push counts once.
-- A person is one hash: a field for each push, with when it was made and until when its prompt stands, 0 when it is answered.
-- KEYS person
-- ARGV push, in flight until (ms from now), most in flight, most in an hour
local t = now()
local all = redis.call('HGETALL', KEYS[1])
local standing, soonest, recent, oldest = 0, math.huge, 0, math.huge
for i = 1, #all, 2 do
  local at, till = pushed(all[i + 1])
  local own = all[i] == ARGV[1]
  if own and till > t and at > 0 then return {'ok', 0} end
  if till > t and not own then -- its own, taken back and repeated now, stands anew
    standing, soonest = standing + 1, math.min(soonest, till)
  end
  if at > t - 3600000 then
    recent, oldest = recent + 1, math.min(oldest, at)
  elseif till <= t then
    redis.call('HDEL', KEYS[1], all[i])
  end
end
if standing >= tonumber(ARGV[3]) then return {'busy', soonest - t} end
if recent >= tonumber(ARGV[4]) then return {'limited', oldest + 3600000 - t} end
redis.call('HSET', KEYS[1], ARGV[1], t .. ' ' .. t + ARGV[2])
redis.call('PEXPIRE', KEYS[1], 2 * 3600000)
return {'ok', 0}
