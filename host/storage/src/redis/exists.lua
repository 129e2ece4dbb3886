-- ARGV[2]: the key.
local expiry = redis.call('ZSCORE', expiries, ARGV[2])
if expiry and tonumber(expiry) <= now then
  return { 'exists', 0 }
end
return { 'exists', redis.call('HEXISTS', entries, ARGV[2]) }
