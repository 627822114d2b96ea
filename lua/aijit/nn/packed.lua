--- Sequences of different lengths: padded to one length, or packed without padding for recurrent layers.

local ai = require "aijit"
local class = require "aijit.class"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

--- The steps of several sequences without padding: first all first steps, then all second ones, of the longest sequence
--- first. Recurrent layers take it in place of a padded tensor, and return one.
---@class aijit.nn.PackedSequence
---@field data aijit.Tensor           (total, *)
---@field batch_sizes integer[]       how many sequences have a step t
---@field sorted_indices integer[]    sorted place -> place in the batch
---@field unsorted_indices integer[]  place in the batch -> sorted place
local PackedSequence = class("PackedSequence")
nn.PackedSequence = PackedSequence

function PackedSequence:__init(data, batch_sizes, sorted_indices, unsorted_indices)
  self.data, self.batch_sizes = data, batch_sizes
  self.sorted_indices, self.unsorted_indices = sorted_indices, unsorted_indices
end

--- The same places with other data.
---@param data aijit.Tensor (total, *)
---@return aijit.nn.PackedSequence
function PackedSequence:with(data)
  return PackedSequence(data, self.batch_sizes, self.sorted_indices, self.unsorted_indices)
end

--- The length of each sequence, in the order of the batch.
---@return integer[]
function PackedSequence:lengths()
  local lengths = {}
  for place, sorted in ipairs(self.unsorted_indices) do
    local n = 0
    while self.batch_sizes[n + 1] and self.batch_sizes[n + 1] >= sorted do n = n + 1 end
    lengths[place] = n
  end
  return lengths
end

function PackedSequence:__tostring()
  return ("PackedSequence of %d sequences, %d steps in all"):format(#self.sorted_indices, self.data:size(1))
end

---@param value any
---@return boolean
function nn.is_packed(value)
  return type(value) == "table" and getmetatable(value) == PackedSequence
end

local function check_lengths(lengths, n, t)
  if ai.is_tensor(lengths) then lengths = lengths:totable() end
  if type(lengths) ~= "table" or #lengths ~= n then
    raise(("pack_padded_sequence: there are %d lengths for %d sequences"):format(type(lengths) == "table" and #lengths or 0, n))
  end
  for i, length in ipairs(lengths) do
    if type(length) ~= "number" or length % 1 ~= 0 or length < 1 or length > t then
      raise(("pack_padded_sequence: length %d is %s; whole numbers from 1 to %d are wanted"):format(i, tostring(length), t))
    end
  end
  return lengths
end

--- From a padded batch to a packed one.
---@param x aijit.Tensor (T, N, *), or (N, T, *) with batch_first
---@param lengths integer[]|aijit.Tensor of each sequence, 1 .. T
---@param options? {batch_first: boolean, enforce_sorted: boolean} false; true: an error unless lengths never grow
---@return aijit.nn.PackedSequence
function nn.pack_padded_sequence(x, lengths, options)
  local o = options or {}
  if o.batch_first then x = f.transpose(x, 1, 2) end
  local t, n = x:size(1), x:size(2)
  lengths = check_lengths(lengths, n, t)
  local sorted, unsorted = {}, {}
  for i = 1, n do sorted[i] = i end
  if o.enforce_sorted == false then
    table.sort(sorted, function(a, b)
      if lengths[a] ~= lengths[b] then return lengths[a] > lengths[b] end
      return a < b
    end)
  else
    for i = 2, n do
      if lengths[i] > lengths[i - 1] then
        raise(("pack_padded_sequence: sequence %d is longer than the one before it; sort them, or give enforce_sorted = false"):format(i))
      end
    end
  end
  for place, original in ipairs(sorted) do unsorted[original] = place end
  local sizes, rows = {}, {}
  for step = 1, lengths[sorted[1]] do
    local size = 0
    while size < n and lengths[sorted[size + 1]] >= step do
      size = size + 1
      rows[#rows + 1] = (step - 1) * n + sorted[size]
    end
    sizes[step] = size
  end
  local index = ai.tensor(rows, {dtype = "i64", device = x.device})
  return PackedSequence(f.index_select(f.flatten(x, 1, 2), 1, index), sizes, sorted, unsorted)
end

--- From a packed batch to a padded one, in the order that it had before it was packed.
---@param packed aijit.nn.PackedSequence
---@param options? {batch_first: boolean, padding_value: number, total_length: integer} false, 0, the longest
---@return aijit.Tensor x (T, N, *), or (N, T, *) with batch_first
---@return integer[] lengths
function nn.pad_packed_sequence(packed, options)
  local o = options or {}
  if not nn.is_packed(packed) then raise(("pad_packed_sequence: a PackedSequence is wanted, got a %s"):format(type(packed))) end
  local data, sizes = packed.data, packed.batch_sizes
  local n, steps = #packed.sorted_indices, #sizes
  local length = o.total_length or steps
  if length < steps then
    raise(("pad_packed_sequence: total_length is %d, and the longest sequence has %d steps"):format(length, steps))
  end
  local total, before, rows = data:size(1), 0, {}
  for t = 1, length do
    local size = sizes[t] or 0
    for place = 1, n do
      local sorted = packed.unsorted_indices[place]
      local to = o.batch_first and (place - 1) * length + t or (t - 1) * n + place
      rows[to] = sorted <= size and before + sorted or total + 1
    end
    before = before + size
  end
  local shape = data.shape
  shape[1] = 1
  local padding = ai.full({unpack(shape)}, o.padding_value or 0, {dtype = data.dtype, device = data.device})
  local x = f.index_select(f.cat({data, padding}, 1), 1, ai.tensor(rows, {dtype = "i64", device = data.device}))
  shape[1] = -1
  local sizes_of = o.batch_first and {n, length} or {length, n}
  for i = 2, #shape do sizes_of[i + 1] = shape[i] end
  return x:reshape(sizes_of), packed:lengths()
end

--- Sequences as one tensor, shorter ones padded at their end.
---@param sequences aijit.Tensor[] each (T_i, *)
---@param options? {batch_first: boolean, padding_value: number} false, 0
---@return aijit.Tensor (T, N, *), or (N, T, *) with batch_first
function nn.pad_sequence(sequences, options)
  local o = options or {}
  if type(sequences) ~= "table" or #sequences == 0 then raise("pad_sequence: a list of one tensor or more is wanted") end
  local longest, padded = 0, {}
  for _, x in ipairs(sequences) do longest = math.max(longest, x:size(1)) end
  for i, x in ipairs(sequences) do
    local missing = longest - x:size(1)
    if missing > 0 then
      local shape = x.shape
      shape[1] = missing
      x = f.cat({x, ai.full({unpack(shape)}, o.padding_value or 0, {dtype = x.dtype, device = x.device})}, 1)
    end
    padded[i] = x
  end
  return f.stack(padded, o.batch_first and 1 or 2)
end

--- Sequences of different lengths, packed.
---@param sequences aijit.Tensor[] each (T_i, *)
---@param options? {enforce_sorted: boolean}
---@return aijit.nn.PackedSequence
function nn.pack_sequence(sequences, options)
  local lengths = {}
  for i, x in ipairs(sequences) do lengths[i] = x:size(1) end
  return nn.pack_padded_sequence(nn.pad_sequence(sequences), lengths, options)
end

return nn
