--- A random program under construction: its numbers, its values so far, and the statements that are added. Every statement is
-- run as it is added: one whose result is not finite, too large, or changes abruptly nearby (a kink, a step, a tie) is left
-- out, so that differences mean something.

local ai = require "aijit"
local op = require "aijit.bindings.op"
local lib = require "aijit.bindings.lib"
local sample = require "spec.support.sample"
local program = require "spec.fuzz.program"

local build = {}

-- Rows that are random, that see addresses rather than values, that lose precision on purpose, or whose derivative by their first
-- tensor is not known.
local LEFT_OUT = {uniform_ = true, normal_ = true, bernoulli_ = true, exponential_ = true, random_ = true, bernoulli = true, multinomial = true,
  cast = true, as_strided = true, fill_ = true, copy_ = true, zeta = true, igamma = true, igammac = true}
-- Results whose signs are not fixed: their squares are taken in their place.
local SIGN_FREE = {eigh = {2}, svd = {1, 3}}
local SHARES_MEMORY = {VIEW = true, COMPOSE = true}

local state = 1
function build.random(n)
  state = state * 48271 % 2147483647
  return n and math.floor(state / 2147483647 * n) + 1 or state / 2147483647
end
local random = build.random
function build.chance(probability) return random() < probability end
function build.pick(list) return list[random(#list)] end
local chance = build.chance

-- -- The table, sorted --------------------------------------------------------------------------------------------------

local never = {}                       -- rows with no gradient at all
local unary, binary, structured, updates = {}, {}, {}, {}
for _, row in ipairs(op.rows) do
  local saves = lib.ffi.string(lib.C.aj_op_info_at(row.index).saves)
  never[row.name] = saves:find "%-" ~= nil and saves:gsub("[-|%s]", "") == ""
  if not LEFT_OUT[row.name] then
    local k = row.kind
    if k == "UNARY" then if row.domain ~= "INT" then unary[#unary + 1] = row end
    elseif k == "BINARY" or k == "BINARY_S" then if row.domain ~= "INT" then binary[#binary + 1] = row end
    elseif k == "UPDATE" then updates[#updates + 1] = row
    else structured[#structured + 1] = row end
  end
end
build.rows = #unary + #binary + #structured + #updates

-- -- The program under construction --------------------------------------------------------------------------------------

---@class aijit.FuzzValue
---@field sizes integer[]
---@field float boolean
---@field root integer     ids of one root may share memory
---@field writable boolean

---@type aijit.FuzzProgram
build.p = nil
---@type table<integer, aijit.Tensor>
build.values = nil
---@type table<integer, aijit.FuzzValue>
build.info = nil
build.big = false
-- How often each function was used, and the last refusal of each.
build.used, build.refusals = {}, {}
-- Writes that a gradient refused.
build.undone = 0

local function new_id()
  build.p.count = build.p.count + 1
  return build.p.count
end

-- Raised by a maker that would need a leaf of so many elements that a program takes seconds.
local TOO_LARGE = "too large"

local function add_leaf(text, grad)
  local n = 1
  for size in text:match("^[%dx]*"):gmatch "%d+" do n = n * tonumber(size) end
  if n > (build.big and 2 ^ 20 or 2000) then error(TOO_LARGE, 0) end
  local id = new_id()
  local leaf = program.leaf(text, random(2 ^ 30), grad ~= false)
  build.p.leaves[id] = leaf
  build.values[id] = program.tensor(leaf, {})
  if leaf.grad then build.values[id]:requires_grad_() end
  build.info[id] = {sizes = leaf.sizes, float = leaf.floats, root = id, writable = false}
  return id
end

local function text_of(sizes, kind) return (#sizes == 0 and "()" or table.concat(sizes, "x")) .. (kind or "") end

local function all_finite(y)
  return y:numel() == 0 or y:detach():abs():amax():item() < 60       -- false for NaN too
end

-- Whether the function is smooth near its arguments: second differences are of second order, and whole numbers stay.
local STEP = 1e-4
local function smooth(s, results)
  local ids = {}
  for k = 1, s.n do
    local a = s.args[k]
    if type(a) == "table" then
      if a.v then ids[a.v] = true end
      for _, x in ipairs(a.list or {}) do ids[x.v] = true end
    end
  end
  local any = false
  for id in pairs(ids) do any = any or build.info[id].float end
  if not any then return true end
  for draw = 1, build.big and 1 or 2 do
    local moved = {{}, {}}
    for id in pairs(ids) do
      local x = build.values[id]
      for side = 1, 2 do
        moved[side][id] = x
        if build.info[id].float and x:numel() > 0 then
          local d = program.noise(x, draw * 7 + id):sign() * (x:abs() + 1) * (side == 1 and STEP or -STEP)
          moved[side][id] = x + d
        end
      end
    end
    local near = {}
    for side = 1, 2 do
      ai.manual_seed(build.p.seed % 1000)
      near[side] = {program.call(s, moved[side])}
    end
    for i, y in ipairs(results) do
      if ai.is_tensor(y) and y:numel() > 0 then
        local a, b = near[1][i], near[2][i]
        if not y:is_floating_point() then
          if not ai.f.equal(a, y):item() or not ai.f.equal(b, y):item() then return false end
        else
          if not (((a + b - y * 2):abs():amax():item()) < 2e-5 * (1 + y:abs():amax():item())) then return false end
          if not ((a - b):abs():amax():item() < 0.05) then return false end
        end
      end
    end
  end
  return true
end

local function is_seeded(name) return name:find("dropout", 1, true) ~= nil end

--- Adds a statement if it is a good one. Returns the ids of its results.
local emit
function emit(name, args, n, o)
  o = o or {}
  n = n or #args
  local s = {f = name, args = args, n = n, results = {}}
  local in_place = name:sub(-1) == "_"
  if is_seeded(name) and name ~= "dropout_at" then return nil end      -- draws depend on what ran before
  local ok, results = pcall(function() return {program.call(s, build.values)} end)
  if not ok then
    local refused = tostring(results)
    build.refusals[name] = refused
    local can_refuse = refused:find "singular" or refused:find "definite"          -- some matrices
    if o.must and not can_refuse then error(("%s refuses arguments that fit its sample: %s"):format(name, refused), 0) end
    return nil
  end
  if in_place then
    build.p.statements[#build.p.statements + 1] = s
    return {}
  end
  for _, y in ipairs(results) do
    if not ai.is_tensor(y) or y:numel() > (build.big and 2 ^ 20 or 400) or y:dim() > 6 then return nil end
    if y:is_floating_point() and not all_finite(y) then return nil end
  end
  if not o.smooth then
    local fine, yes = pcall(ai.no_grad, smooth, s, results)
    if not fine or not yes then return nil end
  end
  local first = s.args[1]
  local source = first and type(first) == "table" and (first.v or first.list and first.list[1] and first.list[1].v)
  local row = op.named[name]
  local shares = name == "detach" or row and SHARES_MEMORY[row.kind]
  for i, y in ipairs(results) do
    local id = new_id()
    s.results[i] = id
    build.values[id] = y
    build.info[id] = {sizes = y:size(), float = y:is_floating_point(), root = id, writable = y:is_floating_point() and not (name == "detach")}
    if shares and source then
      build.info[id].root = build.info[source].root
      build.info[id].writable = build.info[source].writable and build.info[id].float
      -- A view of the second or a later tensor of a list could hide from the root.
      if row and row.kind == "COMPOSE" and n > 1 and type(args[2]) == "table" then build.info[id].writable = false end
    end
  end
  if name == "detach" then                               -- what is written later would be written here too
    for _, v in pairs(build.info) do if v.root == build.info[source].root then v.writable = false end end
  end
  if name == "detach" or never[name] then s.frozen = true end
  build.p.statements[#build.p.statements + 1] = s
  build.used[name] = (build.used[name] or 0) + 1
  for _, i in ipairs(SIGN_FREE[name] or {}) do
    local id = s.results[i]
    emit("square", {{v = id}})
    build.info[id].hidden = true
  end
  return s.results
end

local function one(name, args, n, o)
  local r = emit(name, args, n, o)
  return r and r[1]
end
local function V(id) return {v = id} end

local function floats(f)
  local list = {}
  for id = 1, build.p.count do
    local v = build.info[id]
    if v and v.float and not v.hidden and (not f or f(v, id)) then list[#list + 1] = id end
  end
  return list
end
local function some_float(f)
  local list = floats(f)
  if #list == 0 then return nil end
  -- Later ones more often, so that programs get deep.
  return list[math.max(random(#list), random(#list))]
end

local function count(sizes)
  local n = 1
  for _, s in ipairs(sizes) do n = n * s end
  return n
end

-- -- Making a value fit --------------------------------------------------------------------------------------------------

--- A value with numbers of a kind of sample, made of value id.
local function into(id, kind)
  local sizes = build.info[id].sizes
  if kind == "i" then return nil end
  local function bounded() return one("tanh", {V(id)}) end
  if kind == "+" or kind == "p" or kind == "^" then
    local y = one("sigmoid", {V(id)})
    if not y then return nil end
    if kind == "+" then return one("add", {V(y), 0.5}) end
    y = one("mul", {V(y), kind == "p" and 0.875 or 1.75})
    return y and one("add", {V(y), kind == "p" and 0.0625 or 1.25})
  elseif kind == "%" then
    local y = bounded()
    return y and one("mul", {V(y), 0.875})
  elseif kind == "~" then
    local y = bounded()
    y = y and one("square", {V(y)})
    y = y and one("add", {V(y), 0.25})
    return y and (chance(0.5) and one("neg", {V(y)}) or y)
  elseif kind == "u" then
    local y = bounded()
    y = y and one("mul", {V(y), 0.03125})
    return y and one("add", {V(y), V(add_leaf(text_of(sizes, "u"), false))})
  elseif kind == "s" then
    local y = bounded()
    local t = y and one("transpose", {V(y), -2, -1})
    y = t and one("add", {V(y), V(t)})
    y = y and one("add", {V(y), V(add_leaf(text_of(sizes, "s"), false))})
    if y then build.p.statements[#build.p.statements].whole = true end
    return y
  elseif kind == "b" then
    return one("gt", {V(id), 0.1})
  end
  local x = build.values[id]
  if x:numel() > 0 and ai.no_grad(function() return x:abs():amax():item() end) > 1.5 then return bounded() end
  return id
end

--- A value of these sizes: a part of value id, or as many copies as it takes.
local function fit(id, sizes)
  local have, want = count(build.info[id].sizes), count(sizes)
  if have == 0 and want > 0 then return nil end
  local flat = one("reshape", {V(id), {want == have and want or -1}})
  if not flat then return nil end
  if have < want then flat = one("tile", {V(flat), {math.ceil(want / have)}}) end
  have = flat and build.info[flat].sizes[1]
  if flat and have > want then
    flat = chance(0.5) and one("narrow", {V(flat), 1, random(have - want + 1), want})
      or one("slice", {V(flat), 1, have - want + 1, have, 1})
  end
  return flat and one("reshape", {V(flat), sizes})
end

--- An input for a sample's place: a leaf, or made of what there is.
local function input(sizes, kind, top)
  if kind == "i" then return add_leaf(text_of(sizes, "i" .. (top or ""))) end
  local id = chance(0.75) and some_float() or nil
  if not id or count(sizes) == 0 then
    if kind == "s" then return into(add_leaf(text_of(sizes)), kind) end
    return add_leaf(text_of(sizes, kind))
  end
  local same = #sizes == #build.info[id].sizes and table.concat(sizes, "x") == table.concat(build.info[id].sizes, "x")
  if not same then id = fit(id, sizes) end
  if id and kind ~= "" then id = into(id, kind) elseif id then id = into(id, "") end
  return id or add_leaf(text_of(sizes, kind), kind ~= "s")
end

-- -- Rows and their samples ------------------------------------------------------------------------------------------------

local function sample_kind(row, i)
  local inputs = sample.read(row.sample)
  return inputs[i] and inputs[i].kind or ""
end

-- Scalars of a row after its tensors, from its sample.
local function scalars(row)
  local _, rest, n = sample.read(row.sample)
  return rest, n
end

-- Sizes that broadcast against others.
local function narrower(sizes)
  local s, first = {}, chance(0.3) and #sizes > 0 and random(#sizes) or 1
  for d = first, #sizes do s[#s + 1] = chance(0.3) and 1 or sizes[d] end
  return s
end

build.unary, build.binary, build.structured, build.updates = unary, binary, structured, updates
build.add_leaf = add_leaf
build.text_of = text_of
build.all_finite = all_finite
build.smooth = smooth
build.is_seeded = is_seeded
build.emit = emit
build.one = one
build.V = V
build.some_float = some_float
build.count = count
build.into = into
build.input = input
build.sample_kind = sample_kind
build.scalars = scalars
build.narrower = narrower
build.floats, build.TOO_LARGE = floats, TOO_LARGE

--- Begins the program of a seed.
---@param seed integer
function build.begin(seed)
  state = (seed * 7919 + 12345) % 2147483646 + 1
  for _ = 1, 8 do random() end
  build.big = chance(0.02)
  build.p = {seed = seed, leaves = {}, statements = {}, count = 0, sinks = {}, scopes = {}, big = build.big}
  build.values, build.info = {}, {}
  return build.p
end

return build
