-- What scripts share that change a store. ARGV[2], ARGV[3]: most keys, most bytes.
local keys_max, bytes_max = tonumber(ARGV[2]), tonumber(ARGV[3])

-- When what is written now for so many milliseconds expires; 0: never.
local function expiry_after(ttl)
  if ttl == '' then
    return 0
  end
  return math.max(math.min(now + tonumber(ttl), LATEST), 1)
end

-- Gives keys their values and expiries, or deletes those that have no value. Nothing if it is done, else why it is not.
local function change(effects)
  local removed = 0
  while true do
    local known = redis.call('HMGET', meta, 'bytes', 'version')
    local had_keys, had_bytes = redis.call('HLEN', entries), tonumber(known[1] or 0)
    if had_keys ~= redis.call('ZCARD', order) or (had_keys > 0 and not known[1]) then
      return { 'damaged' }
    end
    local keys, bytes = had_keys, had_bytes
    for _, effect in ipairs(effects) do
      local held = redis.call('HSTRLEN', entries, effect.key)
      effect.held = held > 0
      if effect.held then
        keys, bytes = keys - 1, bytes - #effect.key - held + HEADER
      end
      if effect.value then
        keys, bytes = keys + 1, bytes + #effect.key + #effect.value
      end
    end
    local refusal
    if keys > keys_max and keys > had_keys then
      refusal = { 'keys' }
    elseif bytes > bytes_max and bytes > had_bytes then
      refusal = { 'bytes', text(bytes) }
    end
    if not refusal then
      -- Larger than all before, also after a server that takes this one's place has lost the last of them.
      local version = math.max(tonumber(known[2] or 0), micros)
      local changed = false
      for _, effect in ipairs(effects) do
        if effect.value then
          version = version + 1
          changed = true
          redis.call('HSET', entries, effect.key, struct.pack('>I8I8', version, effect.expiry) .. effect.value)
          if not effect.held then
            redis.call('ZADD', order, 0, effect.key)
          end
          if effect.expiry ~= 0 then
            redis.call('ZADD', expiries, text(effect.expiry), effect.key)
          elseif effect.held then
            redis.call('ZREM', expiries, effect.key)
          end
        end
      end
      for _, effect in ipairs(effects) do
        if effect.held and not effect.value then
          version = version + 1
          changed = true
          redis.call('HDEL', entries, effect.key)
          redis.call('ZREM', order, effect.key)
          redis.call('ZREM', expiries, effect.key)
        end
      end
      if changed then
        redis.call('HSET', meta, 'bytes', text(bytes), 'version', text(version))
      end
      return nil
    end
    -- The server answers nobody else meanwhile.
    if removed >= 4096 then
      return refusal
    end
    local now_removed = remove_expired(256)
    if now_removed == 0 then
      return refusal
    end
    removed = removed + now_removed
  end
end
