-- ARGV[4..]: of each edit the key, "set" or "delete", the value, and for how many milliseconds it has it (nothing: for ever).
local effects = {}
for at = 4, #ARGV, 4 do
  local effect = { key = ARGV[at] }
  if ARGV[at + 1] == 'set' then
    effect.value, effect.expiry = ARGV[at + 2], expiry_after(ARGV[at + 3])
  end
  effects[#effects + 1] = effect
end
return change(effects) or { 'written' }
