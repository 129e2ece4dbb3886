-- ARGV[4]: the version that is expected, in 8 bytes; nothing: no value. ARGV[5..8]: an edit, as in write.lua.
local row = find(ARGV[5])
if (row and row:sub(1, 8) or '') ~= ARGV[4] then
  return { 'swapped', 0 }
end
local effect = { key = ARGV[5] }
if ARGV[6] == 'set' then
  effect.value, effect.expiry = ARGV[7], expiry_after(ARGV[8])
end
return change({ effect }) or { 'swapped', 1 }
