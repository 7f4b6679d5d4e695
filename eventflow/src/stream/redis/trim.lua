-- Trims a stream of what all its groups have acknowledged; answers how many entries are gone.
-- KEYS[1]: the stream. ARGV[1]: how many entries to trim at most.

-- Ids are compared as texts: their numbers have more digits than Lua's.
local function is_before(one, other)
  local one_millis, one_number = one:match('^(%d+)-(%d+)$')
  local other_millis, other_number = other:match('^(%d+)-(%d+)$')
  if one_millis == other_millis then
    one_millis, other_millis = one_number, other_number
  end
  if #one_millis ~= #other_millis then
    return #one_millis < #other_millis
  end
  return one_millis < other_millis
end

local needed
for _, reply in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for place = 1, #reply, 2 do
    group[reply[place]] = reply[place + 1]
  end
  local from = group['last-delivered-id']
  local oldest_pending = redis.call('XPENDING', KEYS[1], group['name'])[2]
  if oldest_pending and is_before(oldest_pending, from) then
    from = oldest_pending
  end
  if not needed or is_before(from, needed) then
    needed = from
  end
end
if not needed then
  return 0
end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', needed, 'LIMIT', ARGV[1])
