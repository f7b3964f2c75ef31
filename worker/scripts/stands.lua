-- How long the prompt of a push really stands, now that the provider has said so.
-- KEYS in flight
-- ARGV member, ms from now
return redis.call('ZADD', KEYS[1], 'XX', now() + ARGV[2], ARGV[1])
