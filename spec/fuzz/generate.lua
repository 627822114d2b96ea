--- Makes random programs. Every statement is run as it is added: one whose result is not finite, too large, or changes
-- abruptly nearby (a kink, a step, a tie) is left out, so that differences mean something.

local ai = require "aijit"
local op = require "aijit.bindings.op"
local lib = require "aijit.bindings.lib"
local sample = require "spec.support.sample"
local program = require "spec.fuzz.program"

local generate = {}

-- Rows that are random, that see addresses rather than values, that lose precision on purpose, or whose derivative by their first
-- tensor is not known.
local LEFT_OUT = {uniform_ = true, normal_ = true, bernoulli_ = true, exponential_ = true, random_ = true, bernoulli = true, multinomial = true,
  cast = true, as_strided = true, fill_ = true, copy_ = true, zeta = true, igamma = true, igammac = true}
-- Results whose signs are not fixed: their squares are taken in their place.
local SIGN_FREE = {eigh = {2}, svd = {1, 3}}
local SHARES_MEMORY = {VIEW = true, COMPOSE = true}

local state = 1
local function random(n)
  state = state * 48271 % 2147483647
  return n and math.floor(state / 2147483647 * n) + 1 or state / 2147483647
end
generate.random = random
local function chance(p) return random() < p end
local function pick(list) return list[random(#list)] end

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
generate.rows = #unary + #binary + #structured + #updates

-- -- The program under construction --------------------------------------------------------------------------------------

---@class aijit.FuzzValue
---@field sizes integer[]
---@field float boolean
---@field root integer     ids of one root may share memory
---@field writable boolean

local p, values, info, big, refused
generate.used, generate.refusals = {}, {}

local function new_id()
  p.count = p.count + 1
  return p.count
end

-- Raised by a maker that would need a leaf of so many elements that a program takes seconds.
local TOO_LARGE = "too large"

local function add_leaf(text, grad)
  local n = 1
  for size in text:match("^[%dx]*"):gmatch "%d+" do n = n * tonumber(size) end
  if n > (big and 2 ^ 20 or 2000) then error(TOO_LARGE, 0) end
  local id = new_id()
  local leaf = program.leaf(text, random(2 ^ 30), grad ~= false)
  p.leaves[id] = leaf
  values[id] = program.tensor(leaf, {})
  if leaf.grad then values[id]:requires_grad_() end
  info[id] = {sizes = leaf.sizes, float = leaf.floats, root = id, writable = false}
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
  for id in pairs(ids) do any = any or info[id].float end
  if not any then return true end
  for draw = 1, big and 1 or 2 do
    local moved = {{}, {}}
    for id in pairs(ids) do
      local x = values[id]
      for side = 1, 2 do
        moved[side][id] = x
        if info[id].float and x:numel() > 0 then
          local d = program.noise(x, draw * 7 + id):sign() * (x:abs() + 1) * (side == 1 and STEP or -STEP)
          moved[side][id] = x + d
        end
      end
    end
    local near = {}
    for side = 1, 2 do
      ai.manual_seed(p.seed % 1000)
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
  local ok, results = pcall(function() return {program.call(s, values)} end)
  if not ok then
    refused = tostring(results)
    generate.refusals[name] = refused
    local can_refuse = refused:find "singular" or refused:find "definite"          -- some matrices
    if o.must and not can_refuse then error(("%s refuses arguments that fit its sample: %s"):format(name, refused), 0) end
    return nil
  end
  if in_place then
    p.statements[#p.statements + 1] = s
    return {}
  end
  for _, y in ipairs(results) do
    if not ai.is_tensor(y) or y:numel() > (big and 2 ^ 20 or 400) or y:dim() > 6 then return nil end
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
    values[id] = y
    info[id] = {sizes = y:size(), float = y:is_floating_point(), root = id, writable = y:is_floating_point() and not (name == "detach")}
    if shares and source then
      info[id].root = info[source].root
      info[id].writable = info[source].writable and info[id].float
      -- A view of the second or a later tensor of a list could hide from the root.
      if row and row.kind == "COMPOSE" and n > 1 and type(args[2]) == "table" then info[id].writable = false end
    end
  end
  if name == "detach" then                               -- what is written later would be written here too
    for _, v in pairs(info) do if v.root == info[source].root then v.writable = false end end
  end
  if name == "detach" or never[name] then s.frozen = true end
  p.statements[#p.statements + 1] = s
  generate.used[name] = (generate.used[name] or 0) + 1
  for _, i in ipairs(SIGN_FREE[name] or {}) do
    local id = s.results[i]
    emit("square", {{v = id}})
    info[id].hidden = true
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
  for id = 1, p.count do if info[id] and info[id].float and not info[id].hidden and (not f or f(info[id], id)) then list[#list + 1] = id end end
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
  local sizes = info[id].sizes
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
    if y then p.statements[#p.statements].whole = true end
    return y
  elseif kind == "b" then
    return one("gt", {V(id), 0.1})
  end
  local x = values[id]
  if x:numel() > 0 and ai.no_grad(function() return x:abs():amax():item() end) > 1.5 then return bounded() end
  return id
end

--- A value of these sizes: a part of value id, or as many copies as it takes.
local function fit(id, sizes)
  local have, want = count(info[id].sizes), count(sizes)
  if have == 0 and want > 0 then return nil end
  local flat = one("reshape", {V(id), {want == have and want or -1}})
  if not flat then return nil end
  if have < want then flat = one("tile", {V(flat), {math.ceil(want / have)}}) end
  have = flat and info[flat].sizes[1]
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
  local same = #sizes == #info[id].sizes and table.concat(sizes, "x") == table.concat(info[id].sizes, "x")
  if not same then id = fit(id, sizes) end
  if id and kind ~= "" then id = into(id, kind) elseif id then id = into(id, "") end
  return id or add_leaf(text_of(sizes, kind), kind ~= "s")
end

-- -- Makers: each adds a few statements -------------------------------------------------------------------------------------

local function sample_kind(row, i)
  local inputs = sample.read(row.sample)
  return inputs[i] and inputs[i].kind or ""
end

-- Scalars of a row after its tensors, from its sample.
local function scalars(row)
  local _, rest, n = sample.read(row.sample)
  return rest, n
end

local function fresh_sizes()
  local n = big and random(3) or random(4)
  if not big and chance(0.05) then return {} end
  local sizes = {}
  for i = 1, n do sizes[i] = big and (n == 3 and 16 + random(48) or 200 + random(300)) or random(5) end
  if big and n == 1 then sizes[1] = 150000 + random(1000) end
  if not big and chance(0.01) then sizes[n] = 0 end
  return sizes
end

local makers = {}

function makers.unary()
  local row = pick(unary)
  local id = some_float()
  if not id then return end
  local kind = sample_kind(row, 1)
  id = (kind ~= "" or chance(0.5)) and into(id, kind) or id
  if not id then return end
  local rest, n = scalars(row)
  local args = {V(id)}
  for i = 1, n do args[1 + i] = rest[i] end
  return emit(row.name, args, 1 + n)
end

-- Sizes that broadcast against others.
local function narrower(sizes)
  local s, first = {}, chance(0.3) and #sizes > 0 and random(#sizes) or 1
  for d = first, #sizes do s[#s + 1] = chance(0.3) and 1 or sizes[d] end
  return s
end

function makers.binary()
  local row = pick(binary)
  local a = some_float()
  if not a then return end
  local ka, kb = sample_kind(row, 1), sample_kind(row, 2)
  a = into(a, ka)
  if not a then return end
  local b
  local how = random()
  if how < 0.3 then b = some_float(function(v) return table.concat(v.sizes, "x") == table.concat(info[a].sizes, "x") end)
  elseif how < 0.45 and row.kind == "BINARY" then
    local number = ({["+"] = 0.75, ["~"] = 0.5, ["%"] = -0.5, ["^"] = 1.5, p = 0.25})[kb] or pick {0.5, -0.75, 2}
    if chance(0.3) and ka == kb then return emit(row.name, {number, V(a)}) end
    return emit(row.name, {V(a), number})
  end
  b = b and into(b, kb) or input(narrower(info[a].sizes), kb)
  if not b then return end
  if chance(0.3) and ka == kb then a, b = b, a end
  local rest, n = scalars(row)
  local args = {V(a), V(b)}
  for i = 1, n do args[2 + i] = rest[i] end
  return emit(row.name, args, 2 + n)
end

local function some_dims(n)
  local dims = {}
  for d = 1, n do if chance(0.5) then dims[#dims + 1] = chance(0.3) and d - n - 1 or d end end
  if #dims == 0 then dims[1] = random(n) end
  return dims
end

function makers.reduction()
  local id = some_float(function(v) return #v.sizes > 0 end)
  if not id then return end
  local n = #info[id].sizes
  local name = pick {"sum", "mean", "amax", "amin", "prod", "var", "std", "norm", "logsumexp", "max_dim", "min_dim", "cumsum", "cumprod", "cumsum_from_end",
    "argmax", "var_mean", "softmax", "log_softmax", "softmin", "sort", "normalize"}
  local d = chance(0.3) and random(n) - n - 1 or random(n)
  local keep = chance(0.4)
  if name == "amax" or name == "amin" or name == "max_dim" or name == "min_dim" or name == "sort" or name == "argmax" then
    if chance(0.5) then id = into(id, "u") or id end
  end
  if name == "sum" or name == "mean" or name == "amax" or name == "amin" or name == "prod" or name == "logsumexp" then
    if chance(0.15) and name ~= "logsumexp" then return emit(name, {V(id)}) end
    return emit(name, {V(id), some_dims(n), keep})
  elseif name == "var" or name == "std" or name == "var_mean" then return emit(name, {V(id), some_dims(n), random(2) - 1, keep})
  elseif name == "norm" then return emit(name, {V(id), pick {1, 2, 3, math.huge}, some_dims(n), keep})
  elseif name == "max_dim" or name == "min_dim" or name == "argmax" then return emit(name, {V(id), d, keep})
  elseif name == "normalize" then return emit(name, {V(id), 2, d, 1e-3}) end
  return emit(name, {V(id), d})
end

local function a_view(id)
  local sizes = info[id].sizes
  local n = #sizes
  if n == 0 then return one("unsqueeze", {V(id), 1}) end
  local d = random(n)
  local what = random(13)
  if what == 1 then return one("transpose", {V(id), d, -random(n)})
  elseif what == 2 then
    local order = {}
    for i = 1, n do table.insert(order, random(#order + 1), i) end
    return one("permute", {V(id), order})
  elseif what == 3 then return one("unsqueeze", {V(id), random(n + 1)})
  elseif what == 4 then return one("squeeze", {V(id)}, 1)
  elseif what == 5 and sizes[d] > 0 then return one("select", {V(id), d, chance(0.3) and -1 or random(sizes[d])})
  elseif what == 6 and sizes[d] > 0 then
    local a = random(sizes[d])
    return one("slice", {V(id), d, a, a + random(sizes[d] - a + 1) - 1, random(2)})
  elseif what == 7 and sizes[d] > 0 then
    local a = random(sizes[d])
    return one("narrow", {V(id), d, a, random(sizes[d] - a + 1)})
  elseif what == 8 and n >= 2 then
    local e = d % n + 1
    return one("diagonal", {V(id), random(3) - 2, d, e})
  elseif what == 9 and sizes[d] >= 2 then return one("unfold", {V(id), d, 2, random(2)})
  elseif what == 10 then return one("flatten", {V(id), d, n})
  elseif what == 11 and values[id]:is_contiguous() then return one("view", {V(id), {count(sizes)}})
  elseif what == 12 then
    local wide = {random(2)}
    for i = 1, n do wide[i + 1] = sizes[i] == 1 and random(3) or -1 end
    return one("expand", {V(id), wide})
  end
  return one("movedim", {V(id), d, random(n)})
end

function makers.view()
  local id = some_float()
  local y = id and a_view(id)
  if y and chance(0.3) then y = a_view(y) end
  return y and {y}
end

function makers.matmul()
  local id = some_float(function(v) return #v.sizes >= 1 and #v.sizes <= 3 end)
  if not id then return end
  id = into(id, "")
  if not id then return end
  local sizes = info[id].sizes
  local inner = sizes[#sizes]
  if chance(0.4) then
    local out = big and 64 + random(64) or random(4)
    local bias = chance(0.6) and V(input({out}, "")) or nil
    return emit("linear", {V(id), V(input({out, inner}, "")), bias}, 3)
  end
  local other = {inner}
  if chance(0.8) then other[2] = big and 64 + random(128) or random(4) end
  if #sizes == 3 and #other == 2 and chance(0.5) then table.insert(other, 1, chance(0.5) and 1 or sizes[1]) end
  return emit("matmul", {V(id), V(input(other, ""))})
end

function makers.conv()
  local nd = big and 2 or random(3)
  local groups = pick {1, 1, 1, 2}
  local c, k = groups * random(2), groups * random(2)
  if big then c, k = 16, 16 * random(2) end
  local transposed = chance(0.4)
  local x, w = {random(2), c}, transposed and {c, k / groups} or {k, c / groups}
  for i = 1, nd do
    local kernel = random(3)
    w[2 + i] = kernel
    x[2 + i] = big and 32 + random(16) or kernel + random(3)
  end
  if big then x[1] = 4 end
  local stride, dilation = random(2), chance(0.2) and 2 or 1
  if dilation == 2 then for i = 1, nd do x[2 + i] = x[2 + i] + 3 end end
  local args = {V(input(x, "")), V(input(w, "")), nil, stride, random(2) - 1}
  if chance(0.5) then args[3] = V(input({k}, "")) end
  if transposed then args[6], args[7], args[8] = 0, groups, dilation else args[6], args[7] = dilation, groups end
  return emit("conv" .. (transposed and "_transpose" or "") .. nd .. "d", args, transposed and 8 or 7)
end

function makers.pool()
  local nd = random(3)
  local x = {random(2), random(2)}
  for i = 1, nd do x[2 + i] = big and nd < 3 and 40 or 2 + random(4) end
  local kind = pick {"max", "avg", "adaptive_max", "adaptive_avg", "nearest", "linear"}
  local id = V(input(x, kind:find "max" and "u" or ""))
  if kind == "max" then return emit("max_pool" .. nd .. "d", {id, random(3) + 1, random(2), random(2) - 1, 1, chance(0.3)})
  elseif kind == "avg" then return emit("avg_pool" .. nd .. "d", {id, random(3) + 1, random(2), random(2) - 1, chance(0.3), chance(0.5)})
  elseif kind == "nearest" or kind == "linear" then
    local size = {}
    for i = 1, nd do size[i] = random(6) end
    return emit("upsample_" .. kind, {id, size, kind == "linear" and chance(0.5) or nil}, kind == "linear" and 3 or 2)
  end
  return emit(kind .. "_pool" .. nd .. "d", {id, random(3)})
end

function makers.norm()
  local id = some_float(function(v) return #v.sizes >= 2 and count(v.sizes) >= 4 end)
  if not id then return end
  local sizes = info[id].sizes
  local c = sizes[2]
  local kind = pick {"layer", "rms", "batch", "group", "instance"}
  local function affine(s) return chance(0.6) and V(input(s, "")) or nil end
  if kind == "layer" or kind == "rms" then
    local last = {sizes[#sizes]}
    if #sizes > 2 and chance(0.4) then table.insert(last, 1, sizes[#sizes - 1]) end
    if kind == "rms" then return emit("rms_norm", {V(id), last, affine(last), 1e-2}, 4) end
    return emit("layer_norm", {V(id), last, affine(last), affine(last), 1e-2}, 5)
  elseif kind == "batch" then
    if chance(0.3) then
      local m, v = V(add_leaf(text_of({c}, ""), false)), V(add_leaf(text_of({c}, "+"), false))
      return emit("batch_norm", {V(id), m, v, affine {c}, affine {c}, false, 0.1, 1e-2}, 8)
    end
    return emit("batch_norm", {V(id), nil, nil, affine {c}, affine {c}, true, 0.1, 1e-2}, 8)
  elseif kind == "group" then return emit("group_norm", {V(id), c % 2 == 0 and random(2) or 1, affine {c}, affine {c}, 1e-2}, 5) end
  if #sizes < 3 then return end
  return emit("instance_norm", {V(id), nil, nil, affine {c}, affine {c}, true, 0.1, 1e-2}, 8)
end

function makers.join()
  local id = some_float(function(v) return #v.sizes > 0 end)
  if not id then return end
  local sizes, list = info[id].sizes, {V(id)}
  for i = 1, random(3) do
    local other = some_float(function(v) return table.concat(v.sizes, "x") == table.concat(sizes, "x") end)
    list[i + 1] = V(chance(0.5) and other or input(sizes, ""))
  end
  for _ = 1, random(#list) do table.insert(list, table.remove(list, 1)) end
  return emit(chance(0.5) and "cat" or "stack", {{list = list}, random(#sizes)})
end

function makers.index()
  local id = some_float(function(v) return #v.sizes > 0 and count(v.sizes) > 0 end)
  if not id then return end
  local sizes = info[id].sizes
  local d = random(#sizes)
  local what = random(7)
  local function like(n)
    local s = {unpack(sizes)}
    s[d] = n
    return s
  end
  local index = function(s) return V(add_leaf(text_of(s, "i" .. sizes[d]))) end
  local n = random(4)
  if what == 1 then return emit("gather", {V(id), d, index(like(n))})
  elseif what == 2 then return emit("index_select", {V(id), d, index {n}})
  elseif what == 3 then return emit("index_add", {V(id), d, index {n}, V(input(like(n), "")), 0.5})
  elseif what == 4 then return emit("scatter_add", {V(id), d, index(like(n)), V(input(like(n), ""))})
  elseif what == 5 then return emit("flip", {V(id), {d}})
  elseif what == 6 then return emit("roll", {V(id), {random(3) - 2}, {d}}) end
  local mask = one("gt", {V(id), 0.1})
  if not mask then return end
  if chance(0.5) then return emit("masked_fill", {V(id), V(mask), 0.5}) end
  return emit("where", {V(mask), V(id), V(input(narrower(sizes), ""))})
end

-- To whole numbers or truths and, by promotion, back.
function makers.cast()
  local id = some_float(function(v) return count(v.sizes) > 0 end)
  local y = id and one("cast", {V(id), pick {"i64", "bool"}})
  if not y then return end
  p.statements[#p.statements].frozen = true
  return emit(pick {"add", "mul", "maximum"}, {V(y), V(input(narrower(info[y].sizes), ""))})
end

function makers.detach()
  local id = some_float()
  return id and emit("detach", {V(id)})
end

--- Any row of the table, on inputs as its sample has them.
function makers.row(which)
  local row = which or pick(structured)
  sample.seed(random(2 ^ 30))
  local args, n = sample.arguments(row, function(x)
    local id = input(x.sizes, x.kind, x.kind == "i" and math.max(1, unpack(x.values)) or nil)
    return {v = id, list = nil}
  end)
  for i = 1, n do
    local a = args[i]
    if type(a) == "table" and type(a[1]) == "table" and a[1].v then args[i] = {list = a} end
  end
  if row.name == "view" and not values[args[1].v]:is_contiguous() then return end
  return emit(row.name, args, n, {must = true})
end

-- What may be written: memory of an op's own, and views of it.
local function target()
  local id = some_float(function(v) return v.writable and count(v.sizes) > 0 end)
  if not id or chance(0.2) then
    local source = some_float()
    id = source and one("clone", {V(source)})
  end
  if id and chance(0.5) then id = a_view(id) or id end
  return id and info[id].writable and id or nil
end

local function mark_pinned(root)
  for _, s in ipairs(p.statements) do
    for _, id in ipairs(s.results) do if info[id].root == root then s.pinned = true end end
  end
end

-- Whether a backward pass still goes through. One that is refused because its values were written is a right refusal.
local function still_differentiable()
  p.sinks = {}
  for _, id in ipairs(floats()) do p.sinks[#p.sinks + 1] = id end
  local total = program.total(p, values)
  local xs = {}
  for id, leaf in pairs(p.leaves) do if leaf.grad then xs[#xs + 1] = values[id] end end
  if not total or not total.requires_grad or #xs == 0 then return true end
  local ok, message = pcall(ai.grad, total, xs, {allow_unused = true, retain_graph = true})
  if not ok and not tostring(message):find("changed in place", 1, true) then error(message, 0) end
  return ok
end

local function replay()
  for id in pairs(values) do if not p.leaves[id] then values[id] = nil end end
  local fresh = program.run(p, {})
  for id, v in pairs(fresh) do if id > 0 then values[id] = v end end
end

function makers.write()
  local x = target()
  if not x then return end
  local sizes = info[x].sizes
  local before = #p.statements
  local what = random(8)
  if what <= 2 then
    local row = pick(unary)
    local rest, n = scalars(row)
    local kind = sample_kind(row, 1)
    if kind ~= "" and kind ~= "~" then return end
    local args = {V(x)}
    for i = 1, n do args[1 + i] = rest[i] end
    local ok, fine = pcall(ai.no_grad, function()
      local s = {f = row.name, args = args, n = 1 + n}
      local y = program.call(s, values)
      return all_finite(y) and smooth(s, {y})
    end)
    if not ok or not fine then return end
    if not emit(row.name .. "_", args, 1 + n) then return end
  elseif what <= 4 then
    local name = pick {"add_", "sub_", "mul_", "add_scaled_", "lerp_"}
    local y = chance(0.4) and name ~= "add_scaled_" and name ~= "lerp_" and 0.5 or V(input(narrower(sizes), ""))
    local scaled = name == "add_scaled_" or name == "lerp_"
    if not emit(name, {V(x), y, scaled and 0.5 or nil}, scaled and 3 or 2) then return end
  elseif what == 5 then
    if not emit("fill_", {V(x), 0.5}) then return end
  elseif what <= 7 then
    if not emit("copy_", {V(x), V(input(narrower(sizes), ""))}) then return end
  else
    local d = #sizes > 0 and random(#sizes)
    if not d then return end
    local s = {unpack(sizes)}
    s[d] = random(3)
    if not emit("index_add_", {V(x), d, V(add_leaf(text_of({s[d]}, "i" .. sizes[d]))), V(input(s, "")), 0.5}) then return end
  end
  mark_pinned(info[x].root)
  local ok = all_finite(values[x]) and still_differentiable()
  if not ok then
    generate.undone = (generate.undone or 0) + 1
    table.remove(p.statements)
    replay()
  end
  return #p.statements > before and {} or nil
end

--- A row that writes its first tensor, on a clone or on a window of one.
function makers.update(which)
  local row = which or pick(updates)
  if is_seeded(row.name) then return end
  sample.seed(random(2 ^ 30))
  local first = true
  local args, n = sample.arguments(row, function(x)
    local id
    if first then
      first = false
      local sizes = {unpack(x.sizes)}
      local inside = #sizes > 0 and chance(0.5)
      if inside then sizes[#sizes] = sizes[#sizes] + 2 end
      id = input(sizes, x.kind)
      id = id and one("clone", {V(id)})
      if id and inside then id = one("slice", {V(id), #sizes, 2, sizes[#sizes] - 1, 1}) end
    else id = input(x.sizes, x.kind, x.kind == "i" and math.max(1, unpack(x.values)) or nil) end
    return {v = id}
  end)
  if not args[1].v or not emit(row.name, args, n) then return end
  generate.used[row.name] = (generate.used[row.name] or 0) + 1
  mark_pinned(info[args[1].v].root)
  if not all_finite(values[args[1].v]) or not still_differentiable() then
    generate.undone = (generate.undone or 0) + 1
    table.remove(p.statements)
    replay()
  end
  return {}
end

local CHOICE = {}
for name, weight in pairs {unary = 6, binary = 6, reduction = 4, view = 6, matmul = 2, conv = 2, pool = 2, norm = 2, join = 2, index = 3,
  detach = 0.5, cast = 1, row = 8, write = 5, update = 2} do CHOICE[#CHOICE + 1] = {name, weight} end
table.sort(CHOICE, function(a, b) return a[1] < b[1] end)
local IN_BIG = {unary = true, binary = true, reduction = true, view = true, matmul = true, conv = true, pool = true, norm = true, write = true}

local function choose()
  local total = 0
  for _, c in ipairs(CHOICE) do if not big or IN_BIG[c[1]] then total = total + c[2] end end
  local at = random() * total
  for _, c in ipairs(CHOICE) do
    if not big or IN_BIG[c[1]] then
      at = at - c[2]
      if at <= 0 then return c[1] end
    end
  end
  return "unary"
end

--- The program of a seed.
---@param seed integer
---@return aijit.FuzzProgram
function generate.program(seed)
  state = (seed * 7919 + 12345) % 2147483646 + 1
  for _ = 1, 8 do random() end
  big = chance(0.02)
  p = {seed = seed, leaves = {}, statements = {}, count = 0, sinks = {}, scopes = {}, big = big}
  values, info = {}, {}
  ai.scope(function()
    for _ = 1, random(3) do add_leaf(text_of(fresh_sizes(), pick {"", "", "+", "~", "u"})) end
    local want = big and 3 + random(4) or 3 + random(10)
    local tries = 0
    while #p.statements < want and tries < 60 do
      tries = tries + 1
      local ok, message = pcall(makers[choose()])
      if not ok and message ~= TOO_LARGE then error(message, 0) end
    end
    -- What nothing reads counts; some of the rest too.
    local read = {}
    for _, s in ipairs(p.statements) do
      for k = 1, s.n do
        local a = s.args[k]
        if type(a) == "table" then
          if a.v then read[a.v] = true end
          for _, x in ipairs(a.list or {}) do read[x.v] = true end
        end
      end
    end
    p.sinks = {}
    for id = 1, p.count do
      if info[id] and not info[id].hidden and not p.leaves[id] and (not read[id] or chance(0.1)) then p.sinks[#p.sinks + 1] = id end
    end
    local at = 1
    while at < #p.statements do
      local first = at + random(3) - 1
      local last = first + random(4) - 1
      if last <= #p.statements and first <= last then p.scopes[#p.scopes + 1] = {first, last} end
      at = last + 1
    end
  end)
  return p
end

return generate
