-- Removes consumers with nothing pending from a group; answers how many.
-- KEYS[1]: the stream. ARGV[1]: the group. ARGV[2]: a consumer to keep.
-- ARGV[3]: for how many milliseconds the others have to be idle.

local removed = 0
for _, reply in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for place = 1, #reply, 2 do
    consumer[reply[place]] = reply[place + 1]
  end
  local is_idle = consumer['idle'] >= tonumber(ARGV[3])
  if is_idle and consumer['pending'] == 0 and consumer['name'] ~= ARGV[2] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer['name'])
    removed = removed + 1
  end
end
return removed
