-- What is past its wake-by time, by the clock of the node that wrote the times.
-- KEYS open
-- ARGV most
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now()), 'LIMIT', 0, ARGV[1])
