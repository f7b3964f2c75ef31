-- Before every script. Time is Redis's own, in ms. A script whose reply was lost may be sent again: again() is true when
-- the last operation of this kind was this very one. Kinds that others may write in between keep their operation apart:
-- `op` is the fence holder's, `wop` a sweeper's, `fop` the final state's. mine() is true when the caller holds the fence.
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function again(kind) return redis.call('HGET', KEYS[1], kind or 'op') == ARGV[1] end
local function mine()
  local f = redis.call('HMGET', KEYS[1], 'own', 'gen')
  return f[1] == ARGV[3] and f[2] == ARGV[4]
end
local function pushed(push) -- see person
  local at, till = string.match(push, '(%d+) (%d+)')
  return tonumber(at), tonumber(till)
end
