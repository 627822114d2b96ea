--- A random program as data: leaves, statements that make values from values, and the values it ends with. It can be run
-- in several ways that must all give the same, and printed as a Lua program that does what was run.

local ai = require "aijit"
local sample = require "spec.support.sample"
local ffi = require "ffi"

local program = {}

---@class aijit.FuzzLeaf
---@field sizes integer[]
---@field kind string       as in spec/support/sample.lua; "b" and "i" are not floats
---@field values number[]   exact in f32
---@field grad boolean      wants a gradient

---@class aijit.FuzzStatement
---@field f string          a function of ai.f, or "detach"
---@field args any[]        literals; {v = id} a value; {list = {{v = id}, ...}}
---@field n integer         how many
---@field results integer[] ids; none of an in-place op
---@field frozen boolean?   no gradient flows through: a constant where differences are taken
---@field whole boolean?    what it makes has a property (symmetry) that its elements alone have not: shrinking keeps it
---@field pinned boolean?   its memory is written in place later: no copy may take its place

---@class aijit.FuzzProgram
---@field seed integer
---@field leaves table<integer, aijit.FuzzLeaf>   by id
---@field statements aijit.FuzzStatement[]
---@field count integer     ids given out
---@field sinks integer[]   the values that count
---@field scopes integer[][]  {first, last} statements that may run in a scope of their own

local float1 = ffi.new "float[1]"
local function as_float(v) float1[0] = v return tonumber(float1[0]) end

--- The leaf that a sample text and a seed mean.
---@return aijit.FuzzLeaf
function program.leaf(text, seed, grad)
  sample.seed(seed)
  local input = sample.read(text)[1]
  for i, v in ipairs(input.values) do input.values[i] = as_float(v) end
  local floats = sample.is_differentiable(input)
  return {sizes = input.sizes, kind = input.kind, values = input.values, grad = grad and floats or false, floats = floats}
end

---@param leaf aijit.FuzzLeaf
---@param o {dtype: string?, strided: boolean?}
---@return aijit.Tensor
function program.tensor(leaf, o)
  return sample.tensor(leaf, o.dtype or "f64", o.strided and (#leaf.sizes >= 2 and #leaf.values % 2 == 0 and "transposed" or "sliced") or nil)
end

-- -- Running ----------------------------------------------------------------------------------------------------------

local function argument(values, a)
  if type(a) ~= "table" then return a end
  if a.v then return values[a.v] end
  if a.list then
    local list = {}
    for i, x in ipairs(a.list) do list[i] = values[x.v] end
    return list
  end
  return a
end

--- Calls a statement's function on values by id.
function program.call(s, values)
  local args = {}
  for i = 1, s.n do args[i] = argument(values, s.args[i]) end
  if s.f == "detach" then return args[1]:detach() end
  return ai.f[s.f](unpack(args, 1, s.n))
end

-- Numbers in (-1, 1) of the sizes of a tensor, the same for the same n.
local function noise(like, n)
  local wave = ai.arange(1, like:numel(), {dtype = "f64"})
  return ((wave * 12.9898 + n * 78.233):sin() * 43758.5453):frac():reshape(like:size())
end
program.noise = noise

local function is_float(t) return ai.is_tensor(t) and t:is_floating_point() end

local function strided(y)
  local n = y:dim()
  if n >= 2 then return y:transpose(1, n):contiguous():transpose(1, n) end
  if n == 1 and y:numel() > 0 then return ai.stack({y, y}, 2):select(2, 1) end
  return y
end

---@class aijit.FuzzRun
---@field dtype string?     f64 by default
---@field leaves table<integer, aijit.Tensor>?  in place of the program's own
---@field strided boolean?  leaves and results that are not contiguous
---@field scoped boolean?   ranges of statements run in scopes
---@field noise number?     every float is multiplied by 1 + noise * r, r in (-1, 1)
---@field draw integer?     which r
---@field record table?     takes the values of frozen statements
---@field frozen table?     gives them
---@field grad boolean?     leaves want gradients (true by default)

local function step(p, s, values, o)
  if s.frozen and o.frozen then
    for _, id in ipairs(s.results) do values[id] = s.pinned and o.frozen[id]:clone() or o.frozen[id] end       -- a write must not reach what is kept
    return
  end
  local t = s
  if o.strided and s.f == "view" and not s.pinned then t = {f = "reshape", args = s.args, n = s.n} end
  local r = {program.call(t, values)}
  for i, id in ipairs(s.results) do
    local y = r[i]
    if is_float(y) and not s.pinned then
      if o.noise and y:numel() > 0 then y = y * (1 + o.noise * noise(y, id * 31 + (o.draw or 1))):to(y.dtype) end
      if o.strided then y = strided(y) end
    end
    values[id] = y
    if s.frozen and o.record then o.record[id] = y:detach():clone() end
  end
end

-- The values that statements first..last make and that others, or the sinks, read.
local function escaping(p, first, last)
  local made, out, seen = {}, {}, {}
  for i = first, last do for _, id in ipairs(p.statements[i].results) do made[id] = true end end
  local function use(id) if made[id] and not seen[id] then seen[id] = true out[#out + 1] = id end end
  for i = last + 1, #p.statements do
    local s = p.statements[i]
    for k = 1, s.n do
      local a = s.args[k]
      if type(a) == "table" then
        if a.v then use(a.v) end
        for _, x in ipairs(a.list or {}) do use(x.v) end
      end
    end
  end
  for _, id in ipairs(p.sinks) do use(id) end
  return out
end

--- Runs a program; the values by id.
---@param p aijit.FuzzProgram
---@param o aijit.FuzzRun
---@return table<integer, aijit.Tensor> values
function program.run(p, o)
  if not o.unseeded then ai.manual_seed(p.seed % 1000) end
  local values = {}
  for id, leaf in pairs(p.leaves) do
    local t = o.leaves and o.leaves[id]
    if not t then
      t = program.tensor(leaf, o)
      if leaf.grad and o.grad ~= false then t:requires_grad_() end
    end
    values[id] = t
    if o.noise and leaf.floats and t:numel() > 0 then values[id] = t * (1 + o.noise * noise(t, id * 17 + (o.draw or 1))):to(t.dtype) end
    values[-id] = t                                      -- the leaf itself, for gradients
  end
  local i = 1
  while i <= #p.statements do
    local range
    for _, r in ipairs(o.scoped and p.scopes or {}) do if r[1] == i then range = r end end
    if range then
      local ids = escaping(p, range[1], range[2])
      local kept = ai.scope(function()
        for k = range[1], range[2] do step(p, p.statements[k], values, o) end
        local list = {}
        for k, id in ipairs(ids) do list[k] = values[id] end
        return list
      end)
      for k = range[1], range[2] do for _, id in ipairs(p.statements[k].results) do values[id] = nil end end
      for k, id in ipairs(ids) do values[id] = kept[k] end
      i = range[2] + 1
    else
      step(p, p.statements[i], values, o)
      i = i + 1
    end
  end
  return values
end

--- Fixed weights for the elements of value id.
function program.weights(id, y)
  return ((ai.arange(1, y:numel(), {dtype = "f64"}) * 1.7 + id):sin() + 0.3):to "f32":to(y.dtype):reshape(y:size())
end

--- The weighted sum of the float sinks; nil when there is none.
function program.total(p, values)
  local sum
  for _, id in ipairs(p.sinks) do
    local y = values[id]
    if is_float(y) and y:numel() > 0 then
      local part = (y * program.weights(id, y)):sum()
      sum = sum and sum + part or part
    end
  end
  return sum
end

-- -- Printing ---------------------------------------------------------------------------------------------------------

local function literal(a)
  if type(a) == "string" then return ("%q"):format(a) end
  if type(a) == "table" then
    if a.v then return "v" .. a.v end
    local list = {}
    for i, x in ipairs(a.list or a) do list[i] = literal(x) end
    return "{" .. table.concat(list, ", ") .. "}"
  end
  if a == math.huge then return "math.huge" elseif a == -math.huge then return "-math.huge" end
  return type(a) == "number" and ("%.9g"):format(a) or tostring(a)
end

--- The program as Lua source that runs by itself.
---@param p aijit.FuzzProgram
---@param why string?
---@return string
function program.text(p, why)
  local out = {}
  local function put(fmt, ...) out[#out + 1] = select("#", ...) > 0 and fmt:format(...) or fmt end
  for line in ((why or "") .. "\n"):gmatch "([^\n]+)\n" do put("-- " .. line) end
  put 'local ai = require "aijit"'
  put('local dtype = "f64"')
  put("ai.manual_seed(%d)", p.seed % 1000)
  local used, wanted, ids = {}, {}, {}
  for _, s in ipairs(p.statements) do
    for k = 1, s.n do
      local a = s.args[k]
      if type(a) == "table" then
        if a.v then used[a.v] = true end
        for _, x in ipairs(a.list or {}) do used[x.v] = true end
      end
    end
  end
  for _, id in ipairs(p.sinks) do used[id] = true end
  for id in pairs(p.leaves) do if used[id] then ids[#ids + 1] = id end end
  table.sort(ids)
  for _, id in ipairs(ids) do
    local leaf = p.leaves[id]
    local numbers = {}
    for i, v in ipairs(leaf.values) do numbers[i] = ("%.9g"):format(v) end
    local dtype = leaf.kind == "b" and '"bool"' or leaf.kind == "i" and '"i64"' or "dtype"
    put("local v%d = ai.tensor({%s}, {dtype = \"f64\"}):reshape(%s):to(%s)%s", id, table.concat(numbers, ", "), literal(leaf.sizes), dtype,
      leaf.grad and ":requires_grad_()" or "")
    if leaf.grad then wanted[#wanted + 1] = "v" .. id end
  end
  for _, s in ipairs(p.statements) do
    local args, names = {}, {}
    for k = 1, s.n do args[k] = literal(s.args[k]) end
    for k, id in ipairs(s.results) do names[k] = "v" .. id end
    local made = #names > 0 and "local " .. table.concat(names, ", ") .. " = " or ""
    if s.f == "detach" then put("%s%s:detach()", made, args[1])
    else put("%sai.f.%s(%s)", made, s.f, table.concat(args, ", ")) end
  end
  put "local function weighted(y, k)"
  put "  return (y * ((ai.arange(1, y:numel(), {dtype = \"f64\"}) * 1.7 + k):sin() + 0.3):to \"f32\":to(y.dtype):reshape(y:size())):sum()"
  put "end"
  local parts = {}
  for _, id in ipairs(p.sinks) do parts[#parts + 1] = ("weighted(v%d, %d)"):format(id, id) end
  put("local total = %s", table.concat(parts, " + "))
  put "print(total)"
  put("for _, g in ipairs(ai.grad(total, {%s}, {allow_unused = true})) do print(g) end", table.concat(wanted, ", "))
  return table.concat(out, "\n") .. "\n"
end

return program
