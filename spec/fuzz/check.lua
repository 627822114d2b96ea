--- What must hold of a program: its gradients are those that differences show, and it gives the same in every way in which
-- it can be run. A failure can be shrunk.

local ai = require "aijit"
local program = require "spec.fuzz.program"

local check = {stats = {directions = 0, rough = 0, compared = 0, second = 0, replayed = 0}}
local stats = check.stats

local function wanted(p)
  local ids = {}
  for id, leaf in pairs(p.leaves) do if leaf.grad then ids[#ids + 1] = id end end
  table.sort(ids)
  return ids
end

local function leaves_of(values, ids)
  local xs = {}
  for i, id in ipairs(ids) do xs[i] = values[-id] end
  return xs
end

---@class aijit.FuzzResult
---@field values table<integer, aijit.Tensor>
---@field total aijit.Tensor?
---@field grads (aijit.Tensor|false)[]

-- One run and its gradients.
local function result(p, o, ids, create)
  local values = program.run(p, o)
  local total = program.total(p, values)
  local grads = {}
  local xs = leaves_of(values, ids)
  if total and total.requires_grad and #xs > 0 then
    if o.backward then
      total:backward()
      for i, x in ipairs(xs) do grads[i] = x.grad or false end
    else grads = ai.grad(total, xs, {allow_unused = true, create_graph = create}) end
  else for i = 1, #xs do grads[i] = false end end
  return {values = values, total = total, grads = grads}
end

local function largest(t) return t:numel() == 0 and 0 or t:detach():to("f64"):abs():amax():item() end
local function distance(a, b) return a:numel() == 0 and 0 or (a:detach():to "f64" - b:detach():to "f64"):abs():amax():item() end

-- Calls f(name, a, b) for everything two results can be compared by.
local function each(p, ids, a, b, f)
  for _, id in ipairs(p.sinks) do if ai.is_tensor(a.values[id]) then f("v" .. id, a.values[id], b.values[id]) end end
  if a.total then f("total", a.total, b.total) end
  for i, id in ipairs(ids) do
    local x, y = a.grads[i], b.grads[i]
    if (x == false) ~= (y == false) then f("the gradient of v" .. id, x or ai.zeros(y:size()), y or ai.zeros(x:size()))
    elseif x then f("the gradient of v" .. id, x, y) end
  end
end

local function shape(t) return table.concat(t:size(), "x") end

local function same_exactly(p, ids, a, b, what)
  local failure
  each(p, ids, a, b, function(name, x, y)
    stats.compared = stats.compared + 1
    if failure then return end
    if x.dtype ~= y.dtype or shape(x) ~= shape(y) then failure = ("%s: %s is %s %s and %s %s"):format(what, name, shape(x), x.dtype, shape(y), y.dtype)
    elseif x:numel() > 0 and not ai.f.equal(x:detach(), y:detach()):item() then
      failure = ("%s: %s differs by %.3g of %.3g"):format(what, name, x.dtype == "bool" and 1 or distance(x, y), x.dtype == "bool" and 1 or largest(x))
    end
  end)
  return failure
end

-- The error model: what noise of relative size NOISE on every value does to the results, by tensor. Rounding to f32 is a
-- quarter of it; MARGIN is for sums of many terms and for functions that are right to some ulp.
local NOISE, MARGIN, DRAWS = 2 ^ -22, 40, 3
local function errors(p, ids, base)
  local worst = {}
  for draw = 1, DRAWS do
    local r = result(p, {noise = NOISE, draw = draw}, ids)
    each(p, ids, base, r, function(name, x, y)
      if x.dtype ~= "bool" and shape(x) == shape(y) then worst[name] = math.max(worst[name] or 0, distance(x, y)) end
    end)
  end
  return worst
end

-- Gradients are sums of terms that noise on values does not reach, and that may cancel: the largest gradient of any value
-- on the way stands for those.
local function steepest(p)
  local values, xs = program.run(p, {}), {}
  local total = program.total(p, values)
  if not total or not total.requires_grad then return 1 end
  for _, y in pairs(values) do if ai.is_tensor(y) and y:is_floating_point() and y.requires_grad then xs[#xs + 1] = y end end
  local most = 1
  for _, g in pairs(ai.grad(total, xs, {allow_unused = true})) do if g then most = math.max(most, largest(g)) end end
  return 4 * most
end

-- Values that are written in place get no noise: the largest value of a program that writes stands for their rounding.
local function written(p, values)
  local most
  for _, s in ipairs(p.statements) do if s.pinned then most = most or 0 end end
  for _, y in pairs(most and values or {}) do if ai.is_tensor(y) and y:is_floating_point() then most = math.max(most, 4 * largest(y)) end end
  return most
end

-- What a total adds up, without signs.
local function mass(p, values)
  local sum = 0
  for _, id in ipairs(p.sinks) do
    local y = values[id]
    if ai.is_tensor(y) and y:is_floating_point() and y:numel() > 0 then sum = sum + y:detach():to("f64"):abs():sum():item() end
  end
  return sum
end

local function close(c, other, scale, what)
  local p, ids, base, worst = c.p, c.ids, c.base, c.worst
  local failure
  each(p, ids, base, other, function(name, x, y)
    stats.compared = stats.compared + 1
    if failure then return end
    if shape(x) ~= shape(y) then failure = ("%s: %s has sizes %s and %s"):format(what, name, shape(x), shape(y)) return end
    if x.dtype == "bool" or not x:is_floating_point() then
      if x:numel() > 0 and not ai.f.equal(x:detach(), y:detach()):item() then failure = ("%s: %s differs"):format(what, name) end
      return
    end
    local d, most = distance(x, y), name:find "gradient" and c.steepest or largest(x)
    if c.written then most = math.max(most, c.written) end
    if name == "total" then most = math.max(most, mass(p, base.values) / 4) end
    -- Sums of 100,000 numbers round about as often as the square root of that, not the few times that moved inputs show.
    local room = scale * (MARGIN * (worst[name] or 0) + (p.big and 16 or 4) * NOISE * most) + 1e-30 + scale * 1e-9
    if not (d <= room) then failure = ("%s: %s differs by %.3g of %.3g, and rounding explains %.3g"):format(what, name, d, most, room) end
  end)
  return failure
end

-- -- Differences ----------------------------------------------------------------------------------------------------------

-- A direction of +-1 and less for each leaf; with `only`, for that leaf alone.
local function direction(p, ids, draw, only)
  local d = {}
  for i, id in ipairs(ids) do
    if not only or only == i then
      local x = program.tensor(p.leaves[id], {})
      d[id] = program.noise(x, id * 13 + draw)
    end
  end
  return d
end

local function moved(p, ids, d, t)
  local leaves = {}
  for _, id in ipairs(ids) do
    local x = program.tensor(p.leaves[id], {})
    leaves[id] = d[id] and x + d[id] * t or x
  end
  return leaves
end

-- The derivative of at(t) at 0 by two central differences, and how far they are apart.
local function derivative(at, h)
  local wide = (at(h) - at(-h)) / (2 * h)
  local narrow = (at(h / 2) - at(-h / 2)) / h
  return (4 * narrow - wide) / 3, math.abs(wide - narrow)
end

local function slope(p, ids, grads, d)
  local sum, size = 0, 0
  for i, id in ipairs(ids) do
    if d[id] and grads[i] and grads[i]:numel() > 0 then
      local part = grads[i]:detach() * d[id]
      sum, size = sum + part:sum():item(), size + part:abs():sum():item()
    end
  end
  return sum, size
end

local function against_differences(p, ids, grads, at, frozen_noise, h, what, draws)
  for _, d in ipairs(draws) do
    local have, size = slope(p, ids, grads, d)
    local want, doubt = derivative(function(t) return at(moved(p, ids, d, t)) end, h)
    stats.directions = stats.directions + 1
    local room = 1e-6 * (size + math.abs(want)) + frozen_noise / h + 4 * doubt + 1e-8
    if doubt > 1e-3 * (size + math.abs(want) + 1e-2) then stats.rough = stats.rough + 1
    elseif not (math.abs(have - want) <= room) then
      local names = {}
      for id in pairs(d) do names[#names + 1] = "v" .. id end
      return ("%s: along %s the gradient says %.10g, differences %.10g +- %.2g"):format(what, table.concat(names, ", "), have, want, doubt)
    end
  end
end

local H = 1e-4

local function first_gradient(p, ids, base, frozen)
  local draws = {direction(p, ids, 1)}
  if not p.big then for i = 1, #ids do draws[#draws + 1] = direction(p, ids, 2, i) end end
  return against_differences(p, ids, base.grads, function(leaves)
    return ai.scope(function()
      return ai.no_grad(function() return program.total(p, program.run(p, {leaves = leaves, frozen = frozen})):item() end)
    end)
  end, 1e-14 * (1 + math.abs(base.total:item())), H, "gradient", draws)
end

local function second_gradient(p, ids, frozen)
  local function weighted(grads)
    local sum
    for i, g in ipairs(grads) do
      if g and g:numel() > 0 then
        local part = (g * program.weights(ids[i] + 100, g)):sum()
        sum = sum and sum + part or part
      end
    end
    return sum
  end
  local r = result(p, {frozen = frozen}, ids, true)
  local s = weighted(r.grads)
  if not s then return nil end
  stats.second = stats.second + 1
  local xs, seconds = leaves_of(r.values, ids), {}
  if s.requires_grad then seconds = ai.grad(s, xs, {allow_unused = true}) else for i = 1, #xs do seconds[i] = false end end
  local function at(leaves)
    return ai.scope(function()
      for _, id in ipairs(ids) do leaves[id] = leaves[id]:detach():requires_grad_() end
      return weighted(result(p, {leaves = leaves, frozen = frozen}, ids).grads):item()
    end)
  end
  return against_differences(p, ids, seconds, at, 1e-13 * (1 + math.abs(s:item())), H, "second gradient", {direction(p, ids, 3)})
end

-- -- All checks -------------------------------------------------------------------------------------------------------------

local function with_threads(n, f)
  ai.set_num_threads(n)
  local ok, r = pcall(f)
  ai.set_num_threads(check.threads or 2)
  if not ok then error(r, 0) end
  return r
end

local checks = {}
function checks.again(c) return same_exactly(c.p, c.ids, c.base, result(c.p, {}, c.ids), "again") end
function checks.backward(c)
  -- With no scope around: the collector owns what is made.
  return same_exactly(c.p, c.ids, c.base, result(c.p, {scoped = true, backward = true}, c.ids), "scoped")
end
function checks.gradient(c)
  if c.base.total and #c.ids > 0 then return first_gradient(c.p, c.ids, c.base, c.frozen) end
end
function checks.second(c)
  if c.base.total and c.base.total.requires_grad and #c.ids > 0 then return second_gradient(c.p, c.ids, c.frozen) end
end
function checks.strided(c)
  return close(c, result(c.p, {strided = true}, c.ids), 2 ^ -27, "strided")
end
function checks.single(c)
  return close(c, result(c.p, {dtype = "f32"}, c.ids), 1, "f32") or close(c, result(c.p, {dtype = "f32", strided = true}, c.ids), 1, "f32 strided")
end
function checks.threads(c)
  for _, dtype in ipairs {"f32", "f64"} do
    local one = with_threads(1, function() return result(c.p, {dtype = dtype}, c.ids) end)
    local two = with_threads(2, function() return result(c.p, {dtype = dtype}, c.ids) end)
    -- oneDNN sums a convolution's gradients, and long products, in as many parts as there are threads.
    local exact = true
    for _, s in ipairs(c.p.statements) do if s.f:find "^conv" or s.f:find "^linear" or s.f:find "matmul" then exact = false end end
    local failure
    if exact then failure = same_exactly(c.p, c.ids, one, two, "threads, " .. dtype)
    else
      local like = setmetatable({base = one}, {__index = c})
      failure = close(like, two, dtype == "f32" and 1 or 2 ^ -27, "threads, " .. dtype)
    end
    if failure then return failure end
  end
end


local function same_bits(a, b)
  if a.dtype ~= b.dtype or shape(a) ~= shape(b) then return false end
  if a:numel() == 0 then return true end
  if not a:is_floating_point() then return ai.f.equal(a, b):item() end
  return a:eq(b):logical_or(a:ne(a):logical_and(b:ne(b))):all():item()
end

-- Recorded by ai.jit and run again, on other numbers too, a program gives the same bits.
function checks.replay(c)
  local p, ids, order = c.p, c.ids, {}
  for id in pairs(p.leaves) do order[#order + 1] = id end
  table.sort(order)
  local function given(dtype, scale)
    local list = {}
    for i, id in ipairs(order) do
      list[i] = program.tensor(p.leaves[id], {dtype = dtype})
      if p.leaves[id].floats then list[i] = (list[i] * scale):to(list[i].dtype) end
    end
    return list
  end
  local function run(list)
    local leaves, out = {}, {}
    for i, id in ipairs(order) do
      leaves[id] = list[i]:detach()
      if p.leaves[id].grad then leaves[id]:requires_grad_() end
    end
    local r = result(p, {leaves = leaves, unseeded = true}, ids)
    for _, id in ipairs(p.sinks) do if ai.is_tensor(r.values[id]) then out[#out + 1] = r.values[id]:detach() end end
    for _, g in ipairs(r.grads) do if g then out[#out + 1] = g end end
    if r.total then out[#out + 1] = r.total:detach() end
    return {unpack(out, 1, 16)}
  end
  for _, dtype in ipairs {"f32", "f64"} do
    local recorded = ai.jit(run)
    for call, scale in ipairs {1, 1, 0.9375} do
      ai.manual_seed(3)
      local fine, want = pcall(run, given(dtype, scale))
      if not fine then return nil end                    -- other numbers, that an op refuses: matrices no longer positive-definite
      ai.manual_seed(3)
      local ok, have = pcall(recorded, given(dtype, scale))
      if not ok then
        if tostring(have):find("ai.jit records", 1, true) then return nil end
        return "replay: " .. tostring(have)
      end
      stats.replayed = stats.replayed + 1
      for i = 1, #want do
        if not same_bits(have[i], want[i]) then
          return ("replay, %s, call %d: result %d differs by %.3g of %.3g"):format(dtype, call, i, distance(have[i], want[i]), largest(want[i]))
        end
      end
    end
  end
end

local ORDER = {"again", "gradient", "strided", "single", "replay", "second", "threads"}

local function run_check(name, c)
  local ok, failure = pcall(checks[name], c)
  if not ok then
    if name == "second" and tostring(failure):find "singular" then return nil end      -- det has no second gradient there
    return ("%s: %s"):format(name, tostring(failure))
  end
  return failure
end

--- What is wrong with a program: the check's name and a message; nil when nothing is. `only`: that check alone.
---@param p aijit.FuzzProgram
---@param o {second: boolean?, threads: boolean?, only: string?}?
---@return string? name
---@return string? message
function check.program(p, o)
  o = o or {}
  local name, message = ai.scope(function()
    local c = {p = p, ids = wanted(p), frozen = {}}
    local ok, base = pcall(result, p, {record = c.frozen}, c.ids)
    if not ok then return "base", tostring(base) end
    c.base = base
    if o.only ~= "base" and o.only ~= "backward" then
      local fine, worst = pcall(errors, p, c.ids, base)
      if not fine then return "noise", tostring(worst) end
      c.worst = worst
      c.steepest = ai.scope(steepest, p)
      c.written = written(p, base.values)
    end
    for _, one in ipairs(ORDER) do
      local due = (one ~= "second" or o.second) and (one ~= "threads" or o.threads)
      if o.only and o.only ~= one then due = false elseif o.only == one then due = true end
      if due then
        local failure = ai.scope(function() return run_check(one, c) end)
        if failure then return one, failure end
      end
    end
  end)
  if name or (o.only and o.only ~= "backward") then return name, message end
  -- Outside any scope, and then in scopes of its own.
  local ids = wanted(p)
  local ok, failure = pcall(function()
    return checks.backward {p = p, ids = ids, base = result(p, {}, ids)}
  end)
  if not ok or failure then return "backward", tostring(failure) end
end

-- -- Shrinking ----------------------------------------------------------------------------------------------------------------

local function copy(p)
  local q = {}
  for k, v in pairs(p) do q[k] = v end
  q.statements, q.leaves, q.sinks, q.scopes = {unpack(p.statements)}, {}, {unpack(p.sinks)}, {}
  for id, leaf in pairs(p.leaves) do q.leaves[id] = leaf end
  return q
end

local function reads(s, id)
  for k = 1, s.n do
    local a = s.args[k]
    if type(a) == "table" then
      if a.v == id then return true end
      for _, x in ipairs(a.list or {}) do if x.v == id then return true end end
    end
  end
  return false
end

local function is_read(p, id)
  for _, s in ipairs(p.statements) do if reads(s, id) then return true end end
  for _, sink in ipairs(p.sinks) do if sink == id then return true end end
  return false
end

-- Drops what no sink depends on, writes apart.
local function prune(p)
  for i = #p.statements, 1, -1 do
    local s, used = p.statements[i], #p.statements[i].results == 0
    for _, id in ipairs(s.results) do used = used or is_read(p, id) end
    if not used then table.remove(p.statements, i) end
  end
  for id in pairs(p.leaves) do if not is_read(p, id) then p.leaves[id] = nil end end
  return p
end

-- p without statement i, whose results become leaves of the same numbers; nil where that is another program.
local function cut(p, i)
  local s = p.statements[i]
  if s.pinned or s.whole then return nil end
  local q = copy(p)
  local values = ai.scope(function()
    local all, out = program.run(p, {}), {}
    for _, id in ipairs(s.results) do
      local y = all[id]:detach()
      out[id] = {sizes = y:size(), numbers = y:numel() == 0 and {} or y:to("f64"):contiguous():view(-1):totable(), dtype = y.dtype}
    end
    return out
  end)
  table.remove(q.statements, i)
  for id, v in pairs(values) do
    if #v.numbers > 3000 then return nil end
    local floats = v.dtype == "f64"
    q.leaves[id] = {sizes = v.sizes, values = v.numbers, kind = v.dtype == "bool" and "b" or v.dtype == "i64" and "i" or "", floats = floats,
      grad = floats and not s.frozen}
  end
  return q
end

--- The smallest program that this finds which still fails by the same check, and its message.
---@param p aijit.FuzzProgram
---@param name string     of the failing check
---@param message string
---@return aijit.FuzzProgram
---@return string
function check.shrink(p, name, message)
  local function still(q)
    if not q then return false end
    local ok, again, why = pcall(check.program, q, {only = name})
    if ok and again == name then message = why return true end
    return false
  end
  local changed = true
  while changed do
    changed = false
    -- The earliest value that shows it by itself.
    local ids = {}
    for _, s in ipairs(p.statements) do for _, id in ipairs(s.results) do ids[#ids + 1] = id end end
    for _, id in ipairs(#p.sinks == 1 and p.sinks[1] == ids[1] and {} or ids) do
      if #p.sinks > 1 or id ~= p.sinks[1] then
        local q = copy(p)
        q.sinks = {id}
        if still(prune(q)) then p, changed = q, true break end
      elseif id == p.sinks[1] then break end
    end
    for i = #p.statements, 1, -1 do
      local s = p.statements[i]
      if s then
        local q
        if #s.results == 0 then
          q = copy(p)
          table.remove(q.statements, i)
        else q = cut(p, i) end
        if q and still(prune(q)) then p, changed = q, true end
      end
    end
    for id, leaf in pairs(p.leaves) do
      if leaf.grad then
        local q = copy(p)
        q.leaves[id] = setmetatable({grad = false}, {__index = leaf})
        if still(q) then p, changed = q, true break end
      end
    end
  end
  return p, message
end

return check
