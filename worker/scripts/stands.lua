-- How long the prompt of a push stands, now that more is known.
-- KEYS person
-- ARGV push, ms from now, and what is known: 'sent', 'answered' (it stands no more, and stays counted in its hour) or
--      'unsent' (it may still be sent by a repeat that is on its way; it is not counted in the hour)
local push = redis.call('HGET', KEYS[1], ARGV[1])
local at, till = pushed(push or '0 0')
local t = now()
if ARGV[3] == 'sent' then
  if at == 0 then at = t end -- taken back while it was on its way
  till = t + ARGV[2]
elseif till == 0 then
  return 0
elseif ARGV[3] == 'answered' then
  till = 0
else
  at, till = 0, t + ARGV[2]
end
redis.call('HSET', KEYS[1], ARGV[1], at .. ' ' .. till)
redis.call('PEXPIRE', KEYS[1], 2 * 3600000)
return 1
