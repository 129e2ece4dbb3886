-- ARGV[4]: the key. ARGV[5]: what is added. ARGV[6]: for how many milliseconds a new number is kept. Lua's numbers have 53 bits, so the server adds, in a field of its own.
local row, expiry = find(ARGV[4])
if row and #row > HEADER + 20 then
  return { 'no number' }
end
redis.call('HSET', meta, 'sum', row and row:sub(HEADER + 1) or '0')
local added = redis.pcall('HINCRBY', meta, 'sum', ARGV[5])
local sum = redis.call('HGET', meta, 'sum')
redis.call('HDEL', meta, 'sum')
if type(added) == 'table' and added.err then
  return { added.err:find('overflow') and 'overflow' or 'no number' }
end
return change({ { key = ARGV[4], value = sum, expiry = row and (expiry or 0) or expiry_after(ARGV[6]) } }) or { 'number', sum }
