--- What the arguments of layers may be, by their names: one word means one thing wherever it stands.
---
--- An argument that is not listed takes the type of its default: a number, a string, true or false. A class may say
--- otherwise: Class.argument_rules = {stride = "positive"}, a kind from below or a function that returns what is wanted.

local registry = require "aijit.nn.registry"
local op = require "aijit.bindings.op"

local argument = {}

local function whole(value, from) return type(value) == "number" and value >= from and value % 1 == 0 and value < 2 ^ 53 end
local function finite(value) return type(value) == "number" and value == value and math.abs(value) < math.huge end

local function list_of(value, n, test, ...)
  if type(value) ~= "table" or getmetatable(value) ~= nil or #value == 0 or n and #value ~= n then return false end
  for _, element in ipairs(value) do if not test(element, ...) then return false end end
  return true
end

--- One whole number, or one for each of n dimensions.
local function window(from, words)
  return function(value, n)
    if whole(value, from) or words and words[value] then return end
    if list_of(value, n, whole, from) then return end
    local many = n and n > 1 and (" or a list of %d"):format(n) or n and "" or " or a list of them"
    local named = words and ", \"same\" or \"valid\"" or ""
    return ("a whole number from %d%s%s"):format(from, many, named)
  end
end

local kinds = {
  count = function(value) if not whole(value, 1) then return "a whole number from 1" end end,
  size = function(value) if not whole(value, 0) then return "a whole number from 0" end end,
  position = function(value) if not (finite(value) and value % 1 == 0 and value ~= 0) then return "a dimension, from 1, or -1 for the last," end end,
  kernel = window(1),
  stride = window(1),
  padding = window(0, {same = true, valid = true}),
  extra = window(0),
  part = function(value) if not (finite(value) and value >= 0 and value < 1) then return "a probability, from 0 to below 1" end end,
  probability = function(value) if not (finite(value) and value >= 0 and value <= 1) then return "a probability, between 0 and 1" end end,
  positive = function(value) if not (finite(value) and value > 0) then return "a number above 0" end end,
  not_negative = function(value) if not (finite(value) and value >= 0) then return "a number from 0 up" end end,
  number = function(value) if type(value) ~= "number" or value ~= value then return "a number" end end,
  momentum = function(value)
    if value ~= "none" and not (finite(value) and value >= 0 and value <= 1) then return "a number between 0 and 1, or \"none\" for the plain mean" end
  end,
  slopes = function(value) if value ~= "channels" and not whole(value, 1) then return "a whole number from 1, or \"channels\"" end end,
  shape = function(value) if not whole(value, 0) and not list_of(value, nil, whole, 0) then return "a size or a list of sizes" end end,
  sizes = function(value)
    if not list_of(value, nil, function(v) return v == -1 or whole(v, 0) end) then return "a list of sizes, one of which may be -1," end
  end,
  activation = function(value)
    if type(value) ~= "string" and type(value) ~= "function" and not registry.is_module(value) then
      return "the name of an activation, or a function"
    end
  end,
  factors = function(value)
    if not (finite(value) and value > 0) and not list_of(value, nil, function(v) return finite(v) and v > 0 end) then
      return "a number above 0, or a list of them"
    end
  end,
  margins = function(value)
    if not (finite(value) and value % 1 == 0) and not list_of(value, 2, finite) then return "a whole number, or {before, after}" end
  end,
  taps = function(value) if not list_of(value, nil, finite) then return "a list of numbers" end end,
  levels = function(value) if not list_of(value, nil, whole, 2) then return "a list of whole numbers from 2" end end,
  integer = function(value) if not (finite(value) and value % 1 == 0) then return "a whole number" end end,
  names = function(value) if type(value) ~= "table" then return "a table" end end,
  tensor = function(value) if not op.is_operand(value) then return "a tensor" end end,
  flag = function(value) if type(value) ~= "boolean" then return "true or false" end end,
  text = function(value) if type(value) ~= "string" then return "a string" end end,
  anything = function() end,
}

local function one_of(...)
  local names, known = {...}, {}
  for i, name in ipairs(names) do names[i], known[name] = ("%q"):format(name), true end
  return function(value) if not known[value] then return table.concat(names, ", ", 1, #names - 1) .. " or " .. names[#names] end end
end
kinds.reduction = one_of("none", "mean", "sum")
kinds.reduction_of_batches = one_of("none", "mean", "sum", "batchmean")
kinds.padding_mode = one_of("zeros", "reflect", "replicate", "circular")
kinds.nonlinearity = one_of("tanh", "relu")
kinds.approximate = one_of("exact", "none", "tanh")

local rules = {}
local function rule(kind, names) for name in names:gmatch "%S+" do rules[name] = assert(kinds[kind], kind) end end
rule("size", "in_features out_features in1_features in2_features input_size proj_size")
rule("count", "in_channels out_channels num_features num_channels num_groups groups hidden_size num_layers num_embeddings embedding_dim "
  .. "embed_dim num_heads num_kv_heads head_dim kdim vdim d_model nhead dim_feedforward max_len codebook_size hidden channels n z_dim "
  .. "group_size nc up upscale_factor downscale_factor padding_idx blank kmeans_iters")
rule("kernel", "kernel_size")
rule("stride", "stride dilation output_size")
rule("extra", "size")
rule("factors", "scale_factor")
rule("margins", "pad")
rule("taps", "kernel")
rule("levels", "levels")
rule("number", "limit threshold value gain fixed")
rule("integer", "ignore_index")
rule("text", "pattern")
rule("names", "axes")
rule("padding", "padding")
rule("extra", "output_padding")
rule("probability", "dropout label_smoothing decay")
rule("not_negative", "eps layer_norm_eps std")
rule("positive", "base max_period temperature norm_type max_norm scale")
rule("momentum", "momentum")
rule("slopes", "num_parameters")
rule("shape", "normalized_shape")
rule("sizes", "sizes")
rule("position", "start_dim end_dim")
rule("activation", "activation actv")
rule("tensor", "weight pos_weight")
rule("reduction", "reduction")
rule("padding_mode", "padding_mode")
rule("nonlinearity", "nonlinearity")
rule("approximate", "approximate")

local by_type = {number = kinds.number, string = kinds.text, boolean = kinds.flag}

--- What is wanted of an argument, where a value is not it.
---@param cls table a class of layers
---@param declared aijit.nn.Argument
---@param value any not nil
---@return string? wanted nil: the value is right
function argument.wanted(cls, declared, value)
  local name = declared.name
  local given = cls.argument_rules and cls.argument_rules[name]
  local test = given and (kinds[given] or given) or rules[name]
  if not test and name == "dim" then test = declared.default ~= nil and kinds.position or kinds.count end
  if not test then test = by_type[type(declared.default)] end
  if not test then return nil end
  return test(value, tonumber(cls.__name:match "(%d)d$"))
end

return argument
