-- The provider took the question: asking -> pending. The idempotency key keeps the answer. The gen moves on, so that who
-- saw an intent without an answer a moment ago cannot end it any more.
-- KEYS record, open, prompt, idempotency
-- ARGV idempotency entry, id, wake in ms, prompt ttl ms, expires ms, interval ms, not before ms, sealed prompt
if redis.call('GET', KEYS[4]) == ARGV[1] then return 'ok' end -- a repeat, even when a worker has claimed it meanwhile
if redis.call('HGET', KEYS[1], 'st') ~= 'asking' then return 'final' end
redis.call('HSET', KEYS[1], 'st', 'pending', 'gen', 1, 'exp', ARGV[5], 'iv', ARGV[6], 'nb', ARGV[7])
redis.call('SET', KEYS[3], ARGV[8], 'PX', ARGV[4])
redis.call('SET', KEYS[4], ARGV[1], 'XX', 'KEEPTTL')
redis.call('ZADD', KEYS[2], now() + ARGV[3], ARGV[2])
return 'ok'
