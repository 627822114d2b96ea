--- In which order samples are drawn: a function of a seed and an epoch alone, so that a resumed run goes on as it would have.
-- The generator is this module's own: shuffling takes nothing from the random numbers of the model.

local bit = require "bit"

local order = {}

local bxor, rshift, lshift, rol, tobit = bit.bxor, bit.rshift, bit.lshift, bit.rol, bit.tobit

--- The low 32 bits of a product. A double holds 53 bits, so the factor is taken in two halves.
local function multiply(a, b)
  a, b = a % 2 ^ 32, b % 2 ^ 32
  local low, high = b % 65536, math.floor(b / 65536)
  return tobit((a * low + (a * high % 65536) * 65536) % 2 ^ 32)
end

--- Spreads a number over 32 bits (the finisher of MurmurHash3).
local function mix(h)
  h = multiply(bxor(h, rshift(h, 16)), 0x85ebca6b)
  h = multiply(bxor(h, rshift(h, 13)), 0xc2b2ae35)
  return bxor(h, rshift(h, 16))
end

--- A generator of whole numbers from 0 to 2^32 - 1: xoshiro128++ (Blackman and Vigna, 2019).
---@param seed integer
---@param stream integer another number gives other numbers for the same seed
---@return fun(): number
function order.generator(seed, stream)
  local a = mix(tobit(seed % 2 ^ 32 + 0x9e3779b9))
  local b = mix(tobit(a + math.floor(seed / 2 ^ 32) % 2 ^ 32))
  local c = mix(tobit(b + stream % 2 ^ 32 + 0x9e3779b9))
  local d = mix(tobit(c + math.floor(stream / 2 ^ 32) % 2 ^ 32 + 1))
  return function()
    local result = tobit(rol(tobit(a + d), 7) + a)
    local t = lshift(b, 9)
    c, d = bxor(c, a), bxor(d, b)
    b, a = bxor(b, c), bxor(a, d)
    c, d = bxor(c, t), rol(d, 11)
    return result % 2 ^ 32
  end
end

--- The numbers 1 to n in an order that `seed` and `epoch` decide.
---@param n integer
---@param seed integer
---@param epoch integer
---@return integer[]
function order.shuffled(n, seed, epoch)
  local draw, list = order.generator(seed, epoch), {}
  for i = 1, n do list[i] = i end
  for i = n, 2, -1 do
    local j = math.floor(draw() * (i / 2 ^ 32)) + 1
    list[i], list[j] = list[j], list[i]
  end
  return list
end

--- The numbers 1 to n.
---@param n integer
---@return integer[]
function order.straight(n)
  local list = {}
  for i = 1, n do list[i] = i end
  return list
end

return order
