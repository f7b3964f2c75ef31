-- Who holds a lease, and who held one in the last hour, by the clock of the node that keeps them.
-- KEYS workers
return {now(), redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')}
