-- Nobody was asked: the intent goes. The idempotency key keeps the answer, or is free again when there is none.
-- KEYS record, open, prompt, idempotency, lists…
-- ARGV id, idempotency entry with the answer or ''
local st = redis.call('HGET', KEYS[1], 'st')
if not st then return 'ok' end -- a repeat
if st ~= 'asking' then return 'final' end
redis.call('DEL', KEYS[1], KEYS[3])
redis.call('ZREM', KEYS[2], ARGV[1])
for i = 5, #KEYS do redis.call('ZREM', KEYS[i], ARGV[1]) end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[4])
else
  redis.call('SET', KEYS[4], ARGV[2], 'XX', 'KEEPTTL')
end
return 'ok'
