--- A long row of tokens, cut into samples for a language model: x, and y, which is x one token further on.
--
-- A file holds the numbers of tokens one after another: raw (as nanoGPT's train.bin), of u8, u16, i32, u32 or i64; or .npy. It is
-- mapped, and a sample alone is read. In files tokens count from 0; samples have i64 from 1 on, as embeddings and losses want.

local ai = require "aijit"
local class = require "aijit.class"
local Dataset = require("aijit.data.dataset").Dataset
local file = require "aijit.bindings.file"
local format = require "aijit.bindings.format"
local option = require "aijit.data.option"

---@class aijit.TokenDataset: aijit.Dataset
local TokenDataset = class("TokenDataset", Dataset)

-- What a dtype is read as, and what its bits are masked with.
local dtypes = {u8 = {"u8"}, i8 = {"i8"}, u16 = {"i16", 0xFFFF}, i16 = {"i16"}, i32 = {"i32"}, u32 = {"i32", 0xFFFFFFFF}, i64 = {"i64"}}

---@param source string|aijit.Tensor the file; or tokens themselves (N), which then count from 1 already
---@param o {length: integer, stride: integer, dtype: string}
---  length: of a sample; stride: from one sample's beginning to the next one's (length); dtype "u16": of a raw file
function TokenDataset:__init(source, o)
  local who = "data.TokenDataset"
  o = option.read(who, o, {length = 1, stride = 1, dtype = ""})
  self.length = option.whole(who, "length", o.length or 1024, 1)
  self.stride = option.whole(who, "stride", o.stride or self.length, 1)
  self.first = 0
  if ai.is_tensor(source) then
    if source:dim() ~= 1 then error(("%s: tokens are (N), and this tensor has %d dimensions"):format(who, source:dim()), 3) end
    self.tokens, self.path = source, "(a tensor)"
  else
    if type(source) ~= "string" then error(("%s: a file's path or a tensor is wanted, not a %s"):format(who, type(source)), 3) end
    self.path, self.first = source, 1
    local blob = file.open(source)
    local ok, tokens, mask = pcall(function()
      if source:match "%.npy$" then return ai.load(source), nil end
      local kind = dtypes[o.dtype or "u16"]
      if not kind then error(("dtype is u8, i8, u16, i16, u32, i32 or i64, not %s"):format(tostring(o.dtype)), 0) end
      return format.raw_read(blob, kind[1]), kind[2]
    end)
    file.close(blob)
    if not ok then error(who .. ": " .. tostring(tokens):gsub("^[^\n]-:%d+: ", "", 1), 3) end
    self.tokens, self.mask = ai.keep(tokens), mask
  end
  local tokens = self.tokens
  if tokens:dim() ~= 1 or not tokens.dtype:match "^[iu]%d" then
    error(("%s: %s: tokens are whole numbers (N), not %s (%s)"):format(who, self.path, tokens.dtype, table.concat(tokens.shape, ", ")), 3)
  end
  if tokens:size(1) < self.length + 1 then
    error(("%s: %s: %d tokens are too few for a sample of %d and the one that follows it"):format(who, self.path, tokens:size(1), self.length), 3)
  end
end

function TokenDataset:size() return math.floor((self.tokens:size(1) - 1 - self.length) / self.stride) + 1 end

function TokenDataset:get(index)
  option.index("data.TokenDataset", index, self:size())
  local t = self.tokens:narrow(1, (index - 1) * self.stride + 1, self.length + 1):to "i64"
  if self.mask then t = t:bitwise_and(ai.full({1}, self.mask, {dtype = "i64"})) end
  if self.first ~= 0 then t = t + self.first end
  return t:narrow(1, 1, self.length), t:narrow(1, 2, self.length)
end

function TokenDataset:describe(index)
  return ("%s, from token %d"):format(self.path, (index - 1) * self.stride)
end

return TokenDataset
