--- Fractional max pooling (Graham, 2014): windows whose starts are a random sequence of steps, one sequence for each channel.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local construct = require "aijit.bindings.construct"
local random = require "aijit.bindings.random"
local no_grad = require("aijit.bindings.autograd").no_grad
local f = op.functions

local ORDER = {"output_size", "output_ratio", "return_indices", "random_samples"}
local KNOWN = {output_size = true, output_ratio = true, return_indices = true, random_samples = true}

local function refuse(name, text, ...) lib.raise(name .. ": " .. text:format(...)) end

-- One number for each of n dimensions.
local function each(name, what, v, n)
  local list = {}
  for d = 1, n do
    local entry = v
    if type(v) == "table" then entry = v[#v == 1 and 1 or d] end
    if type(entry) ~= "number" or type(v) == "table" and #v ~= 1 and #v ~= n then
      refuse(name, "%s is a number, or a table of 1 or %d numbers", what, n)
    end
    list[d] = entry
  end
  return list
end

-- The starts, from 0, of the windows along a dimension, for each row of samples (R): (R, out). The arithmetic is in x's dtype.
local function starts(samples, size, window, out)
  local last = construct.full({Tensor.size(samples)[1], 1}, size - window, {dtype = "i64", device = samples.device})
  if out == 1 then return last end
  local alpha = (size - window) / (out - 1)
  local column = f.unsqueeze(samples, 2)
  local step = construct.arange(0, out - 2, {dtype = samples.dtype, device = samples.device})
  return f.cat({Tensor.long(f.sub(f.floor(f.mul(f.add(column, step), alpha)), f.floor(f.mul(column, alpha)))), last}, 2)
end

-- For all elements of all windows their places in a channel, from 0: (R, out..., window...).
local function places(samples, flip, sizes, window, out)
  local n, at = #sizes, nil
  for d = 1, n do
    local rows, within = {-1}, {1}
    for k = 1, 2 * n do rows[k + 1], within[k + 1] = 1, 1 end
    rows[d + 1], within[n + d + 1] = out[d], window[d]
    local s = f.contiguous(f.select(samples, 2, flip and n + 1 - d or d))
    local here = f.add(Tensor.reshape(starts(s, sizes[d], window[d], out[d]), rows),
      Tensor.reshape(construct.arange(0, window[d] - 1, {dtype = "i64", device = samples.device}), within))
    at = at and f.add(f.mul(at, sizes[d]), here) or here
  end
  return at
end

local function pool(name, nd, x, kernel_size, output_size, output_ratio, random_samples)
  if not op.is_operand(x) then op.helper.bad(name, 1, "x", "a tensor", x) end
  local all = Tensor.size(x)
  local lead = #all - nd
  if lead ~= 1 and lead ~= 2 then refuse(name, "x has %d dimensions, and must have %d, or %d with a batch", #all, nd + 1, nd + 2) end
  if not Tensor.is_floating_point(x) then refuse(name, "floats are pooled, not %s", x.dtype) end
  local window, sizes = each(name, "kernel_size", kernel_size, nd), {}
  for d, v in ipairs(all) do
    if not v then refuse(name, "the regions depend on all sizes, and dimension %d is open", d) end
    if d > lead then sizes[d - lead] = v end
  end
  if (output_size == nil) == (output_ratio == nil) then refuse(name, "one of output_size and output_ratio is wanted") end
  local out = each(name, output_size and "output_size" or "output_ratio", output_size or output_ratio, nd)
  if output_ratio then
    for d, ratio in ipairs(out) do
      if not (ratio > 0 and ratio < 1) then refuse(name, "output_ratio is %g, and must be between 0 and 1", ratio) end
      out[d] = math.floor(sizes[d] * ratio)
    end
  end
  for d = 1, nd do
    if window[d] % 1 ~= 0 or window[d] < 1 then refuse(name, "kernel_size is %g, and must be a whole number from 1 up", window[d]) end
    if out[d] % 1 ~= 0 or out[d] < 1 then refuse(name, "the output size along dimension %d is %g, and must be a whole number from 1 up", lead + d, out[d]) end
    if out[d] + window[d] - 1 > sizes[d] then
      refuse(name, "%d windows of %d do not begin at places of their own in the %d elements of dimension %d", out[d], window[d], sizes[d], lead + d)
    end
  end
  local batch, channels = lead == 2 and all[1] or 1, all[lead]
  local dtype = x.dtype == "f64" and "f64" or "f32"
  if random_samples == nil then
    if op.is_symbol(x) then refuse(name, "regions are not drawn within a graph or vmap: give random_samples") end
    random_samples = random.rand({batch, channels, nd}, {dtype = dtype, device = x.device})
  else
    if not lib.is_tensor(random_samples) then op.helper.bad(name, 5, "random_samples", "a tensor", random_samples) end
    local s = Tensor.size(random_samples)
    if #s ~= 3 or s[1] ~= batch or s[2] ~= channels or s[3] ~= nd then
      refuse(name, "random_samples have the sizes {%s}, and must have {%d, %d, %d}", table.concat(s, ", "), batch, channels, nd)
    end
    local inside = f.all(f.logical_and(f.ge(random_samples, 0), f.lt(random_samples, 1)))
    if not Tensor.is_floating_point(random_samples) or inside.device ~= "meta" and not Tensor.item(inside) then
      refuse(name, "random_samples are floats from 0 to below 1")
    end
    random_samples = Tensor.to(random_samples, dtype)
  end
  return no_grad(function()
    -- PyTorch's samples are of width and height for images, and of depth, height and width for volumes.
    local at = places(Tensor.reshape(random_samples, {-1, nd}), nd == 2, sizes, window, out)
    local result, flat, count = {}, {}, 1
    for d = 1, lead do result[d], flat[d] = all[d], all[d] end
    for d = 1, nd do result[lead + d], flat[lead + d], count = out[d], out[d], count * window[d] end
    flat[#flat], result[#result + 1] = flat[#flat] * count, count
    local elements = Tensor.reshape(f.max_pool_pick(x, Tensor.reshape(at, flat), nd), result)
    return f.squeeze(f.gather(Tensor.reshape(at, result), -1, f.argmax(elements, -1, true)), -1)
  end)
end

for nd = 2, 3 do
  local name = ("fractional_max_pool%dd"):format(nd)

  local function arguments(output_size, output_ratio, return_indices, random_samples)
    if type(output_size) == "table" and output_size[1] == nil then
      op.helper.read_options(name, output_size, KNOWN, ORDER)
      return output_size.output_size, output_size.output_ratio, output_size.return_indices, output_size.random_samples
    elseif type(output_ratio) == "table" and output_ratio[1] == nil then
      op.helper.read_options(name, output_ratio, KNOWN, ORDER)
      return output_size, output_ratio.output_ratio, output_ratio.return_indices, output_ratio.random_samples
    end
    return output_size, output_ratio, return_indices, random_samples
  end

  --- The largest element of each window, where windows begin at random steps that lead to output_size of them.
  ---@param x aijit.Tensor                          (C, H, W) or (N, C, H, W); with one more size for volumes
  ---@param kernel_size integer|integer[]
  ---@param output_size integer|integer[]|table?    or a table of what follows by name
  ---@param output_ratio number|number[]?           in place of output_size: that part of x's sizes
  ---@param return_indices boolean?                 also where in its channel, seen as one row, each was (i64, from 1)
  ---@param random_samples aijit.Tensor?            (N, C, 2) or (N, C, 3), from 0 to below 1; drawn unless given
  ---@return aijit.Tensor values
  ---@return aijit.Tensor? indices
  Tensor[name] = function(x, kernel_size, output_size, output_ratio, return_indices, random_samples)
    output_size, output_ratio, return_indices, random_samples = arguments(output_size, output_ratio, return_indices, random_samples)
    local at = pool(name, nd, x, kernel_size, output_size, output_ratio, random_samples)
    if return_indices then return f.max_pool_pick(x, at, nd), f.add(at, 1) end
    return (f.max_pool_pick(x, at, nd))
  end

  --- The same, with the indices.
  ---@return aijit.Tensor values
  ---@return aijit.Tensor indices
  Tensor[name .. "_with_indices"] = function(x, kernel_size, output_size, output_ratio, _, random_samples)
    output_size, output_ratio, _, random_samples = arguments(output_size, output_ratio, nil, random_samples)
    return Tensor[name](x, kernel_size, output_size, output_ratio, true, random_samples)
  end
  op.faces[name], op.faces[name .. "_with_indices"] = true, true
end

return Tensor
