-- A worker takes a step-up that has work left, from nobody or from an owner it knows to be dead.
-- KEYS record, open, personal, events, owned by me, owned by the former owner, due, prompt, owners
-- ARGV op, id, me, expected owner, expected gen, wake in ms, not before ms or 0, 1 when the former owner died
if not again() then
  local f = redis.call('HMGET', KEYS[1], 'st', 'own', 'gen', 'due', 'nb')
  if not f[1] then
    redis.call('ZREM', KEYS[2], ARGV[2])
    redis.call('SREM', KEYS[7], ARGV[2])
    redis.call('SREM', KEYS[6], ARGV[2])
    return {'gone'}
  end
  if f[2] ~= ARGV[4] or f[3] ~= ARGV[5] then return {'owned'} end
  if f[1] == 'asking' then return {'asking'} end
  if f[1] ~= 'pending' and f[4] ~= '1' then
    redis.call('ZREM', KEYS[2], ARGV[2])
    redis.call('SREM', KEYS[7], ARGV[2])
    redis.call('SREM', KEYS[6], ARGV[2])
    return {'done'}
  end
  redis.call('HSET', KEYS[1], 'own', ARGV[3], 'gen', f[3] + 1, 'op', ARGV[1])
  redis.call('HDEL', KEYS[1], 'wn')
  if ARGV[8] == '1' then
    redis.call('HSET', KEYS[1], 'amb', 1)
    if tonumber(ARGV[7]) > tonumber(f[5]) then redis.call('HSET', KEYS[1], 'nb', ARGV[7]) end
  end
  redis.call('SREM', KEYS[6], ARGV[2])
  redis.call('SADD', KEYS[5], ARGV[2])
  redis.call('SADD', KEYS[9], ARGV[3])
  redis.call('ZADD', KEYS[2], now() + ARGV[6], ARGV[2])
end
return {'ok', redis.call('HGETALL', KEYS[1]), redis.call('GET', KEYS[8]) or '', redis.call('HGETALL', KEYS[3]), redis.call('HGETALL', KEYS[4])}
