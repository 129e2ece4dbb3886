-- What all scripts of a store begin with.
--
-- KEYS: what is known of the store (a hash: "bytes", "version"), its entries (a hash), its keys in their order (a sorted set whose
-- scores are all 0), and the expiries of those keys that have one (a sorted set). ARGV[1]: milliseconds since 1970, or nothing:
-- the server's own time. An entry is 8 bytes of version and 8 bytes of expiry (0: never), high bytes first, and the value.
--
-- A script does all or nothing: the server asks whether it may write (memory, replicas, disk) at the first change only, so each
-- script begins with the change that it could be refused.
local meta, entries, order, expiries = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local HEADER = 16
local LATEST = 9007199254740991
local now, micros = tonumber(ARGV[1]), nil
if now then
  micros = now * 1000
else
  local time = redis.call('TIME')
  micros = time[1] * 1000000 + time[2]
  now = math.floor(micros / 1000)
end

local function text(number)
  return string.format('%.0f', number)
end

-- An entry that has not expired.
local function find(key)
  local row = redis.call('HGET', entries, key)
  if not row then
    return false
  end
  local expiry = struct.unpack('>I8', row, 9)
  if expiry ~= 0 and expiry <= now then
    return false
  end
  return row, expiry
end

-- Removes at most so many entries that have expired, the earliest first; how many it has removed.
local function remove_expired(most)
  local gone = redis.call('ZRANGEBYSCORE', expiries, '-inf', text(now), 'LIMIT', 0, most)
  if #gone == 0 then
    return 0
  end
  local bytes = 0
  for _, key in ipairs(gone) do
    local held = redis.call('HSTRLEN', entries, key)
    if held > 0 then
      bytes = bytes + #key + held - HEADER
    end
  end
  redis.call('HDEL', entries, unpack(gone))
  redis.call('ZREM', order, unpack(gone))
  redis.call('ZREM', expiries, unpack(gone))
  redis.call('HINCRBY', meta, 'bytes', text(-bytes))
  return #gone
end
