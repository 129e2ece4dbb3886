-- wrk: half of the requests, chosen at random (the same choice in every run), trap. How many of each were asked for, and
-- the statuses answered, are counted and printed at the end.
local names = { "asked_hello", "asked_trap", "status_200", "status_500", "status_503", "status_other" }
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init()
  math.randomseed(1)
  for _, name in ipairs(names) do _G[name] = 0 end
end

local function add(name)
  _G[name] = _G[name] + 1
end

function request()
  local verb = math.random(2) == 1 and "hello" or "trap"
  add("asked_" .. verb)
  return wrk.format("GET", "/" .. verb)
end

function response(status)
  local name = "status_" .. status
  add(_G[name] and name or "status_other")
end

function done()
  for _, name in ipairs(names) do
    local sum = 0
    for _, thread in ipairs(threads) do sum = sum + thread:get(name) end
    io.write(string.format("%s: %d\n", name, sum))
  end
end
