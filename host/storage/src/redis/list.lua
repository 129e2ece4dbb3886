-- ARGV[2], ARGV[3]: where the page begins and where the listing ends, as ZRANGEBYLEX takes them. ARGV[4]: most keys. ARGV[5]: most
-- keys that are looked at, of which some have expired. The second of the answer: where the next page begins.
local from, to, limit, looked_max = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local some_expire = redis.call('ZCARD', expiries) > 0
local found, last, looked = { 'page', false }, nil, 0
while true do
  local want = limit + 3 - #found
  local keys = redis.call('ZRANGEBYLEX', order, from, to, 'LIMIT', 0, want)
  for _, key in ipairs(keys) do
    if #found == limit + 2 or looked == looked_max then
      found[2] = last
      return found
    end
    local expiry = some_expire and redis.call('ZSCORE', expiries, key)
    if not (expiry and tonumber(expiry) <= now) then
      found[#found + 1] = key
    end
    last = key
    looked = looked + 1
  end
  if #keys < want then
    return found
  end
  from = '(' .. last
end
