--- What constructors and functions take: declared in one text, checked by name, type and range; an error names the argument.
---
---     local declared = argument.declare("m.fc", "n1? n2:count actv:actv=none bias=true dropout:probability=none")
---     local o = declared:read({}, ...)              -- a constructor's arguments, by place or by name: o.n2, o.bias
---     local o = declared:options(options, n2)       -- a function's: its places checked, its options with their defaults
---
--- A word is name[:kind][@field][?|=default]. `name` is required, `name?` inferred, `name=none` may be left out or false.
--- A kind is one from below, or words to choose from, a|b|c. Without one it is what the name means everywhere, or the type of
--- the default. The field is where an object keeps an argument whose name a method of it has.
---
--- Positional arguments are taken in order; when there are only as many as there are required ones, those that can be inferred
--- are left out: Conv2d(1, 32, 3), Conv2d(32, 3), Conv2d(32, {kernel_size = 3}). The last may be a table of named ones.

local nearest = require "aijit.nearest"
local class = require "aijit.class"
local op = require "aijit.bindings.op"
local registry = require "aijit.nn.registry"
local raise = require("aijit.bindings.lib").raise

local argument = {}

--- All declarations, by the call they are of: "nn.Conv2d", "m.fc", "nets.linear".
---@type table<string, aijit.Declaration>
argument.declared = {}

-- -- Kinds ---------------------------------------------------------------------------------------------------------

local function whole(value, from) return type(value) == "number" and value >= from and value % 1 == 0 and value < 2 ^ 53 end
local function finite(value) return type(value) == "number" and value == value and math.abs(value) < math.huge end
local function plain(value) return type(value) == "table" and getmetatable(value) == nil end
local function callable(value)
  return type(value) == "function" or type(value) == "table" and (getmetatable(value) or {}).__call ~= nil
end

local function list_of(value, n, test, ...)
  if not plain(value) or #value == 0 or n and #value ~= n then return false end
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

local function number_where(test, text)
  return function(value) if not (finite(value) and test(value)) then return text end end
end

local function numbers(text, n, test)
  return function(value) if not list_of(value, n, function(v) return finite(v) and (not test or test(v)) end) then return text end end
end

--- kind -> a function of a value that returns what is wanted, when the value is not that.
---@type table<string, fun(value: any, n: integer?): string?>
local kinds = {
  count = function(value) if not whole(value, 1) then return "a whole number from 1" end end,
  size = function(value) if not whole(value, 0) then return "a whole number from 0" end end,
  integer = function(value) if not (finite(value) and value % 1 == 0) then return "a whole number" end end,
  position = number_where(function(v) return v % 1 == 0 and v ~= 0 end, "a dimension, from 1, or -1 for the last,"),
  kernel = window(1),
  stride = window(1),
  padding = window(0, {same = true, valid = true}),
  extra = window(0),
  part = number_where(function(v) return v >= 0 and v < 1 end, "a probability, from 0 to below 1"),
  probability = number_where(function(v) return v >= 0 and v <= 1 end, "a probability, between 0 and 1"),
  positive = number_where(function(v) return v > 0 end, "a number above 0"),
  not_negative = number_where(function(v) return v >= 0 end, "a number from 0 up"),
  at_least_one = number_where(function(v) return v >= 1 end, "a number from 1 up"),
  share = number_where(function(v) return v > 0 and v <= 1 end, "a number above 0, at most 1"),
  finite = number_where(function() return true end, "a number"),
  number = function(value) if type(value) ~= "number" or value ~= value then return "a number" end end,
  momentum = function(value)
    if value ~= "none" and not (finite(value) and value >= 0 and value <= 1) then return "a number between 0 and 1, or \"none\" for the plain mean" end
  end,
  slopes = function(value) if value ~= "channels" and not whole(value, 1) then return "a whole number from 1, or \"channels\"" end end,
  shape = function(value) if not whole(value, 0) and not list_of(value, nil, whole, 0) then return "a size or a list of sizes" end end,
  sizes = function(value)
    if not list_of(value, nil, function(v) return v == -1 or whole(v, 0) end) then return "a list of sizes, one of which may be -1," end
  end,
  counts = function(value) if not list_of(value, nil, whole, 1) then return "a list of whole numbers from 1" end end,
  count_or_counts = window(1),
  factors = function(value)
    if not (finite(value) and value > 0) and not list_of(value, nil, function(v) return finite(v) and v > 0 end) then
      return "a number above 0, or a list of them"
    end
  end,
  margins = function(value)
    if not (finite(value) and value % 1 == 0) and not list_of(value, 2, function(v) return finite(v) and v % 1 == 0 end) then
      return "a whole number, or {before, after}"
    end
  end,
  taps = numbers("a list of numbers"),
  betas = numbers("two numbers from 0 to below 1", 2, function(v) return v >= 0 and v < 1 end),
  betas3 = numbers("three numbers from 0 to below 1", 3, function(v) return v >= 0 and v < 1 end),
  coefficients = numbers("three numbers", 3),
  range = numbers("{smallest, largest}, numbers above 0,", 2, function(v) return v > 0 end),
  patterns = function(value)
    if type(value) ~= "string" and not (plain(value) and (#value == 0 or list_of(value, nil, function(v) return type(v) == "string" end))) then
      return "a Lua pattern of names, or a list of them"
    end
  end,
  schedules = function(value)
    if not list_of(value, nil, function(v) return type(v) == "table" and type(v.factor) == "function" end) then return "a list of schedules" end
  end,
  steps = numbers("a list of numbers of steps", nil, function(v) return v >= 0 end),
  levels = function(value) if not list_of(value, nil, whole, 2) then return "a list of whole numbers from 2" end end,
  names = function(value) if type(value) ~= "table" then return "a table" end end,
  states = function(value) if not list_of(value, 2, op.is_operand) then return "a list of two tensors, {h, c}," end end,
  tensor = function(value) if not op.is_operand(value) then return "a tensor" end end,
  values = function(value)
    local numeric
    function numeric(v) return finite(v) or list_of(v, nil, numeric) end
    if not op.is_operand(value) and not list_of(value, nil, numeric) then return "a tensor, or a list of numbers," end
  end,
  flag = function(value) if type(value) ~= "boolean" then return "true or false" end end,
  text = function(value) if type(value) ~= "string" then return "a string" end end,
  module = function(value) if not registry.is_module(value) then return "a module" end end,
  layer = function(value) if not registry.is_module(value) and type(value) ~= "function" then return "a module or a function" end end,
  ["function"] = function(value) if not callable(value) then return "a function" end end,
  activation = function(value)
    if type(value) ~= "string" and (not callable(value) or class.is_class(value)) then return "the name of an activation, a module or a function" end
  end,
  noise = function(value) if type(value) ~= "boolean" and not (finite(value) and value >= 0) then return "true, false or a number from 0 up" end end,
  initializer = function(value)
    if type(value) ~= "string" and not finite(value) and not callable(value) and not op.is_operand(value) and not plain(value) then
      return "an initialiser: a name, {name, option = ...}, a function, a number or a tensor,"
    end
  end,
  anything = function() end,
}
argument.kinds = kinds

local enumerations = {}

--- The kind of one of several words.
local function one_of(text)
  if not enumerations[text] then
    local list, known, names = {}, {}, {}
    for word in text:gmatch "[^|]+" do
      list[#list + 1], known[word], names[#names + 1] = word, true, ("%q"):format(word)
    end
    local wanted = table.concat(names, ", ", 1, #names - 1) .. " or " .. names[#names]
    enumerations[text] = function(value)
      if known[value] then return end
      local near = type(value) == "string" and nearest.find(value, list) or {}
      return wanted, #near > 0 and "did you mean '" .. table.concat(near, "' or '") .. "'?" or nil
    end
  end
  return enumerations[text]
end

kinds.reduction = one_of "none|mean|sum"
kinds.reduction_of_batches = one_of "none|mean|sum|batchmean"
kinds.padding_mode = one_of "zeros|reflect|replicate|circular"
kinds.nonlinearity = one_of "tanh|relu"
kinds.approximate = one_of "exact|none|tanh"
kinds.float_dtype = one_of "f64|f32|f16|bf16"

--- What a name means wherever it stands.
local by_name = {}
local function mean(kind, names) for name in names:gmatch "%S+" do assert(kinds[kind], kind) by_name[name] = kind end end
mean("size", "in_features out_features in1_features in2_features input_size proj_size")
mean("count", "in_channels out_channels num_features num_channels num_groups groups hidden_size num_layers num_embeddings embedding_dim "
  .. "embed_dim num_heads num_kv_heads head_dim kdim vdim d_model nhead dim_feedforward max_len codebook_size hidden channels n z_dim "
  .. "group_size nc up upscale_factor downscale_factor padding_idx blank kmeans_iters max_kv_cache_len vocab_size nc1 nc2 n1 n2 n_out n_heads")
mean("kernel", "kernel_size")
mean("stride", "stride dilation output_size")
mean("extra", "size output_padding")
mean("factors", "scale_factor")
mean("margins", "pad")
mean("taps", "kernel")
mean("levels", "levels")
mean("not_negative", "warmup")
mean("number", "limit threshold value gain fixed")
mean("integer", "ignore_index")
mean("text", "pattern")
mean("names", "axes")
mean("padding", "padding")
mean("probability", "dropout label_smoothing decay rho")
mean("betas", "betas")
mean("not_negative", "eps layer_norm_eps std lr weight_decay alpha dampening lr_decay momentum_decay initial_accumulator_value adamw_lr adamw_eps "
  .. "adamw_weight_decay r weight_lr_power")
mean("positive", "base rotary_base max_period temperature norm_type max_norm scale")
mean("momentum", "momentum")
mean("slopes", "num_parameters")
mean("shape", "normalized_shape")
mean("sizes", "sizes")
mean("position", "start_dim end_dim")
mean("activation", "activation activation_final actv")
mean("module", "norm module")
mean("values", "weight pos_weight")
mean("tensor", "x queries keys values mask")
mean("initializer", "w_init u_init b_init scale_init offset_init")
mean("reduction", "reduction")
mean("padding_mode", "padding_mode padtype")
mean("nonlinearity", "nonlinearity")
mean("approximate", "approximate")

local by_type = {number = "number", string = "text", boolean = "flag"}

-- -- Declarations --------------------------------------------------------------------------------------------------

---@class aijit.Argument
---@field name string
---@field field string of an object, where it is kept
---@field kind string|function|nil as it was declared
---@field inferred boolean
---@field required boolean
---@field default any

---@class aijit.Declaration
---@field call string as a program writes it: "nn.Conv2d"
---@field who string its last part, as errors name it: "Conv2d"
---@field list aijit.Argument[]
---@field named table<string, aijit.Argument>
---@field common table<string, string> kinds of arguments that are no fields: dtype and device of layers
---@field leading string? what comes before the arguments: "params"
---@field dims integer? of windows: 2 of Conv2d
local Declaration = {__name = "aijit.Declaration"}
Declaration.__index = Declaration

local words = {["true"] = true, ["false"] = false}

local function value_of(text)
  if words[text] ~= nil then return words[text] end
  local inside = text:match "^{(.*)}$"
  if not inside then return tonumber(text) or text end
  local list = {}
  for word in inside:gmatch "[^,]+" do list[#list + 1] = tonumber(word) or word end
  return list
end

local function parse(text)
  local list = {}
  for word in text:gmatch "%S+" do
    local name, rest = word:match "^([%a_][%w_]*)(.*)$"
    local kind, field, mark, default = rest:match "^:?([%w_|]*)@?([%w_]*)([?=]?)(.*)$"
    if not name or mark == "" and default ~= "" then error("argument.declare: '" .. word .. "' is no declaration", 3) end
    list[#list + 1] = {
      name = name, field = field ~= "" and field or name, kind = kind ~= "" and kind or nil, inferred = mark == "?", required = mark == "",
    }
    if mark == "=" and default ~= "none" then list[#list].default = value_of(default) end
  end
  return list
end

--- Declares what a call takes.
---@param call string as a program writes it: "nn.Conv2d"
---@param text string|aijit.Argument[]
---@param common? table<string, string> kinds of named arguments that read() leaves to its caller
---@param leading? string what stands before these arguments in a call: "params"
---@return aijit.Declaration
function argument.declare(call, text, common, leading)
  local list, named, defaults, positional = type(text) == "string" and parse(text) or text, {}, {}, {}
  for _, one in ipairs(list) do
    named[one.name], defaults[one.name] = one, one.default
    if one.required then positional[#positional + 1] = one end
  end
  local declared = setmetatable({
    call = call, who = call:match "[^.:]*$", list = list, named = named, defaults = defaults, positional = positional, common = common or {},
    leading = leading,
    dims = tonumber(call:match "(%d)d$"),
  }, Declaration)
  argument.declared[call] = declared
  return declared
end

--- The kind of an argument: as declared, else by its name, else by the type of its default; nil: anything.
---@param one aijit.Argument
---@param rules? table<string, string|function> a class's own, which come first
---@return string|function|nil
function Declaration:kind_of(one, rules)
  local kind = rules and rules[one.name] or one.kind or by_name[one.name]
  if not kind and one.name == "dim" then kind = one.default ~= nil and "position" or "count" end
  return kind or by_type[type(one.default)]
end

local function test_of(kind)
  if type(kind) == "function" then return kind end
  return kinds[kind] or kind:find("|", 1, true) and one_of(kind) or error("argument.declare: there is no kind '" .. kind .. "'")
end

--- What is wanted of an argument, where a value is not it.
---@param one aijit.Argument
---@param value any not nil
---@param rules? table<string, string|function>
---@return string? wanted nil: the value is right
---@return string? hint
function Declaration:wanted(one, value, rules)
  local kind = self:kind_of(one, rules)
  if kind then return test_of(kind)(value, self.dims) end
end

--- How it may be called, for errors.
---@return string
function Declaration:usage()
  local positional, named = {self.leading}, {}
  for _, one in ipairs(self.list) do
    if one.required then positional[#positional + 1] = one.name
    elseif one.inferred then positional[#positional + 1] = "[" .. one.name .. "]"
    else named[#named + 1] = one.name end
  end
  if #named > 0 then positional[#positional + 1] = "{" .. table.concat(named, ", ") .. "}" end
  return ("%s(%s)"):format(self.call, table.concat(positional, ", "))
end

--- A value as an error names it.
---@param value any
---@return string
function argument.described(value)
  if type(value) == "string" then return ("%q"):format(#value > 60 and value:sub(1, 60) .. "..." or value) end
  if type(value) == "number" then return ("%.14g"):format(value) end
  if type(value) == "boolean" or value == nil then return tostring(value) end
  if op.is_operand(value) then return "a tensor" end
  if not plain(value) then
    local meta = type(value) == "table" and getmetatable(value)
    return "a " .. (type(meta) == "table" and type(meta.__name) == "string" and meta.__name or type(value))
  end
  local parts, n = {}, 0
  for key in pairs(value) do
    n = n + 1
    if type(key) ~= "number" then return "a table" end
  end
  if n ~= #value or n > 8 then return "a table" end
  for i = 1, n do parts[i] = plain(value[i]) and "{...}" or argument.described(value[i]) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

--- Raises an error about this call, and shows how it may be called.
---@param who string?
function Declaration:refuse(who, text, ...)
  raise(("%s: %s\n  usage: %s"):format(who or self.who, text:format(...), self:usage()))
end

local function refuse_value(self, who, name, value, wanted, hint)
  self:refuse(who, "%s is %s; %s is wanted%s", name, argument.described(value), wanted, hint and ": " .. hint or "")
end

--- Checks one argument by its declaration.
---@generic T
---@param name string
---@param value T
---@return T
function Declaration:check(name, value)
  local one = self.named[name]
  local wanted, hint = self:wanted(one, value)
  if wanted then refuse_value(self, nil, name, value, wanted, hint) end
  return value
end

local function is_options(value) return plain(value) and value[1] == nil end

local function refuse_name(self, who, name, only_options)
  local names = {}
  for _, one in ipairs(self.list) do if not (only_options and one.required) then names[#names + 1] = one.name end end
  self:refuse(who, "it has no argument %s: %s", type(name) == "string" and "'" .. name .. "'" or argument.described(name),
    nearest.hint(tostring(name), names))
end

--- An argument that is not given when it is false: one without a default, and the name of an activation or a norm.
local function is_off(self, one, value)
  if value ~= false then return false end
  local kind = self:kind_of(one)
  return kind ~= "flag" and kind ~= "noise" and (one.default == nil and not one.required or kind == "activation" or kind == "actv" or kind == "model_norm")
end

--- Reads a constructor's arguments into the fields of `into`.
---@generic T: table
---@param into T an object of a class, whose name errors have then; or a table
---@param ... any
---@return T into
---@return table? options the table of named arguments, if there is one
function Declaration:read(into, ...)
  local cls = getmetatable(into)
  local who, rules = cls and cls.__name, cls and cls.argument_rules
  local n = select("#", ...)
  local options = n > 0 and select(n, ...) or nil
  if is_options(options) then n = n - 1 else options = nil end
  for name in pairs(options or {}) do
    if not self.named[name] and not self.common[name] then refuse_name(self, who, name) end
  end
  local free, sizes, inferred = {}, 0, 0
  for _, one in ipairs(self.list) do
    local given = options and options[one.name]
    if given ~= nil then
      rawset(into, one.field, given)
    else
      free[#free + 1] = one
      if one.required or one.inferred then sizes = sizes + 1 end
      if one.inferred then inferred = inferred + 1 end
    end
  end
  if n > #free then self:refuse(who, "%d arguments are too many", n) end
  local skip_inferred = n == sizes - inferred
  local i = 1
  for _, one in ipairs(free) do
    local value
    if i <= n and not (skip_inferred and one.inferred) then
      value = select(i, ...)
      i = i + 1
    elseif one.required then
      self:refuse(who, "arguments are missing: %s", one.name)
    end
    if value == nil then value = one.default end
    if value == nil and one.required then self:refuse(who, "%s is nil; %s is wanted", one.name, (self:wanted(one, value, rules)) or "a value") end
    rawset(into, one.field, value)
  end
  for _, one in ipairs(self.list) do
    local value = rawget(into, one.field)
    if is_off(self, one, value) then
      rawset(into, one.field, nil)
    elseif value ~= nil and value ~= one.default then
      local wanted, hint = self:wanted(one, value, rules)
      if wanted then refuse_value(self, who, one.name, value, wanted, hint) end
    end
  end
  for name, kind in pairs(self.common) do
    local value = options and options[name]
    local wanted = value ~= nil and kinds[kind](value)
    if wanted then refuse_value(self, who, name, value, wanted) end
  end
  return into, options
end

--- A function's options, with their defaults, and its required arguments, which are checked only. The table is to be read.
---@param options table? as they were given; nil: the defaults
---@param ... any the required arguments, in order
---@return table
function Declaration:options(options, ...)
  local positional = self.positional
  for i = 1, #positional do
    local one, value = positional[i], (select(i, ...))
    local test = one.test
    if not test then
      test = test_of(self:kind_of(one) or "anything")
      one.test = test
    end
    local wanted, hint = test(value, self.dims)
    if wanted then refuse_value(self, nil, one.name, value, wanted, hint) end
  end
  if options == nil then return self.defaults end
  if not plain(options) then self:refuse(nil, "the options are %s; a table is wanted", argument.described(options)) end
  local out = {}
  for name, value in pairs(self.defaults) do out[name] = value end
  for name, value in pairs(options) do
    local one = self.named[name]
    if not one or one.required then refuse_name(self, nil, name, true) end
    if is_off(self, one, value) then out[name] = nil
    else
      local wanted, hint = self:wanted(one, value)
      if wanted then refuse_value(self, nil, name, value, wanted, hint) end
      out[name] = value
    end
  end
  return out
end

--- Checks one value, of a call that has no declaration: an element of a list, a method's argument.
---@generic T
---@param who string
---@param name string
---@param kind string
---@param value T
---@return T
function argument.check(who, name, kind, value)
  local wanted, hint = test_of(kind)(value)
  if wanted then raise(("%s: %s is %s; %s is wanted%s"):format(who, name, argument.described(value), wanted, hint and ": " .. hint or "")) end
  return value
end

return argument
