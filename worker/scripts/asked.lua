-- The provider took the question: asking -> pending. The idempotency key keeps the answer.
-- KEYS record, open, personal, idempotency
-- ARGV op, id, wake in ms, personal fields ttl ms, expires ms, interval ms, not before ms, sealed auth_req_id, sealed answer
if redis.call('HGET', KEYS[1], 'aop') == ARGV[1] then return 'ok' end -- even when a worker has claimed it meanwhile
if redis.call('HGET', KEYS[1], 'st') ~= 'asking' then return 'final' end
redis.call('HSET', KEYS[1], 'st', 'pending', 'exp', ARGV[5], 'iv', ARGV[6], 'nb', ARGV[7], 'aop', ARGV[1])
redis.call('HSET', KEYS[3], 'req', ARGV[8])
redis.call('HSET', KEYS[4], 'out', ARGV[9])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
redis.call('ZADD', KEYS[2], now() + ARGV[3], ARGV[2])
return 'ok'
