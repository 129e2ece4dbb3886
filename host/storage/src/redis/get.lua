-- ARGV[2]: most bytes of all values together. ARGV[3..]: keys.
local most, bytes, found = tonumber(ARGV[2]), 0, { 'values' }
for at = 3, #ARGV do
  local row = find(ARGV[at])
  if row then
    bytes = bytes + #row - HEADER
    if bytes > most then
      return { 'large', text(bytes) }
    end
  end
  found[at - 1] = row
end
return found
