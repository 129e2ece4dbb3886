-- wrk: puts of 100 bytes. With "fill", block after block, each as a whole; with "one", a random key; with "each", a random block, key
-- after key. The same choice in every run. After the word: the number of blocks, and of keys in each.
local word, blocks, keys
local filled = 0

function init(args)
  word, blocks, keys = args[1], tonumber(args[2]), tonumber(args[3])
  math.randomseed(1)
end

function request()
  local verb = { fill = "set-many", one = "set", each = "sets" }
  local block = word == "fill" and filled % blocks or math.random(blocks) - 1
  filled = filled + 1
  local key = word == "one" and string.format("%06d", math.random(keys) - 1) or "&count=" .. keys
  return wrk.format("GET", string.format("/draft2/%s?bytes=100&key=user:%04d%s", verb[word], block, key))
end
