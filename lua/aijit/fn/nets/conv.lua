--- Convolutions and pools of 1, 2 and 3 dimensions, channels first as everywhere in aijit: x is (N, C, *size), or (C, *size)
--- without a batch. Padding is "same" unless it is said: the size divided by the stride, rounded up.

local ai = require "aijit"
local argument = require "aijit.argument"
local common = require "aijit.fn.nets.common"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nets = {}

--- A number for each of n dimensions.
local function each(who, name, value, n)
  local list = {}
  for i = 1, n do
    local v = type(value) == "table" and value[i] or value
    if type(v) ~= "number" then raise(("%s: %s is wanted as a number, or a list of %d"):format(who, name, n)) end
    list[i] = v
  end
  return list
end

--- How much to put before and after each dimension.
local function padding_of(who, padding, sizes, kernel, stride, dilation)
  local before, after = {}, {}
  local kind = type(padding) == "string" and padding:lower() or "number"
  for i = 1, #sizes do
    local span = dilation[i] * (kernel[i] - 1)
    if kind == "valid" then before[i], after[i] = 0, 0
    elseif kind == "causal" then before[i], after[i] = span, 0
    elseif kind == "same" or kind == "circular" or kind == "reflect" or kind == "replicate" then
      local total = math.max((math.ceil(sizes[i] / stride[i]) - 1) * stride[i] + span + 1 - sizes[i], 0)
      before[i] = math.floor(total / 2)
      after[i] = total - before[i]
    else
      local p = each(who, "padding", padding, #sizes)[i]
      before[i], after[i] = p, p
    end
  end
  return before, after, (kind == "circular" or kind == "reflect" or kind == "replicate") and kind or "constant"
end

--- x padded, and the symmetric padding that is left to the op.
local function pad(x, before, after, mode, value)
  local even, list = mode == "constant" and value == 0, {}
  for i = #before, 1, -1 do
    even = even and before[i] == after[i]
    list[#list + 1], list[#list + 2] = before[i], after[i]
  end
  if even then return x, before end
  local none = {}
  for i = 1, #before do none[i] = 0 end
  for i = 1, #list do
    if list[i] > 0 then return (mode == "constant" and f.pad(x, list, mode, value) or f.pad(x, list, mode)), none end
  end
  return x, none
end

local function sizes_of(who, x, n)
  local rank = x:dim()
  if rank ~= n + 1 and rank ~= n + 2 then
    raise(("%s: the input has %d dimensions; (N, C%s) is wanted, or without N"):format(who, rank, (", size"):rep(n)))
  end
  local sizes = {}
  for i = 1, n do sizes[i] = x:size(rank - n + i) end
  return sizes, rank == n + 1
end

--- x with step - 1 zeros between its elements along each of the last dimensions.
local function stretched(x, sizes, steps)
  local n, more = #sizes, {}
  for i = 1, n do
    local step, dim = steps[i], x:dim() - n + i
    more[i] = (sizes[i] - 1) * step + 1
    if step > 1 then
      local gaps = {0, step - 1}
      for _ = i + 1, n do table.insert(gaps, 1, 0) table.insert(gaps, 1, 0) end
      x = f.pad(x:unsqueeze(dim + 1), gaps):flatten(dim, dim + 1):narrow(dim, 1, more[i])
    end
  end
  return x, more
end

local names = "same|valid|causal|circular|reflect|replicate"

--- The kind of a padding: one of some names, in any case, or numbers.
local function padding_kind(names_there_are)
  local known = {}
  for name in names_there_are:gmatch "[^|]+" do known[name] = true end
  return function(value)
    if type(value) == "string" and known[value:lower()] or argument.kinds.extra(value) == nil then return end
    return ("%s, or numbers from 0,"):format(names_there_are:gsub("|", ", "))
  end
end
argument.kinds.conv_padding, argument.kinds.plain_padding = padding_kind(names), padding_kind "same|valid"

local conv_arguments, transpose_arguments = {}, {}
for _, kind in ipairs{"1d", "2d", "3d", "general"} do
  conv_arguments["conv_" .. kind] = common.declare("conv_" .. kind, [[
    x out_channels kernel_size stride=1 padding:conv_padding=same dilation=1 input_dilation:kernel=1 groups=1 use_bias=true mask=none
    w_init=none b_init=none activation=none]])
  transpose_arguments["conv_transpose_" .. kind] = common.declare("conv_transpose_" .. kind,
    "x out_channels kernel_size stride=1 padding:plain_padding=same groups=1 use_bias=true w_init=none b_init=none activation=none")
end

local function conv(who, n, params, x, out_channels, kernel_size, o)
  o = conv_arguments[who]:options(o, x, out_channels, kernel_size)
  local sizes, single = sizes_of(who, x, n)
  if single then x = x:unsqueeze(1) end
  local kernel, stride, dilation = each(who, "kernel_size", kernel_size, n), each(who, "stride", o.stride, n), each(who, "dilation", o.dilation, n)
  x, sizes = stretched(x, sizes, each(who, "input_dilation", o.input_dilation, n))
  local channels = x:size(2)
  if channels % o.groups ~= 0 or out_channels % o.groups ~= 0 then
    raise(("%s: %d groups do not divide %d channels into %d"):format(who, o.groups, channels, out_channels))
  end
  local w = common.param(who, params, "kernel", {out_channels, channels / o.groups, unpack(kernel)}, {init = o.w_init})
  if o.mask then w = w * o.mask end
  local bias = o.use_bias and common.param(who, params, "bias", {out_channels}, {init = o.b_init or "zeros"}) or nil
  local before, after, mode = padding_of(who, o.padding, sizes, kernel, stride, dilation)
  local rest
  x, rest = pad(x, before, after, mode, 0)
  local y = f[("conv%dd"):format(n)](x, w, bias, {stride = stride, padding = rest, dilation = dilation, groups = o.groups})
  if single then y = y:squeeze(1) end
  return common.activate(who, y, o.activation)
end

local function conv_transpose(who, n, params, x, out_channels, kernel_size, o)
  o = transpose_arguments[who]:options(o, x, out_channels, kernel_size)
  local sizes, single = sizes_of(who, x, n)
  if single then x = x:unsqueeze(1) end
  local kernel, stride = each(who, "kernel_size", kernel_size, n), each(who, "stride", o.stride, n)
  local channels = x:size(2)
  if channels % o.groups ~= 0 or out_channels % o.groups ~= 0 then
    raise(("%s: %d groups do not divide %d channels into %d"):format(who, o.groups, channels, out_channels))
  end
  local w = common.param(who, params, "kernel", {channels, out_channels / o.groups, unpack(kernel)},
    {init = o.w_init, fan_in = channels / o.groups * ai.prod(kernel), fan_out = out_channels / o.groups * ai.prod(kernel)})
  local bias = o.use_bias and common.param(who, params, "bias", {out_channels}, {init = o.b_init or "zeros"}) or nil
  local same = type(o.padding) == "string" and o.padding:lower()
  local padding, more = same and 0 or each(who, "padding", o.padding, n), {}
  for i = 1, n do more[i] = same == "same" and math.max(stride[i] - kernel[i], 0) or 0 end
  local y = f[("conv_transpose%dd"):format(n)](x, w, bias, {stride = stride, padding = padding, output_padding = more, groups = o.groups})
  if same == "same" then                                 -- the middle: as many as the input has, times the stride
    for i = 1, n do
      local cut = math.max(math.floor((kernel[i] - stride[i]) / 2), 0)
      y = f.narrow(y, i + 2, cut + 1, sizes[i] * stride[i])
    end
  end
  if single then y = y:squeeze(1) end
  return common.activate(who, y, o.activation)
end

for n = 1, 3 do
  local name, transposed = ("conv_%dd"):format(n), ("conv_transpose_%dd"):format(n)

  --- (N, in, *size) -> (N, out_channels, *size'). kernel (out, in / groups, *kernel_size), bias (out). mask is multiplied to the
  --- kernel. dilation spreads the kernel, input_dilation x, by zeros between. padding: "same", "valid", "causal", "circular",
  --- "reflect", "replicate", or numbers.
  nets[name] = function(params, x, out_channels, kernel_size, o) return conv(name, n, params, x, out_channels, kernel_size, o) end

  --- The gradient of conv with respect to its input, as a net: "same" gives the size times the stride, "valid" all.
  --- kernel (in, out / groups, *kernel_size).
  nets[transposed] = function(params, x, out_channels, kernel_size, o)
    return conv_transpose(transposed, n, params, x, out_channels, kernel_size, o)
  end
end

--- Convolutions of as many dimensions as kernel_size is a list of, or, for a number, as x has besides N and C.
for name, one in pairs{conv_general = conv, conv_transpose_general = conv_transpose} do
  nets[name] = function(params, x, out_channels, kernel_size, o)
    local declared = conv_arguments[name] or transpose_arguments[name]
    declared:options(o, x, out_channels, kernel_size)
    local n = type(kernel_size) == "table" and #kernel_size or x:dim() - 2
    if n < 1 or n > 3 then raise(("%s: of %d dimensions; there are convolutions of 1, 2 and 3"):format(name, n)) end
    return one(name, n, params, x, out_channels, kernel_size, o)
  end
end

-- -- Pools ---------------------------------------------------------------------------------------------------------

local pool_arguments = {}
for _, name in ipairs{"max_pool", "avg_pool"} do
  pool_arguments[name] = common.declare(name, "x window:kernel stride padding:conv_padding=same")
end

--- A list of n numbers is a window on the last n dimensions; one number on all but the first two, N and C.
local function window_of(who, x, window, stride)
  local n = type(window) == "table" and #window or x:dim() - 2
  if n < 1 or n > 3 or n > x:dim() then
    raise(("%s: a window of %d dimensions on an input of %d; one number means all but the first two, a list the last ones"):format(who, n, x:dim()))
  end
  local lead, sizes = {}, {}
  for i = 1, x:dim() do
    local to = i <= x:dim() - n and lead or sizes
    to[#to + 1] = x:size(i)
  end
  return n, each(who, "window", window, n), each(who, "stride", stride or 1, n), lead, sizes
end

local function shaped(y, lead, n)
  local shape = {unpack(lead)}
  for i = 1, n do shape[#shape + 1] = y:size(i + 2) end
  return y:reshape(shape)
end

--- The largest element of each window. A number as window leaves N and C alone; a list covers the last dimensions.
---@param _ table params: it has none
---@param x aijit.Tensor
---@param window integer|integer[]
---@param stride? integer|integer[] 1
---@param o? {padding: any} "same"
---@return aijit.Tensor
function nets.max_pool(_, x, window, stride, o)
  o = pool_arguments.max_pool:options(o, x, window, stride or 1)
  local n, kernel, step, lead, sizes = window_of("max_pool", x, window, stride)
  local ones = each("max_pool", "dilation", 1, n)
  local before, after = padding_of("max_pool", o.padding, sizes, kernel, step, ones)
  local flat = pad(x:reshape{ai.prod(lead), 1, unpack(sizes)}, before, after, "constant", -math.huge)
  return shaped((f[("max_pool%dd"):format(n)](flat, kernel, {stride = step})), lead, n)
end

--- The mean of each window; what was padded is not counted.
---@param _ table params: it has none
---@return aijit.Tensor
function nets.avg_pool(_, x, window, stride, o)
  o = pool_arguments.avg_pool:options(o, x, window, stride or 1)
  local n, kernel, step, lead, sizes = window_of("avg_pool", x, window, stride)
  local before, after = padding_of("avg_pool", o.padding, sizes, kernel, step, each("avg_pool", "dilation", 1, n))
  local op = f[("avg_pool%dd"):format(n)]
  local flat, rest = pad(x:reshape{ai.prod(lead), 1, unpack(sizes)}, before, after, "constant", 0)
  local y = op(flat, kernel, {stride = step, padding = rest})
  local count, rest_too = pad(ai.ones({1, 1, unpack(sizes)}, {dtype = x.dtype, device = x.device}), before, after, "constant", 0)
  return shaped(y / op(count, kernel, {stride = step, padding = rest_too}), lead, n)
end

return nets
