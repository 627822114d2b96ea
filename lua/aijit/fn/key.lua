--- Keys: where random numbers come from in pure functions. The same key gives the same numbers, always and everywhere.
--
-- A key is 64 bits. New ones are made of it by Philox4x32-10 (Salmon and others, 2011), with the key as its key and a
-- counter that no draw of numbers uses; a tensor's numbers are those of the stream whose seed is the key.

local ai = require "aijit"
local bit = require "bit"
local raise = require("aijit.bindings.lib").raise

local key = {}

---@class aijit.fn.Key
---@field high integer 32 bits
---@field low integer
local Key = {__name = "aijit.fn.Key"}
Key.__index = Key

function Key.__tostring(k) return ("key %08x%08x"):format(k.high, k.low) end
function Key.__eq(a, b) return a.high == b.high and a.low == b.low end

local TWO16, TWO32 = 2 ^ 16, 2 ^ 32

local function unsigned(x) return x % TWO32 end
local function xor(a, b, c) return unsigned(bit.bxor(bit.tobit(a), bit.tobit(b), bit.tobit(c))) end

--- The high and low word of a product of two words.
local function multiply(a, b)
  local low, high = a * (b % TWO16), a * math.floor(b / TWO16)
  local middle = high + math.floor(low / TWO16)
  return math.floor(middle / TWO16), (middle % TWO16) * TWO16 + low % TWO16
end

--- Philox4x32-10.
---@param c integer[] the counter: four words of 32 bits
---@param k0 integer
---@param k1 integer
---@return integer
---@return integer
---@return integer
---@return integer
function key.philox(c, k0, k1)
  local c0, c1, c2, c3 = c[1], c[2], c[3], c[4]
  for _ = 1, 10 do
    local h0, l0 = multiply(0xD2511F53, c0)
    local h1, l1 = multiply(0xCD9E8D57, c2)
    c0, c1, c2, c3 = xor(h1, c1, k0), l1, xor(h0, c3, k1), l0
    k0, k1 = (k0 + 0x9E3779B9) % TWO32, (k1 + 0xBB67AE85) % TWO32
  end
  return c0, c1, c2, c3
end

local function new(high, low) return setmetatable({high = high, low = low}, Key) end

-- What a counter is for stands in its last word; draws have 0 there.
local SPLIT, FOLD_NUMBER, FOLD_TEXT = 0x73706c74, 0x666f6c64, 0x66746578

--- A key of a whole number.
---@param seed integer from 0 up
---@return aijit.fn.Key
function key.key(seed)
  if type(seed) ~= "number" or seed < 0 or seed % 1 ~= 0 or seed >= 2 ^ 53 then
    raise("fn.key: a whole number from 0 up is wanted, not " .. tostring(seed))
  end
  return new(math.floor(seed / TWO32), seed % TWO32)
end

---@param value any
---@return boolean
function key.is_key(value) return getmetatable(value) == Key end

local function want(k, who, place)
  if getmetatable(k) ~= Key then
    raise(("%s: %s is a %s, where a key is wanted, as from fn.key(0)"):format(who, place or "argument 1",
      ai.is_tensor(k) and "tensor" or type(k)))
  end
end
key.want = want

--- n keys made of one, which is not to be used again: local k1, k2, key = fn.split(key, 3).
---@param k aijit.fn.Key
---@param n? integer 2
---@return aijit.fn.Key ...
function key.split(k, n)
  want(k, "fn.split")
  n = n or 2
  if type(n) ~= "number" or n < 1 or n % 1 ~= 0 then raise("fn.split: a number of keys from 1 up is wanted, not " .. tostring(n)) end
  local keys = {}
  for i = 1, n do
    local high, low = key.philox({i % TWO32, math.floor(i / TWO32), 0, SPLIT}, k.low, k.high)
    keys[i] = new(high, low)
  end
  return unpack(keys)
end

--- A key made of another and of a number or a name: a step's, a layer's.
---@param k aijit.fn.Key
---@param data integer|string
---@return aijit.fn.Key
function key.fold_in(k, data)
  want(k, "fn.fold_in")
  if type(data) == "number" and data % 1 == 0 and math.abs(data) < 2 ^ 53 then
    local high, low = key.philox({data % TWO32, math.floor(data / TWO32) % TWO32, 0, FOLD_NUMBER}, k.low, k.high)
    return new(high, low)
  elseif type(data) == "string" then
    -- Eight bytes at a time, the length first.
    local high, low = key.philox({#data, 0, 0, FOLD_TEXT}, k.low, k.high)
    for i = 1, #data, 8 do
      local words = {0, 0}
      for j = 0, 7 do
        local byte = data:byte(i + j) or 0
        local w = j < 4 and 1 or 2
        words[w] = words[w] * 256 + byte
      end
      high, low = key.philox({words[1], words[2], 1, FOLD_TEXT}, low, high)
    end
    return new(high, low)
  end
  raise("fn.fold_in: a whole number or a string is wanted, not " .. tostring(data))
end

local function finish(state, ok, ...)
  ai.set_random_state(state)
  if not ok then error((...), 0) end
  return ...
end

--- f(...) with random numbers drawn from the key's stream; the program's own stream stays where it is.
---@param k aijit.fn.Key
---@param f function
---@return any ...
function key.with_key(k, f, ...)
  want(k, "fn.with_key")
  local state = ai.get_random_state()
  ai.set_random_state{seed = ("%08x%08x"):format(k.high, k.low), offset = ("0"):rep(16)}
  return finish(state, pcall(f, ...))
end

--- A whole number of 53 bits, for ops that take a seed.
---@param k aijit.fn.Key
---@return integer
function key.seed_of(k)
  return k.high % 2 ^ 21 * TWO32 + k.low
end

--- Normal numbers of mean 0 and deviation 1.
---@param k aijit.fn.Key
---@param shape integer[]
---@param o? aijit.TensorOptions
---@return aijit.Tensor
function key.normal(k, shape, o) return key.with_key(k, ai.randn, shape, o) end

--- Numbers evenly distributed from `from` to `to`, [0, 1) by default.
---@param k aijit.fn.Key
---@param shape integer[]
---@param from? number
---@param to? number
---@param o? aijit.TensorOptions
---@return aijit.Tensor
function key.uniform(k, shape, from, to, o)
  if type(from) == "table" then from, o = nil, from end
  local u = key.with_key(k, ai.rand, shape, o)
  if not from then return u end
  return u * (to - from) + from
end

--- Whether an event of probability p happens, for each element.
---@param k aijit.fn.Key
---@param p number
---@param shape integer[]
---@return aijit.Tensor bool
function key.bernoulli(k, p, shape) return key.with_key(k, ai.rand, shape):lt(p) end

--- The numbers 1 to n in random order; i64.
---@param k aijit.fn.Key
---@param n integer
---@return aijit.Tensor
function key.permutation(k, n) return key.with_key(k, ai.randperm, n) end

return key
