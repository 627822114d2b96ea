--- The Tensor: methods, properties, operators. Values come from construct.lua, views by index from index.lua, text from
-- print.lua.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local alias = require "aijit.bindings.alias"
local C, S, ffi = lib.C, lib.state, lib.ffi
local f = op.functions

---@class aijit.Tensor
---@field grad aijit.Tensor?   the gradient that backward left; nil if there is none
---@field dtype string         "f32", "i64", ...
---@field device string        "cpu" or "cuda:0"
---@field shape integer[]      a new table each time
---@field requires_grad boolean
---@field is_leaf boolean
---@field grad_fn string?      the op that made it
---@operator add(aijit.Tensor|number): aijit.Tensor
---@operator sub(aijit.Tensor|number): aijit.Tensor
---@operator mul(aijit.Tensor|number): aijit.Tensor
---@operator div(aijit.Tensor|number): aijit.Tensor
---@operator mod(aijit.Tensor|number): aijit.Tensor
---@operator pow(aijit.Tensor|number): aijit.Tensor
---@operator unm: aijit.Tensor
---@operator len: integer
local Tensor = setmetatable({}, {__index = function(t, name)
  -- Every row is a method, made when it is first named.
  if type(name) ~= "string" then return nil end
  local of = alias[name]
  if not of and name:sub(-1) == "_" and alias[name:sub(1, -2)] then of = alias[name:sub(1, -2)] .. "_" end
  local fn
  if of then fn = t[of]
  elseif op.later[name] then
    require(op.later[name])
    return rawget(t, name)
  else fn = f[name] end
  if fn then rawset(t, name, fn) end
  return fn
end})

-- -- Rows with a richer face in Lua ----------------------------------------------------------------------------------

local function option(o, name, key)
  if type(o) ~= "table" then op.helper.bad(name, 3, "options", "a table", o) end
  for k in pairs(o) do
    if k ~= key then op.helper.unknown(name, k, {key}) end
  end
  return o[key]
end

local add, add_, sub, sub_ = f.add, f.add_, f.sub, f.sub_

--- a + alpha * b, broadcast.
---@param a aijit.Tensor|number
---@param b aijit.Tensor|number
---@param o {alpha: number}?
---@return aijit.Tensor
function Tensor.add(a, b, o)
  if o == nil then return add(a, b) end
  local alpha = option(o, "add", "alpha") or 1
  if type(b) == "number" then return add(a, alpha * b) end
  return f.add_scaled(a, b, alpha)
end
--- a becomes a + alpha * b.
---@return aijit.Tensor a
function Tensor.add_(a, b, o)
  if o == nil then return add_(a, b) end
  local alpha = option(o, "add_", "alpha") or 1
  if type(b) == "number" then return add_(a, alpha * b) end
  return f.add_scaled_(a, b, alpha)
end
--- a - alpha * b, broadcast.
---@param a aijit.Tensor|number
---@param b aijit.Tensor|number
---@param o {alpha: number}?
---@return aijit.Tensor
function Tensor.sub(a, b, o)
  if o == nil then return sub(a, b) end
  local alpha = option(o, "sub", "alpha") or 1
  if type(b) == "number" then return sub(a, alpha * b) end
  return f.add_scaled(a, b, -alpha)
end
--- a becomes a - alpha * b.
---@return aijit.Tensor a
function Tensor.sub_(a, b, o)
  if o == nil then return sub_(a, b) end
  local alpha = option(o, "sub_", "alpha") or 1
  if type(b) == "number" then return sub_(a, alpha * b) end
  return f.add_scaled_(a, b, -alpha)
end

local masked_fill = f.masked_fill
local pow, square, sqrt, reciprocal = f.pow, f.square, f.sqrt, f.reciprocal

--- a to the power b; the exponents 2, 1/2 and -1 take the shorter way, forward and backward.
---@param a aijit.Tensor|number
---@param b aijit.Tensor|number
---@return aijit.Tensor
function Tensor.pow(a, b)
  if type(a) == "cdata" then
    if b == 2 then return square(a) end
    if b == 0.5 then return sqrt(a) end
    if b == -1 and C.aj_dtype_is_float(C.aj_dtype_of(a)) then return reciprocal(a) end
  end
  return pow(a, b)
end

-- `x:max()` is one number, `x:max(dim)` values and indices, `x:max(y)` the larger of two.
local function extreme(name, all, along, pair)
  return function(x, dim, keepdim)
    if dim == nil then return f[all](x) end
    if op.is_operand(dim) then return f[pair](x, dim) end
    if type(dim) == "table" and dim.keepdim ~= nil and dim[1] == nil then return f[all](x, nil, dim) end
    if not f[along] then lib.raise(name .. ": along a dimension needs the op " .. along) end
    return f[along](x, dim, keepdim)
  end
end
local largest, smallest = extreme("max", "amax", "max_dim", "maximum"), extreme("min", "amin", "min_dim", "minimum")

--- Without dim, the largest element, as a rank-0 tensor; along dim, the largest elements and their positions (i64, from 1);
-- with a tensor, elementwise the larger of two.
---@param x aijit.Tensor
---@param dim integer|aijit.Tensor?
---@param keepdim boolean|{keepdim: boolean}?
---@return aijit.Tensor values
---@return aijit.Tensor? indices
function Tensor.max(x, dim, keepdim) return largest(x, dim, keepdim) end

--- As max, with the smallest.
---@param x aijit.Tensor
---@param dim integer|aijit.Tensor?
---@param keepdim boolean|{keepdim: boolean}?
---@return aijit.Tensor values
---@return aijit.Tensor? indices
function Tensor.min(x, dim, keepdim) return smallest(x, dim, keepdim) end

-- Choices between a tensor and a number.
local function as_tensor(v, like)
  if type(v) ~= "number" then return v end
  if type(like) ~= "cdata" then return v end
  local none = ffi.new "aj_ints"
  local d = C.aj_dtype_of(like)
  if not C.aj_dtype_is_float(d) and v % 1 ~= 0 or d == C.AJ_BOOL then d = C.AJ_F32 end
  return lib.check(C.aj_full(d, none, C.aj_device_of(like), v))
end
local function choice(v, like, condition)
  if type(like) == "cdata" then return as_tensor(v, like) end
  return lib.check(C.aj_full(C.AJ_F32, ffi.new "aj_ints", type(condition) == "cdata" and C.aj_device_of(condition) or -1, v))
end
--- a where condition is true, else b; a and b are tensors or numbers.
---@param condition aijit.Tensor  bool
---@param a aijit.Tensor|number
---@param b aijit.Tensor|number
---@return aijit.Tensor
function Tensor.where(condition, a, b)
  if type(a) == "number" then a = choice(a, b, condition) end
  if type(b) == "number" then b = choice(b, a, condition) end
  return f.where(condition, a, b)
end

--- x with value, a number or a tensor of one element, where mask is true.
---@param x aijit.Tensor
---@param mask aijit.Tensor  of bools
---@param value number|aijit.Tensor
---@return aijit.Tensor
function Tensor.masked_fill(x, mask, value)
  if type(value) ~= "cdata" then return masked_fill(x, mask, value) end
  local dims = C.aj_ndim(value)
  if dims < 0 then lib.ok() end
  if dims ~= 0 then lib.raise("masked_fill: the value is one number, and not a tensor of " .. dims .. " dimensions") end
  return f.where(mask, Tensor.to(value, x), x)
end

-- padding = "valid" is none; "same" keeps the sizes, what is odd of it going to the end.
local function convolution(name, n)
  local conv = f[name]
  return function(x, weight, bias, stride, padding, dilation, groups)
    local o = nil
    if type(bias) == "table" and getmetatable(bias) == nil then o = bias
    elseif type(stride) == "table" and stride[1] == nil then o = stride
    elseif type(padding) == "string" then o = {stride = stride, padding = padding, dilation = dilation, groups = groups} end
    if not o or type(o.padding) ~= "string" then return conv(x, weight, bias, stride, padding, dilation, groups) end
    local p = {}
    for k, v in pairs(o) do p[k] = v end
    if bias ~= o then p.bias = bias end
    if o.padding == "valid" then p.padding = 0
    elseif o.padding == "same" then
      local pad, odd = {}, false
      p.padding = {}
      for d = 1, n do
        local step = type(o.dilation) == "table" and (o.dilation[d] or o.dilation[1]) or o.dilation or 1
        if (type(o.stride) == "table" and (o.stride[d] or o.stride[1]) or o.stride or 1) ~= 1 then
          lib.raise(name .. ': padding = "same" is for a stride of 1')
        end
        local total = step * (weight:size(d + 2) - 1)
        p.padding[d] = math.floor(total / 2)
        pad[2 * (n - d) + 1], pad[2 * (n - d) + 2] = 0, total % 2
        odd = odd or total % 2 == 1
      end
      if odd then x = f.pad(x, pad) end
    else lib.raise(('%s: padding is a number, a table of them, "valid" or "same", not %q'):format(name, o.padding)) end
    return conv(x, weight, p)
  end
end
Tensor.conv1d, Tensor.conv2d, Tensor.conv3d = convolution("conv1d", 1), convolution("conv2d", 2), convolution("conv3d", 3)

local gelu = f.gelu
--- x times the normal distribution function of x; approximate = "tanh" is the approximation by tanh (Hendrycks and Gimpel, 2016).
---@param x aijit.Tensor
---@param approximate "none"|"tanh"|{approximate: "none"|"tanh"}?
---@return aijit.Tensor
function Tensor.gelu(x, approximate)
  if approximate == nil then return gelu(x) end
  if type(approximate) == "table" then approximate = option(approximate, "gelu", "approximate") end
  if approximate == "tanh" then return f.gelu_tanh(x) end
  if approximate ~= "none" and approximate ~= nil then lib.raise("gelu: approximate is \"none\" or \"tanh\", not " .. lib.describe(approximate)) end
  return gelu(x)
end

--- The last two dimensions of a matrix exchanged; a vector is itself.
---@param x aijit.Tensor  of at most 2 dimensions
---@return aijit.Tensor
function Tensor.t(x)
  local n = Tensor.dim(x)
  if n > 2 then lib.raise(("t: a tensor of %d dimensions; use :transpose(dim0, dim1)"):format(n)) end
  if n < 2 then return f.view(x, Tensor.size(x)) end
  return f.transpose(x, 1, 2)
end

--- x split along dim into pieces of `size` (the last may be smaller), or of the sizes in a table.
---@param x aijit.Tensor
---@param size integer|integer[]
---@param dim integer?  1 by default
---@return aijit.Tensor[]
function Tensor.split(x, size, dim)
  dim = dim or 1
  local n, pieces, first = Tensor.size(x, dim), {}, 1
  if type(size) == "number" then
    if size < 1 then lib.raise("split: the size of a piece is " .. size .. ", and must be at least 1") end
    while first <= n do
      pieces[#pieces + 1] = f.slice(x, dim, first, math.min(first + size - 1, n))
      first = first + size
    end
    if n == 0 then pieces[1] = f.slice(x, dim) end
    return pieces
  end
  if type(size) ~= "table" then lib.raise("split: the size of a piece is " .. lib.describe(size) .. ", where a number or a table of numbers is wanted") end
  local total = 0
  for i, k in ipairs(size) do
    if type(k) ~= "number" then lib.raise(("split: size %d is %s, where a number is wanted"):format(i, lib.describe(k))) end
    total = total + k
  end
  if total ~= n then lib.raise(("split: the sizes add up to %d, and dimension %d has %d"):format(total, dim, n)) end
  for i, k in ipairs(size) do
    pieces[i] = f.narrow(x, dim, first, k)
    first = first + k
  end
  return pieces
end

--- x split along dim into `chunks` pieces of equal size, but for the last.
---@param x aijit.Tensor
---@param chunks integer
---@param dim integer?  1 by default
---@return aijit.Tensor[]
function Tensor.chunk(x, chunks, dim)
  if type(chunks) ~= "number" or chunks < 1 then lib.raise("chunk: the number of pieces must be at least 1") end
  local size = Tensor.size(x, dim or 1)
  if size > 0 then return Tensor.split(x, math.ceil(size / chunks), dim) end
  local sizes = {}
  for i = 1, chunks do sizes[i] = 0 end
  return Tensor.split(x, sizes, dim)
end

--- The slices of x along dim, without that dimension.
---@param x aijit.Tensor
---@param dim integer?  1 by default
---@return aijit.Tensor[]
function Tensor.unbind(x, dim)
  local slices = {}
  for i = 1, Tensor.size(x, dim or 1) do slices[i] = f.select(x, dim or 1, i) end
  return slices
end

for _, name in ipairs {"max", "min", "where", "t", "split", "chunk", "unbind"} do Tensor[name] = op.whole(name, Tensor[name]) end

-- -- Questions ----------------------------------------------------------------------------------------------------------

-- The place of a dimension as C counts; an error for what is none.
local function place(who, dim)
  if type(dim) ~= "number" or dim == 0 or dim % 1 ~= 0 or math.abs(dim) > 2 ^ 30 then
    lib.raise(("%s: a dimension counts from 1, or from -1 at the end, and is not %s"):format(who, lib.describe(dim)))
  end
  return dim > 0 and dim - 1 or dim
end

--- Without dim, a table of all sizes.
---@param x aijit.Tensor
---@param dim integer?
---@return integer|integer[]
function Tensor.size(x, dim)
  if op.is_symbol(x) then return x:size(dim) end
  if dim ~= nil then return lib.ok(tonumber(C.aj_size(x, place("size", dim)))) end
  local shape, n = {}, lib.ok(C.aj_ndim(x))
  for d = 1, n do shape[d] = tonumber(C.aj_size(x, d - 1)) end
  return shape
end

--- Steps in elements; without dim, a table of all.
---@param x aijit.Tensor
---@param dim integer?
---@return integer|integer[]
function Tensor.stride(x, dim)
  if dim ~= nil then return lib.ok(tonumber(C.aj_stride(x, place("stride", dim)))) end
  local strides, n = {}, lib.ok(C.aj_ndim(x))
  for d = 1, n do strides[d] = tonumber(C.aj_stride(x, d - 1)) end
  return strides
end

---@return integer dimensions
function Tensor.dim(x)
  if op.is_symbol(x) then return x:dim() end
  return lib.ok(C.aj_ndim(x))
end
---@return integer elements
function Tensor.numel(x)
  if op.is_symbol(x) then return x:numel() end
  return lib.ok(tonumber(C.aj_numel(x)))
end
Tensor.nelement = Tensor.numel
---@return integer bytes of one element
function Tensor.element_size(x) return lib.ok(tonumber(C.aj_dtype_size(C.aj_dtype_of(x)))) end
---@return boolean
function Tensor.is_contiguous(x) return lib.ok(C.aj_is_contiguous(x)) end
---@return boolean
function Tensor.is_floating_point(x)
  if op.is_symbol(x) then return x:is_floating_point() end
  return lib.ok(C.aj_dtype_is_float(C.aj_dtype_of(x)))
end
--- A number that no other tensor has or will have; for tables keyed by tensors.
---@return integer
function Tensor.id(x) return lib.ok(tonumber(C.aj_id(x))) end
---@return boolean same  whether two handles are of one tensor
function Tensor.is_same(x, y) return lib.is_tensor(y) and C.aj_is_same(x, y) end
--- How often its memory was written in place.
---@return integer
function Tensor.version(x) return lib.ok(C.aj_version(x)) end
--- Whether the handle is still good: its scope has not ended, and it was not freed.
---@return boolean
function Tensor.is_live(x) return C.aj_is_live(x) end

-- -- Types and places ------------------------------------------------------------------------------------------------------

local function move_or_cast(x, where, non_blocking)
  if lib.is_tensor(where) then where = lib.dtype_names[tonumber(lib.ok(C.aj_dtype_of(where)))] end
  local device = require "aijit.bindings.device"
  if device.is_name(where) then return device.move(x, where, non_blocking) end
  local d = lib.dtype(where)
  if tonumber(lib.ok(C.aj_dtype_of(x))) == d then return x end
  return f.cast(x, where)
end

--- x with another dtype, or on another device; x itself when it is so already.
---@param x aijit.Tensor
---@param where string|{dtype: string?, device: string?, non_blocking: boolean?}  "f64", "cuda:0", ...
---@param second? string|{non_blocking: boolean?}  non_blocking: a copy from pinned memory to a device is not waited for
---@return aijit.Tensor
function Tensor.to(x, where, second)
  if type(second) == "table" then
    if type(where) == "table" then lib.raise "to: one table of options is enough" end
    for name in pairs(second) do if name ~= "non_blocking" then lib.raise(("to: there is no option '%s'; non_blocking is one"):format(tostring(name))) end end
    return move_or_cast(x, where, second.non_blocking)
  end
  if second then return Tensor.to(Tensor.to(x, where), second) end
  if type(where) == "table" then
    if where.device then x = move_or_cast(x, where.device, where.non_blocking) end
    if where.dtype then x = Tensor.to(x, where.dtype) end
    return x
  end
  return move_or_cast(x, where)
end
---@return aijit.Tensor
function Tensor.cpu(x) return Tensor.to(x, "cpu") end
---@return aijit.Tensor
function Tensor.cuda(x, n)
  if n ~= nil and type(n) ~= "number" then lib.raise("cuda: the number of a device is wanted, and not " .. lib.describe(n)) end
  return Tensor.to(x, "cuda:" .. (n or 0))
end
for method, dtype in pairs {float = "f32", double = "f64", half = "f16", bfloat16 = "bf16", bf16 = "bf16", long = "i64", int = "i32",
  short = "i16", char = "i8", byte = "u8", bool = "bool"} do
  Tensor[method] = loadstring(("local to = ... return function(x) return to(x, %q) end"):format(dtype), "=aijit." .. method)(Tensor.to)
end
--- x, of the CPU, in pinned memory, from which a device copies while the host goes on; x itself where it is so.
---@param x aijit.Tensor
---@return aijit.Tensor
function Tensor.pin_memory(x) return require("aijit.bindings.device").pin(x) end
--- Whether x lies in pinned memory.
---@param x aijit.Tensor
---@return boolean
function Tensor.is_pinned(x) return lib.ok(C.aj_is_pinned(x)) end
--- x with the dtype of y.
function Tensor.type_as(x, y) return Tensor.to(x, y) end

---@return aijit.Tensor
function Tensor.zero_(x) return f.fill_(x, 0) end
--- x with the sizes of y, never a copy.
---@return aijit.Tensor
function Tensor.view_as(x, y) return f.view(x, Tensor.size(y)) end
--- x expanded to the sizes of y.
---@return aijit.Tensor
function Tensor.expand_as(x, y) return f.expand(x, Tensor.size(y)) end
--- x with the sizes of y.
---@return aijit.Tensor
function Tensor.reshape_as(x, y) return f.reshape(x, Tensor.size(y)) end

-- -- Lifetime ---------------------------------------------------------------------------------------------------------------

--- Gives the memory back now. Every handle to this tensor is stale afterwards; views of it are not.
function Tensor.free(x)
  if S.scopes > 0 then
    -- What an outer scope or the collector owns stays theirs.
    if C.aj_scope_keep(-1, x) then C.aj_release(x) end
    return lib.ok()
  end
  C.aj_release(ffi.gc(x, nil))
end

-- -- Properties and operators ---------------------------------------------------------------------------------------------------

local property = {}
function property.grad(x) return lib.maybe(C.aj_grad_of(x)) end
function property.dtype(x) return lib.dtype_names[tonumber(lib.ok(C.aj_dtype_of(x)))] end
function property.device(x)
  local d = lib.ok(C.aj_device_of(x))
  return d == -1 and "cpu" or d == -2 and "meta" or "cuda:" .. d
end
property.shape = function(x) return Tensor.size(x) end
property.ndim = Tensor.dim
function property.requires_grad(x) return lib.ok(C.aj_requires_grad(x)) end
function property.is_leaf(x) return lib.ok(C.aj_is_leaf(x)) end
function property.grad_fn(x)
  local name = C.aj_grad_fn(x)
  lib.ok()
  return name ~= nil and ffi.string(name) or nil
end

local settable = {}
function settable.grad(x, v)
  if v ~= nil and not lib.is_tensor(v) then lib.raise("grad: a gradient is a tensor or nil, not " .. lib.describe(v)) end
  lib.ok(C.aj_set_grad(x, v))
end
function settable.requires_grad(x, v) lib.ok(C.aj_set_requires_grad(x, v and true or false)) end

--- The names that are read as fields: shape, dtype, grad, ...
---@type table<string, true>
Tensor.properties = {}
for name in pairs(property) do Tensor.properties[name] = true end

--- The names of all methods and properties.
---@return string[]
function Tensor.names()
  local set, names = {}, {}
  for name in pairs(Tensor) do set[name] = true end
  for name in pairs(property) do set[name] = true end
  for _, name in ipairs(op.names) do set[name] = true end
  for name in pairs(alias) do set[name] = true end
  for name in pairs(op.later) do set[name] = true end
  for name in pairs(set) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local mt = {__name = "aijit.Tensor"}

function mt.__index(x, k)
  local m = Tensor[k]
  if m ~= nil then return m end
  if type(k) == "string" then
    local p = property[k]
    if p then return p(x) end
    local near = require("aijit.nearest").find(k, Tensor.names())
    lib.raise(("a tensor has no method or property %q%s"):format(k, #near > 0 and "; did you mean " .. table.concat(near, " or ") .. "?" or ""))
  end
  return Tensor.index_get(x, k)
end

function mt.__newindex(x, k, v)
  if type(k) == "string" then
    local s = settable[k]
    if s then return s(x, v) end
    lib.raise(("a tensor has no field %q that can be set; keep data of your own in a table beside it"):format(k))
  end
  return Tensor.index_set(x, k, v)
end

function mt.__len(x)
  local n = C.aj_size(x, 0)
  if n < 0 then
    if C.aj_is_live(x) then lib.ok(C.aj_size(x, 0)) end
    lib.ok()
  end
  return tonumber(n)
end

mt.__add = function(a, b) return add(a, b) end
mt.__sub = function(a, b) return sub(a, b) end
mt.__mul = f.mul
mt.__div = f.div
mt.__mod = f.remainder
mt.__pow = Tensor.pow
mt.__unm = function(a) return f.neg(a) end
mt.__tostring = function(x) return Tensor.to_string(x) end
mt.__concat = function(a, b) return tostring(a) .. tostring(b) end
mt.__lt = function() lib.raise "tensors are compared by :lt, :le, :gt, :ge and :eq, which give a tensor of bools (Lua's < can only give one boolean)" end
mt.__le = mt.__lt

ffi.metatype("struct aj_tensor", mt)

return Tensor
