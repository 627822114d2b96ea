--- One Lua function for each row of the op table, written as source, so that each has a name in stack traces and is
-- compiled on its own. Dimensions, indices and positions count from 1 here and from 0 in C; the types of the
-- parameters say which are which.

local lib = require "aijit.bindings.lib"
local symbol = require "aijit.bindings.symbol"
local C, S, ffi = lib.C, lib.state, lib.ffi

local op = {}

---@class aijit.OpParameter
---@field name string
---@field type string       C type, as in aijit.h
---@field default string?   text of the default; nil when required

---@class aijit.Op
---@field name string
---@field kind string       UNARY, BINARY, REDUCE, VIEW, OP, ...
---@field domain string     ANY, NUM, FLOAT, INT: which dtypes
---@field params aijit.OpParameter[]  without those that Lua never sees
---@field returns string[]  names of the visible results
---@field sample string     what specs feed it
---@field doc string
---@field autocast string  LOW: ai.autocast has it run in the low precision; FULL: in f32; "": neither
---@field index integer     its number in C

-- -- Converters: what a Lua value becomes, by the parameter's type ------------------------------------------------------

local helper = {}

function helper.bad(name, i, param, want, value)
  lib.raise(("%s: argument %d (%s) is %s, where %s is wanted"):format(name, i, param, lib.describe(value), want))
end

--- A value that stands for a tensor: the `__record(name, ...)` of its kind is called instead of the op, with the arguments as
-- they were given.
helper.symbol = symbol.is
local is_symbol = symbol.is

--- Whether one stands in a list.
function helper.symbol_in(list)
  if getmetatable(list) == nil then
    for i = 1, #list do if is_symbol(list[i]) then return true end end
  end
  return false
end

op.is_symbol = is_symbol

op.symbol_in = helper.symbol_in

--- Hands an op over to the first symbol among its arguments.
function helper.record(name, ...)
  local n = select("#", ...)
  while n > 0 and (select(n, ...)) == nil do n = n - 1 end
  local args = {...}
  for i = 1, n do
    local v = args[i]
    if type(v) == "table" and getmetatable(v) == nil then
      for j = 1, #v do if is_symbol(v[j]) then v = v[j] break end end
    end
    local state = symbol.state(v)
    if state then return state.kind.__record(name, unpack(args, 1, n)) end
  end
  lib.raise(name .. ": no argument stands for a tensor")
end
op.record = helper.record

--- A tensor, or a value that stands for one.
---@param v any
---@return boolean
function op.is_operand(v) return type(v) == "cdata" and lib.is_tensor(v) or is_symbol(v) end

local wants_whole
function wants_whole(v)
  if type(v) == "userdata" then
    local state = symbol.state(v)
    return state ~= nil and state.kind.__whole == true
  end
  if type(v) ~= "table" or getmetatable(v) ~= nil then return false end
  for i = 1, #v do if wants_whole(v[i]) then return true end end
  return false
end
op.wants_whole = wants_whole

--- A function that is made of ops in Lua, so that a symbol whose metatable has `__whole` (a placeholder) takes it as one op;
--- with other symbols it runs, and its ops see them. For functions of up to four arguments.
---@param name string
---@param f function
---@return function
function op.whole(name, f)
  return function(a, b, c, d)
    if wants_whole(a) or wants_whole(b) or wants_whole(c) then return op.record(name, a, b, c, d) end
    return f(a, b, c, d)
  end
end
--- The same for functions of any number of arguments.
---@param name string
---@param f function
---@return function
function op.whole_list(name, f)
  return function(...)
    for i = 1, select("#", ...) do
      if wants_whole((select(i, ...))) then return op.record(name, ...) end
    end
    return f(...)
  end
end

function helper.unknown(name, key, known)
  local near = require("aijit.nearest").find(tostring(key), known)
  local hint = #near > 0 and ("; did you mean %s?"):format(table.concat(near, " or ")) or ("; it takes " .. table.concat(known, ", "))
  lib.raise(("%s: unknown option %s%s"):format(name, tostring(key), hint))
end

function helper.read_options(name, options, known, names)
  for key in pairs(options) do
    if not known[key] then helper.unknown(name, key, names) end
  end
end

--- 0-based from 1-based; negative from the end. Positions may pass 2^31, numbers of dimensions may not.
function helper.from_one(name, i, param, v, most)
  if type(v) ~= "number" then helper.bad(name, i, param, "a number", v) end
  most = most or 2 ^ 31
  if v % 1 ~= 0 or v >= most or v <= -most then lib.raise(("%s: %s is %s, which is no place to count to"):format(name, param, tostring(v))) end
  if v > 0 then return v - 1 end
  if v == 0 then lib.raise(("%s: %s is 0; they count from 1, or from -1 at the end"):format(name, param)) end
  return v
end

local function fill(name, i, param, list, v, from_one)
  if type(v) == "number" then
    list.n = 1
    list.v[0] = from_one and helper.from_one(name, i, param, v) or v
    return list
  end
  if type(v) ~= "table" then helper.bad(name, i, param, "a number or a table of numbers", v) end
  local n = #v
  if n > 8 then lib.raise(("%s: %s has %d entries; a tensor has at most 8 dimensions"):format(name, param, n)) end
  list.n = n
  for k = 1, n do
    local x = v[k]
    if type(x) ~= "number" then helper.bad(name, i, param, "a table of numbers", x) end
    list.v[k - 1] = from_one and helper.from_one(name, i, param, x) or x
  end
  return list
end

-- Rows to which no dimensions are all of them, as PyTorch has it.
local NONE_IS_ALL = {}
for name in ("sum mean amax amin std var var_mean std_mean norm nansum nanmean count_nonzero"):gmatch "%S+" do NONE_IS_ALL[name] = true end

function helper.dims(name, i, param, list, v)
  if v == nil or NONE_IS_ALL[name] and type(v) == "table" and v[1] == nil then list.n = -1 return list end
  return fill(name, i, param, list, v, true)
end
--- An op with its first argument converted, and, where the op has a dtype of its own for sums, its result.
function helper.with_dtype(f, dtype, x, ...) return f(x:to(dtype), ...):to(dtype) end

function helper.ints(name, i, param, list, v) return fill(name, i, param, list, v, false) end

-- Sizes given one after another.
function helper.sizes(name, list, from_one, a, b, c, d, e, f, g, h)
  local n = a == nil and 0 or b == nil and 1 or c == nil and 2 or d == nil and 3 or e == nil and 4 or f == nil and 5 or g == nil and 6 or h == nil and 7 or 8
  list.n = n
  local v = list.v
  v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7] = a or 0, b or 0, c or 0, d or 0, e or 0, f or 0, g or 0, h or 0
  if from_one then for i = 0, n - 1 do v[i] = helper.from_one(name, i + 2, "dims", tonumber(v[i])) end end
  return list
end

local NUMBER = {double = true, int64_t = true, int32_t = true}
local LIST = {aj_dims = true, aj_shape = true, aj_window = true}

--- Lines that make `p` ready, and the expression that is handed to C.
local function convert(name, i, p)
  local t, v = p.type, p.name
  if t == "aj_tensor *" then
    local test = p.default and ("%s ~= nil and type(%s) ~= 'cdata'"):format(v, v) or ("type(%s) ~= 'cdata'"):format(v)
    return ("if %s then if H.symbol(%s) then return RECORD end H.bad(%q, %d, %q, 'a tensor', %s) end"):format(
      test, v, name, i, v, v), v
  elseif NUMBER[t] and p.default == "nil" then
    return ("if %s == nil then %s = NONE elseif type(%s) ~= 'number' then H.bad(%q, %d, %q, 'a number', %s) end"):format(v, v, v, name, i, v, v), v
  elseif NUMBER[t] then
    return ("if type(%s) ~= 'number' then H.bad(%q, %d, %q, 'a number', %s) end"):format(v, name, i, v, v), v
  elseif t == "bool" then
    return ("if type(%s) ~= 'boolean' then H.bad(%q, %d, %q, 'true or false', %s) end"):format(v, name, i, v, v), v
  elseif t == "const char *" then
    return ("if %s ~= nil and type(%s) ~= 'string' then H.bad(%q, %d, %q, 'a string', %s) end"):format(v, v, name, i, v, v), v
  elseif t == "aj_dim" or t == "aj_index" then
    local none = p.default == "nil" and ("if %s == nil then %s = NONE else %s = H.from_one(%q, %d, %q, %s) end"):format(v, v, v, name, i, v, v)
    return none or ("%s = H.from_one(%q, %d, %q, %s%s)"):format(v, name, i, v, v, t == "aj_index" and ", 2 ^ 53" or ""), v
  elseif t == "aj_dims" then
    return ("%s = H.dims(%q, %d, %q, L%d, %s)"):format(v, name, i, v, i, v), v
  elseif t == "aj_shape" or t == "aj_window" then
    local guard = p.default == "nil" and ("if %s ~= nil then "):format(v) or ""
    return ("%s%s = H.ints(%q, %d, %q, L%d, %s)%s"):format(guard, v, name, i, v, i, v, guard ~= "" and " end" or ""), v
  elseif t == "aj_dtype" then
    return ("%s = lib.dtype(%s)"):format(v, v), v
  elseif t == "aj_dtype_or_none" then
    return ("if %s == nil then %s = -1 else %s = lib.dtype(%s) end"):format(v, v, v, v), v
  elseif t == "aj_tensors" then
    return ("if type(%s) ~= 'table' then H.bad(%q, %d, %q, 'a table of tensors', %s) end"):format(v, name, i, v, v)
      .. ("\n  if H.symbol_in(%s) then return RECORD end %s = lib.list(%s, 8)"):format(v, v, v), v
  end
  error("ops.def: row " .. name .. " has a parameter of unknown type " .. t)
end

local function default_text(p)
  local d = p.default
  if d == "all" or d == "nil" then return "nil" end
  if d == "true" or d == "false" or tonumber(d) or d:sub(1, 1) == "{" then return d end
  return ("%q"):format(d)
end

-- -- Sources ------------------------------------------------------------------------------------------------------------

local ATTEND = [[
  local a_ = S.attend
  if a_ ~= 0 then
    if a_ == 2 then p_ = gc(p_, C.aj_release) else p_ = attend(p_, self%s) end
  end
]]

local function attend_with(args) return ATTEND:format(args ~= "" and ", " .. args or "") end

local BINARY = [[
local C, S, H, lib, gc, attend = ...
local self
function self(a, b)
  local p_
  if type(a) == "cdata" then
    if type(b) == "cdata" then p_ = C.aj_NAME(a, b)
    elseif type(b) == "number" then p_ = C.aj_NAME_number(a, b, false)
    elseif H.symbol(b) then return H.record("NAME", a, b)
    else H.bad("NAME", 2, "b", "a tensor or a number", b) end
  elseif type(a) == "number" and type(b) == "cdata" then p_ = C.aj_NAME_number(b, a, true)
  elseif H.symbol(a) or H.symbol(b) then return H.record("NAME", a, b)
  else H.bad("NAME", 1, "a", "a tensor or a number", a) end
ATTEND
  return p_
end
return self
]]

local IN_PLACE_BINARY = [[
local C, S, H, lib = ...
return function(a, b)
  if type(a) ~= "cdata" then if H.symbol(a) then return H.record("NAME_", a, b) end H.bad("NAME_", 1, "a", "a tensor", a) end
  if type(b) == "cdata" then C.aj_NAME_(a, b)
  elseif type(b) == "number" then C.aj_NAME_number_(a, b)
  elseif H.symbol(b) then return H.record("NAME_", a, b)
  else H.bad("NAME_", 2, "b", "a tensor or a number", b) end
  if S.attend ~= 0 then lib.ok() end
  return a
end
]]

-- Rows with an option dtype: what the input is converted to first.
local TAKES_DTYPE = {}
for name in ("sum prod mean nansum nanmean norm cumsum cumprod softmax log_softmax softmin"):gmatch "%S+" do TAKES_DTYPE[name] = true end

local function compile(source, name, lists)
  local chunk = assert(loadstring(source, "=aijit." .. name))
  return chunk(C, S, helper, lib, ffi.gc, lib.attend, unpack(lists or {}))
end

--- The function of a row with named parameters. in_place: it returns its first argument.
local function general(info, name, in_place)
  local lists, list_names, names, lines, args, options, known, order = {}, {}, {}, {}, {}, {}, {}, {}
  local has_default, rest = false, nil
  for i, p in ipairs(info.params) do
    names[i] = p.name
    if LIST[p.type] then
      lists[#lists + 1], list_names[#list_names + 1] = ffi.new "aj_ints", "L" .. i
    end
    if p.default then
      has_default = true
      local plain = not (LIST[p.type] or p.type == "aj_tensors")
      options[#options + 1] = ("if type(%s) == 'table'%s then o_, %s = %s, nil end"):format(p.name,
        plain and ""
          or (" and %s[1] == nil and next(%s) ~= nil"):format(p.name, p.name), p.name, p.name)
      known[p.name], order[#order + 1] = true, p.name
    end
  end
  local takes_dtype = TAKES_DTYPE[name]
  if takes_dtype then known.dtype, order[#order + 1] = true, "dtype" end
  -- One list of sizes may also be given as numbers in a row.
  local last = info.params[#info.params]
  if #info.params >= 2 and (last.type == "aj_shape" or last.type == "aj_dims") and not last.default then
    local others = 0
    for i = 2, #info.params - 1 do if info.params[i].type ~= "aj_base" then others = others + 1 end end
    if others == 0 then rest = ", b_, c_, d_, e_, f_, g_, h_" end
  end
  local fills = {}
  for i, p in ipairs(info.params) do
    if p.default then
      fills[#fills + 1] = ("if %s == nil then %s = o_.%s end"):format(p.name, p.name, p.name)
      local d = default_text(p)
      if d ~= "nil" then lines[#lines + 1] = ("if %s == nil then %s = %s end"):format(p.name, p.name, d) end
    end
    local line, expression
    if p.type == "aj_base" then line, expression = "", "1"
    else line, expression = convert(name, i, p) end
    if rest and i == #info.params then
      line = ("if type(%s) == 'number' then %s = H.sizes(%q, L%d, %s, %s%s) else %s end"):format(p.name, p.name, name, i,
        tostring(p.type == "aj_dims"), p.name, rest, line)
    end
    lines[#lines + 1] = line
    args[i] = expression
  end
  local formal = {}
  for i, p in ipairs(info.params) do if p.type ~= "aj_base" then formal[#formal + 1] = names[i] end end
  local given = table.concat(formal, ", ")
  local source = {"local C, S, H, lib, gc, attend", #list_names > 0 and ", " .. table.concat(list_names, ", ") or "", " = ...\n"}
  local function put(s) source[#source + 1] = s end
  put(("local NONE = %d\nlocal known, order = %s\nlocal self\n"):format(-2 ^ 31, "H.known_, H.order_"))
  put(("function self(%s%s)\n"):format(given, takes_dtype and ", o_" or rest or ""))
  if takes_dtype then
    put(("  if o_ ~= nil and type(o_) ~= 'table' then H.bad(%q, %d, 'options', 'a table', o_) end\n"):format(name, #formal + 1))
  end
  if takes_dtype and not has_default then put(("  if o_ then H.read_options(%q, o_, known, order) end\n"):format(name)) end
  if has_default then
    put((takes_dtype and "  " or "  local o_\n  ") .. table.concat(options, "\n  ") .. "\n")
    put(("  if o_ then\n    H.read_options(%q, o_, known, order)\n    %s\n  end\n"):format(name, table.concat(fills, "\n    ")))
  end
  if takes_dtype then put(("  if o_ and o_.dtype ~= nil then return H.with_dtype(self, o_.dtype, %s) end\n"):format(given)) end
  -- The arguments as given, for a second try after memory was out.
  local keep = {}
  for i, n in ipairs(formal) do keep[i] = n .. "_given" end
  if #formal > 0 then put(("  local %s = %s\n"):format(table.concat(keep, ", "), given)) end
  local record = ("H.record(%q, %s)"):format(name, table.concat(keep, ", ") .. (rest or ""))
  put("  " .. table.concat(lines, "\n  "):gsub("RECORD", function() return record end) .. "\n")
  put(("  local p_ = C.aj_%s(%s)\n"):format(name, table.concat(args, ", ")))
  if in_place then
    put(("  if S.attend ~= 0 then lib.ok() end\n  return %s\nend\nreturn self\n"):format(names[1]))
  else
    local results = {"p_"}
    local again = table.concat(keep, ", ") .. (rest or "")
    if #info.returns == 1 then put(attend_with(again))
    else
      -- The others are taken before anything else may run; after a failure they are those of the second try.
      local finish = {}
      put "  local a_ = S.attend\n"
      for i = 2, #info.returns do
        results[i] = ("r%d_"):format(i)
        finish[#finish + 1] = ("r%d_ = gc(r%d_, C.aj_release)"):format(i, i)
        put(("  local r%d_ = C.aj_result(%d)\n"):format(i, i))
      end
      put("  if a_ ~= 0 then\n")
      put(("    if a_ %% 2 == 1 then return attend(p_, self%s) end\n"):format(again ~= "" and ", " .. again or ""))
      put(("    if a_ %% 4 >= 2 then %s end\n"):format(table.concat(finish, " ")))
      put("    if a_ == 2 then p_ = gc(p_, C.aj_release) else p_ = attend(p_) end\n  end\n")
    end
    put("  return " .. table.concat(results, ", ") .. "\nend\nreturn self\n")
  end
  helper.known_, helper.order_ = known, order
  local f = compile(table.concat(source), name, lists)
  helper.known_, helper.order_ = nil, nil
  return f
end

-- -- Reading the table -----------------------------------------------------------------------------------------------------

local function parameters(params, defaults)
  local default, list = {}, {}
  for name, value in defaults:gmatch "([%w_]+)=(%S+)" do default[name] = value end
  for piece in params:gsub("^%(", ""):gsub("%)$", ""):gmatch "[^,]+" do
    local t, name = piece:match "^%s*(.-%s?%*?)%s*([%w_]+)%s*$"
    t = t:gsub("%s+$", ""):gsub("%s*%*$", " *")
    list[#list + 1] = {name = name, type = t, default = default[name]}
  end
  return list
end

local function read(i)
  local row = C.aj_op_info_at(i)
  local info = {}
  for _, field in ipairs {"domain", "sample", "doc", "autocast"} do info[field] = ffi.string(row[field]) end
  info.params = parameters(ffi.string(row.params), ffi.string(row.defaults))
  info.returns = {}
  for name in ffi.string(row.returns):gsub(";.*", ""):gmatch "[%w_]+" do info.returns[#info.returns + 1] = name end
  return info
end

---@type aijit.Op[]
op.rows = {}
---@type table<string, aijit.Op>
op.named = {}
---@type string[]  of all functions: rows, and their forms in place
op.names = {}
--- Functions of tensors that are made in Lua, by name: those that `ai.f` shows beside the rows.
---@type table<string, true>
op.faces = {}
--- Those that are seldom used: the module that makes each, when it is first named.
---@type table<string, string>
op.later = {einsum = "aijit.bindings.einsum"}
for name in ([[broadcast_tensors atleast_1d atleast_2d atleast_3d unflatten hstack vstack dstack column_stack meshgrid cartesian_prod combinations
  tril_indices triu_indices vander pdist tensor_split hsplit vsplit dsplit gradient]]):gmatch "%S+" do op.later[name] = "aijit.bindings.list" end
for name in ([[eq ne lt le gt ge logical_and logical_or logical_xor logical_not cumsum cumprod tril triu addmm addmv addr addbmm baddbmm
  renorm nextafter mvlgamma fill_diagonal dropout alpha_dropout
  feature_alpha_dropout rrelu]]):gmatch "%S+" do
  op.later[name .. "_"] = "aijit.bindings.inplace"
end
for name in ([[new_zeros new_ones new_empty new_full new_tensor randint_like rsub is_same_size is_signed is_nonzero positive isreal adjoint narrow_copy
  as_strided_scatter unravel_index]]):gmatch "%S+" do op.later[name] = "aijit.bindings.like" end
for name in ("log_normal_ cauchy_ geometric_ normal poisson binomial"):gmatch "%S+" do op.later[name] = "aijit.bindings.distribution" end
for name in ("gumbel_softmax rrelu feature_alpha_dropout lp_pool1d lp_pool2d lp_pool3d triplet_margin_with_distance_loss"):gmatch "%S+" do
  op.later[name] = "aijit.bindings.network"
end
op.later.ctc_loss = "aijit.bindings.ctc"
op.later.histogram, op.later.histogramdd = "aijit.bindings.histogram", "aijit.bindings.histogram"
op.later.segment_reduce, op.later.nonzero_static = "aijit.bindings.segment", "aijit.bindings.segment"
for name in ("fractional_max_pool2d fractional_max_pool2d_with_indices fractional_max_pool3d fractional_max_pool3d_with_indices"):gmatch "%S+" do
  op.later[name] = "aijit.bindings.fractional"
end
for n = 1, 3 do op.later[("max_pool%dd"):format(n)], op.later[("adaptive_max_pool%dd"):format(n)] = "aijit.bindings.pool", "aijit.bindings.pool" end

-- name = {row, in place}; what is never called is never compiled, which keeps the start short.
local source_of = {}

for i = 0, C.aj_op_count() - 1 do
  local row = C.aj_op_info_at(i)
  local info = setmetatable({index = i, name = ffi.string(row.name), kind = ffi.string(row.kind)}, {__index = function(t, field)
    -- The other fields are read when they are first asked for.
    for k, v in pairs(read(t.index)) do rawset(t, k, v) end
    return rawget(t, field)
  end})
  op.rows[#op.rows + 1] = info
  op.named[info.name] = info
  source_of[info.name] = {info, info.kind == "UPDATE"}
  if info.kind == "UNARY" or info.kind == "BINARY" or info.kind == "BINARY_S" then source_of[info.name .. "_"] = {info, true} end
end
for name in pairs(source_of) do op.names[#op.names + 1] = name end
table.sort(op.names)

local function build(name)
  local info, in_place = unpack(source_of[name])
  local kind = info.kind
  if in_place then
    if kind == "BINARY" then return compile(IN_PLACE_BINARY:gsub("NAME", info.name), name) end
    return general(info, name, true)
  end
  if kind == "BINARY" or kind == "COMPARE" then
    return compile(BINARY:gsub("ATTEND", attend_with "a, b"):gsub("NAME", name), name)
  end
  return general(info, name)
end

--- The functions of all rows; each is made when it is first named.
---@type table<string, function>
op.functions = setmetatable({}, {__index = function(t, name)
  if not source_of[name] then return nil end
  local f = build(name)
  rawset(t, name, f)
  return f
end})

--- Ops that answer a question, with bools: what an `if` might have been meant to ask.
---@type table<string, true>
op.questions = {all = true, any = true, isin = true, isclose = true, equal = true, allclose = true}
for _, info in ipairs(op.rows) do
  if info.kind == "COMPARE" or info.kind == "TEST" then op.questions[info.name] = true end
end

--- How a row is called from Lua: `softmax(x, dim=-1)`.
---@param info aijit.Op
---@return string
function op.signature(info)
  local list = {}
  for _, p in ipairs(info.params) do
    if p.type ~= "aj_base" then list[#list + 1] = p.name .. (p.default and "=" .. p.default or "") end
  end
  if TAKES_DTYPE[info.name] then list[#list + 1] = "dtype=nil" end
  return ("%s(%s)"):format(info.name, table.concat(list, ", "))
end

op.helper = helper
return op
