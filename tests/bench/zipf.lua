-- wrk: asks the hosts of a file (one a line), the first most often: number n as often as 1/n says (Zipf's law). The same
-- choice in every run. The file is the script's argument.
local requests, choice, turn = {}, {}, 0
local CHOICES = 65536

function init(arguments)
  math.randomseed(1)
  local sums, sum = {}, 0
  for host in io.lines(arguments[1]) do
    requests[#requests + 1] = "GET / HTTP/1.1\r\nHost: " .. host .. "\r\n\r\n"
    sum = sum + 1 / #requests
    sums[#sums + 1] = sum
  end
  for number = 1, CHOICES do
    local point, low, high = math.random() * sum, 1, #sums
    while low < high do
      local middle = math.floor((low + high) / 2)
      if sums[middle] < point then low = middle + 1 else high = middle end
    end
    choice[number] = low
  end
end

function request()
  turn = turn % CHOICES + 1
  return requests[choice[turn]]
end
