--- New tensors: from Lua values and pointers, filled with numbers, random; and back to tables and strings.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local device = require "aijit.bindings.device"
local Tensor = require "aijit.bindings.tensor"
local C, ffi = lib.C, lib.ffi
local f = op.functions

local construct = {}

---@class aijit.TensorOptions
---@field dtype string?          "f32" unless the function says otherwise
---@field device string|integer? the device in scope
---@field requires_grad boolean?

local argument = require "aijit.bindings.argument"
local read, finish, shape = argument.read, argument.finish, argument.shape
local OPTIONS, OPTION_NAMES = argument.OPTIONS, argument.NAMES
local NONE = ffi.new "aj_ints"

---@param ... any  sizes, as numbers or in a table, then options
---@return aijit.Tensor  uninitialised
function construct.empty(...)
  local d, where, o = read("empty", C.AJ_F32, ...)
  return finish(lib.check(C.aj_empty(d, shape, where), C.aj_empty, d, shape, where), o)
end
---@return aijit.Tensor
function construct.zeros(...)
  local d, where, o = read("zeros", C.AJ_F32, ...)
  return finish(lib.check(C.aj_full(d, shape, where, 0), C.aj_full, d, shape, where, 0), o)
end
---@return aijit.Tensor
function construct.ones(...)
  local d, where, o = read("ones", C.AJ_F32, ...)
  return finish(lib.check(C.aj_full(d, shape, where, 1), C.aj_full, d, shape, where, 1), o)
end
--- A tensor of these sizes (a table), every element `value`.
---@param sizes integer[]
---@param value number|boolean
---@param o aijit.TensorOptions?
---@return aijit.Tensor
function construct.full(sizes, value, o)
  if type(sizes) == "number" then sizes = {sizes} end
  local default = C.AJ_F32
  if type(value) == "boolean" then default, value = C.AJ_BOOL, value and 1 or 0 end
  if type(value) ~= "number" then op.helper.bad("full", 2, "value", "a number", value) end
  local d, where
  d, where, o = read("full", default, sizes, o)
  return finish(lib.check(C.aj_full(d, shape, where, value), C.aj_full, d, shape, where, value), o)
end

for _, name in ipairs {"empty", "zeros", "ones"} do
  construct[name .. "_like"] = function(t, o)
    if op.wants_whole(t) then return construct.full_like(t, name == "ones" and 1 or 0, o) end
    o = o or {}
    return construct[name](Tensor.size(t), {dtype = o.dtype or t.dtype, device = o.device or t.device, requires_grad = o.requires_grad})
  end
end
--- A tensor of the sizes, dtype and device of t, every element `value`.
---@param t aijit.Tensor
---@param value number|boolean
---@param o aijit.TensorOptions?
---@return aijit.Tensor
function construct.full_like(t, value, o)
  o = o or {}
  if op.wants_whole(t) then                              -- a placeholder: every element is equal to itself, or NaN and is not
    local y = t:masked_fill(t:eq(t), value):masked_fill(t:ne(t), value)
    return o.dtype and y:to(o.dtype) or y
  end
  return construct.full(Tensor.size(t), value, {dtype = o.dtype or t.dtype, device = o.device or t.device, requires_grad = o.requires_grad})
end

--- Numbers from first to last, both ends included, by steps. One argument: from 1.
---@param first number
---@param last number?
---@param step number?
---@param o aijit.TensorOptions?  dtype: "i64" when all three are whole numbers
---@return aijit.Tensor
function construct.arange(first, last, step, o)
  if type(last) == "table" then last, step, o = nil, nil, last end
  if type(step) == "table" then step, o = nil, step end
  if last == nil then first, last = 1, first end
  step = step or 1
  if type(first) ~= "number" or type(last) ~= "number" or type(step) ~= "number" then lib.raise "arange: first, last and step are numbers" end
  if step == 0 then lib.raise "arange: the step is 0" end
  local whole = first % 1 == 0 and last % 1 == 0 and step % 1 == 0
  local d = o and o.dtype and lib.dtype(o.dtype) or (whole and C.AJ_I64 or C.AJ_F32)
  local n = math.max(0, math.floor((last - first) / step * (1 + 1e-12) + 1e-12) + 1)
  return finish(lib.check(C.aj_arange(d, device.number(o and o.device), first, step, n), C.aj_arange, d, device.number(o and o.device), first, step, n), o)
end

--- `steps` numbers from first to last, evenly spaced, both ends included.
---@param first number
---@param last number
---@param steps integer
---@param o aijit.TensorOptions?
---@return aijit.Tensor
function construct.linspace(first, last, steps, o)
  if type(first) ~= "number" or type(last) ~= "number" or type(steps) ~= "number" then lib.raise "linspace: first, last and steps are numbers" end
  local d, where = read("linspace", C.AJ_F32, {}, o)
  return finish(lib.check(C.aj_linspace(d, where, first, last, steps), C.aj_linspace, d, where, first, last, steps), o)
end

--- base to the power of `steps` numbers from first to last, evenly spaced, both ends included.
---@param first number
---@param last number
---@param steps integer
---@param base number|aijit.TensorOptions?  10
---@param o aijit.TensorOptions?
---@return aijit.Tensor
function construct.logspace(first, last, steps, base, o)
  if type(base) == "table" then base, o = base.base, base end
  if base ~= nil and type(base) ~= "number" then op.helper.bad("logspace", 4, "base", "a number", base) end
  local at = construct.linspace(first, last, steps, {dtype = "f64", device = o and o.device})
  return finish(Tensor.to(f.pow(base or 10, at), o and o.dtype or "f32"), {requires_grad = o and o.requires_grad})
end

--- Ones on the diagonal of n rows and m columns, zeros elsewhere.
---@param n integer
---@param m integer?  n by default
---@param o aijit.TensorOptions?
---@return aijit.Tensor
function construct.eye(n, m, o)
  if type(m) == "table" then m, o = nil, m end
  if type(n) ~= "number" then op.helper.bad("eye", 1, "n", "a number", n) end
  if m ~= nil and type(m) ~= "number" then op.helper.bad("eye", 2, "m", "a number", m) end
  local d, where = read("eye", C.AJ_F32, {}, o)
  return finish(lib.check(C.aj_eye(d, where, n, m or n), C.aj_eye, d, where, n, m or n), o)
end

-- -- From Lua values -----------------------------------------------------------------------------------------------------

local pointer = {}
for i, ctype in pairs {[C.AJ_BOOL] = "uint8_t", [C.AJ_U8] = "uint8_t", [C.AJ_I8] = "int8_t", [C.AJ_I16] = "int16_t", [C.AJ_I32] = "int32_t",
  [C.AJ_I64] = "int64_t", [C.AJ_F16] = "uint16_t", [C.AJ_BF16] = "uint16_t", [C.AJ_F32] = "float", [C.AJ_F64] = "double"} do
  pointer[tonumber(i)] = ffi.typeof(ctype .. " *")
end

local function measure(v, sizes, depth)
  if depth > 8 then lib.raise "tensor: the tables are nested more than 8 deep" end
  sizes[depth] = #v
  if type(v[1]) == "table" then measure(v[1], sizes, depth + 1) end
  return sizes
end

-- The numbers that integers of a dtype hold, first and last, and the least that wraps to one: u8 counts down from its end.
local RANGE = {[tonumber(C.AJ_U8)] = {0, 255, -255}, [tonumber(C.AJ_I8)] = {-128, 127, -128}, [tonumber(C.AJ_I16)] = {-32768, 32767, -32768},
  [tonumber(C.AJ_I32)] = {-2 ^ 31, 2 ^ 31 - 1, -2 ^ 31}, [tonumber(C.AJ_I64)] = {-2 ^ 63, 2 ^ 63, -2 ^ 63}}

-- Entries of nested tables as a row at p[at]; range, or nil: what they may be.
local function put(v, sizes, depth, p, at, range)
  if type(v) ~= "table" or #v ~= sizes[depth] then
    lib.raise(("tensor: the tables are uneven: %s where %d entries are wanted at depth %d"):format(
      type(v) == "table" and #v .. " entries" or lib.describe(v), sizes[depth], depth))
  end
  if depth < #sizes then
    for i = 1, #v do at = put(v[i], sizes, depth + 1, p, at, range) end
    return at
  end
  for i = 1, #v do
    local x = v[i]
    if type(x) == "number" then
      if range and not ((x >= range[3] or x > range[3] - 1) and (x <= range[2] or x < range[2] + 1)) then
        lib.raise(("tensor: %s is no number that these integers hold: they go from %.17g to %.17g"):format(tostring(x), range[1], range[2]))
      end
      p[at] = x
    elseif type(x) == "boolean" then p[at] = x and 1 or 0
    elseif type(x) == "cdata" and not lib.is_tensor(x) then p[at] = x
    else lib.raise(("tensor: entry %d at depth %d is %s, where a number is wanted"):format(i, depth, lib.describe(x))) end
    at = at + 1
  end
  return at
end

--- A tensor of what a number, a boolean or nested tables hold. f32, or bool for booleans, unless o.dtype says otherwise.
-- A table of tensors of one shape is stacked; a tensor is copied.
---@param v number|boolean|table|aijit.Tensor
---@param o aijit.TensorOptions?
---@return aijit.Tensor
function construct.tensor(v, o)
  if o ~= nil then
    if type(o) ~= "table" then op.helper.bad("tensor", 2, "options", "a table", o) end
    op.helper.read_options("tensor", o, OPTIONS, OPTION_NAMES)
  end
  local dtype = o and o.dtype
  local t
  if lib.is_tensor(v) then
    t = f.clone(lib.check(C.aj_detach(v)))
    if dtype then t = Tensor.to(t, dtype) end
    if o and o.device then t = Tensor.to(t, o.device) end
    return finish(t, o)
  end
  if type(v) == "number" or type(v) == "boolean" then
    local d = dtype and lib.dtype(dtype) or (type(v) == "boolean" and C.AJ_BOOL or C.AJ_F32)
    return finish(lib.check(C.aj_full(d, NONE, device.number(o and o.device), v == true and 1 or v or 0)), o)
  end
  if type(v) == "cdata" then
    local whole = ffi.istype("int64_t", v) or ffi.istype("uint64_t", v)
    if whole then return finish(lib.check(C.aj_full_int(dtype and lib.dtype(dtype) or C.AJ_I64, NONE, device.number(o and o.device), v)), o) end
  end
  if type(v) ~= "table" then op.helper.bad("tensor", 1, "values", "a number, a table of numbers or a tensor", v) end
  if lib.is_tensor(v[1]) then
    t = f.stack(v)
    if dtype then t = Tensor.to(t, dtype) end
    if o and o.device then t = device.move(t, o.device) end
    return finish(t, o)
  end
  local sizes = measure(v, {}, 1)
  local inner = v
  for _ = 1, #sizes - 1 do inner = inner[1] end
  local d = dtype and lib.dtype(dtype) or (type(inner[1]) == "boolean" and C.AJ_BOOL or C.AJ_F32)
  -- Half types are written as floats and converted.
  local through = (d == C.AJ_F16 or d == C.AJ_BF16) and C.AJ_F32 or d
  op.helper.ints("tensor", 1, "sizes", shape, sizes)
  t = lib.check(C.aj_empty(through, shape, -1), C.aj_empty, through, shape, -1)
  local p = ffi.cast(pointer[tonumber(through)], C.aj_data(t))
  put(v, sizes, 1, p, 0, RANGE[tonumber(d)])
  if through ~= d then t = f.cast(t, lib.dtype_names[tonumber(d)]) end
  local where = device.number(o and o.device)
  if where >= 0 or o and o.device then t = device.move(t, where) end        -- in a scope of shapes numbers keep their values
  return finish(t, o)
end

-- What handles over foreign memory keep alive.
local owners = setmetatable({}, {__mode = "k"})

--- A tensor over memory that is not aijit's: nothing is copied. `owner` is kept alive as long as the returned handle is;
-- a view that outlives the handle needs the owner kept elsewhere.
---@param p ffi.cdata*  pointer to the first element
---@param sizes integer[]
---@param o aijit.TensorOptions|{owner: any}?  dtype
---@return aijit.Tensor
function construct.from_pointer(p, sizes, o)
  o = o or {}
  if type(o) ~= "table" then op.helper.bad("from_pointer", 3, "options", "a table", o) end
  if type(p) ~= "cdata" then op.helper.bad("from_pointer", 1, "p", "an FFI pointer", p) end
  op.helper.ints("from_pointer", 2, "sizes", shape, sizes)
  local t = lib.check(C.aj_from_memory(lib.dtype(o.dtype or "f32"), shape, ffi.cast("void *", p), nil, nil))
  if o.owner ~= nil then owners[t] = o.owner end
  return t
end

--- A tensor of the bytes of a string, little-endian.
---@param s string
---@param sizes integer[]?  all of it, in one dimension
---@param o aijit.TensorOptions?  dtype: "u8"
---@return aijit.Tensor
function construct.from_string(s, sizes, o)
  if type(s) ~= "string" then op.helper.bad("from_string", 1, "s", "a string", s) end
  local d = lib.dtype(o and o.dtype or "u8")
  local size = tonumber(C.aj_dtype_size(d))
  if not sizes then
    if #s % size ~= 0 then lib.raise(("from_string: %d bytes do not divide into elements of %d"):format(#s, size)) end
    sizes = {#s / size}
  end
  op.helper.ints("from_string", 2, "sizes", shape, sizes)
  local t = lib.check(C.aj_empty(d, shape, -1), C.aj_empty, d, shape, -1)
  local want = Tensor.numel(t) * size
  if want ~= #s then lib.raise(("from_string: %d bytes, where a tensor of these sizes has %d"):format(#s, want)) end
  ffi.copy(C.aj_data(t), s, #s)
  return finish(t, o)
end

-- -- To Lua values ------------------------------------------------------------------------------------------------------------

local INF = math.huge
local double, int64 = ffi.new "double[1]", ffi.new "int64_t[1]"
local zeros8 = ffi.new "int64_t[8]"

--- The one element of a tensor: a number; a boolean of a bool tensor; an int64_t where a double would lose digits.
---@param x aijit.Tensor  of one element
---@return number|boolean|ffi.cdata*
function Tensor.item(x)
  local n = lib.ok(C.aj_numel(x))
  if n ~= 1 then lib.raise(("item: a tensor of %d elements, where one is wanted"):format(tonumber(n))) end
  local d = C.aj_dtype_of(x)
  if d >= C.AJ_F16 then
    lib.ok(C.aj_get(x, zeros8, double))
    return double[0]
  end
  lib.ok(C.aj_get_int(x, zeros8, int64))
  if d == C.AJ_BOOL then return int64[0] ~= 0 end
  local v = tonumber(int64[0])
  return v > -2 ^ 53 and v < 2 ^ 53 and v or int64[0] + 0LL
end

--- The elements as nested tables; of a rank-0 tensor, its number.
---@param x aijit.Tensor
---@return table|number|boolean
function Tensor.totable(x)
  if lib.ok(C.aj_ndim(x)) == 0 then return Tensor.item(x) end
  local d = C.aj_dtype_of(x)
  local whole, is_bool = d < C.AJ_F16, d == C.AJ_BOOL
  local dense = f.contiguous(Tensor.to(Tensor.cpu(lib.check(C.aj_detach(x))), whole and (is_bool and "bool" or "i64") or "f64"))
  -- LuaJIT keeps its types in the bits of NaN: one with other bits than 0/0 has would become any Lua value.
  if not whole then dense = f.nan_to_num(dense, 0 / 0, INF, -INF) end
  local p = ffi.cast(is_bool and "uint8_t *" or whole and "int64_t *" or "double *", C.aj_data(dense))
  local sizes, at = Tensor.size(x), 0
  local function take(depth)
    local list = {}
    for i = 1, sizes[depth] do
      if depth < #sizes then list[i] = take(depth + 1)
      else
        if is_bool then list[i] = p[at] ~= 0 else list[i] = tonumber(p[at]) end
        at = at + 1
      end
    end
    return list
  end
  return take(1)
end
Tensor.tolist = Tensor.totable

--- An FFI pointer to the first element, of the element's type; good while the tensor is. Writing through it is not
-- seen by autograd's checks unless :touch() follows.
---@param x aijit.Tensor
---@return ffi.cdata*
function Tensor.data(x)
  local p = C.aj_data(x)
  lib.ok()
  return ffi.cast(pointer[tonumber(C.aj_dtype_of(x))], p)
end
--- Counts as a write in place, after writing through :data().
---@return aijit.Tensor x
function Tensor.touch(x) C.aj_touch(x) lib.ok() return x end

--- The elements' bytes in order, little-endian.
---@param x aijit.Tensor
---@return string
function Tensor.tobytes(x)
  local dense = f.contiguous(Tensor.cpu(lib.check(C.aj_detach(x))))
  return ffi.string(C.aj_data(dense), Tensor.numel(x) * Tensor.element_size(x))
end

return construct
