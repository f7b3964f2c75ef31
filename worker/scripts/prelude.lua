-- Before every script. Time is Redis's own, in ms. The cluster client may repeat a script whose reply was lost:
-- again() is true when the record's last operation was this very one, mine() when the caller holds the fence.
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function again() return redis.call('HGET', KEYS[1], 'op') == ARGV[1] end
local function mine()
  local f = redis.call('HMGET', KEYS[1], 'own', 'gen')
  return f[1] == ARGV[3] and f[2] == ARGV[4]
end
local function pushed(push) -- see person
  local at, till = string.match(push, '(%d+) (%d+)')
  return tonumber(at), tonumber(till)
end
