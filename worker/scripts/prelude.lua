-- Before every script. keep is how long a record is kept, in ms, and topic is where waiting readers listen. Time is Redis's
-- own, in ms. A script whose reply was lost may be sent again: again() is true when the last operation of this kind was this
-- very one. Kinds that others may write in between keep their operation apart: `op` is the fence holder's, `wop` a sweeper's,
-- `fop` the final state's. mine() is true when the caller holds the fence.
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function again(kind) return redis.call('HGET', KEYS[1], kind or 'op') == ARGV[1] end
local function mine()
  local f = redis.call('HMGET', KEYS[1], 'own', 'gen')
  return f[1] == ARGV[3] and f[2] == ARGV[4]
end
local function trim(key, before) -- many at once would hold Redis up
  local old = redis.call('ZCOUNT', key, '-inf', before)
  if old > 0 then redis.call('ZREMRANGEBYRANK', key, 0, math.min(old, 1000) - 1) end
end
-- What waits to be pulled. moves is "+1 evt_… -2 evt_…": into or out of the nth of the queues, which are KEYS after `before`,
-- each with the last place in it behind it. A place is the time in µs, later than every other one also when the clock was
-- put back: readers ask for what comes after the last that they saw. Those who wait are told.
local function queue(moves, before)
  for sign, n, event in string.gmatch(moves, '([+-])(%d+) (%S+)') do
    local key, last = KEYS[before + 2 * n - 1], KEYS[before + 2 * n]
    if sign == '-' then
      redis.call('ZREM', key, event)
    else
      local t = redis.call('TIME')
      local at = math.max(t[1] * 1000000 + t[2], (redis.call('GET', last) or 0) + 1)
      local text = string.format('%.0f', at)
      redis.call('SET', last, text, 'PX', keep)
      trim(key, at - keep * 1000) -- long over, whatever became of them
      redis.call('ZADD', key, text, event)
      redis.call('PEXPIRE', key, keep)
      redis.call('PUBLISH', topic, string.match(key, 'pull:.*'))
    end
  end
end
-- Deliveries are left, and somebody looks after them in `wake` ms, or none are.
local function rest(open, due, left, wake)
  if left == '1' then
    redis.call('ZADD', open, now() + wake, ARGV[2])
  else
    redis.call('ZREM', open, ARGV[2])
    redis.call('SREM', due, ARGV[2])
  end
end
-- The identity goes: ARGV[first] is when, in ms, or 0; then the sealed result without it, then the sealed fields that go.
local function purge(personal, first)
  if ARGV[first] == '0' then return end
  redis.call('HSET', KEYS[1], 'pur', ARGV[first])
  if redis.call('EXISTS', personal) == 1 then
    redis.call('HSET', personal, 'result', ARGV[first + 1])
    if #ARGV > first + 1 then redis.call('HDEL', personal, unpack(ARGV, first + 2)) end
  end
end
local function pushed(push) -- see person
  local at, till = string.match(push, '(%d+) (%d+)')
  return tonumber(at), tonumber(till)
end
