--- Makers of statements: any row of the table, and writes in place.

local ai = require "aijit"
local program = require "spec.fuzz.program"
local sample = require "spec.support.sample"
local build = require "spec.fuzz.build"
local a_view = require("spec.fuzz.make.place").a_view
local random, chance, pick, unary, structured, updates = build.random, build.chance, build.pick, build.unary, build.structured, build.updates
local emit, one, V = build.emit, build.one, build.V
local floats, some_float, count, input, sample_kind, scalars = build.floats, build.some_float, build.count, build.input, build.sample_kind, build.scalars
local narrower, add_leaf, text_of = build.narrower, build.add_leaf, build.text_of
local all_finite, smooth, is_seeded = build.all_finite, build.smooth, build.is_seeded

local makers = {}

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
  if row.name == "view" and not build.values[args[1].v]:is_contiguous() then return end
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
  return id and build.info[id].writable and id or nil
end

local function mark_pinned(root)
  for _, s in ipairs(build.p.statements) do
    for _, id in ipairs(s.results) do if build.info[id].root == root then s.pinned = true end end
  end
end

-- Whether a backward pass still goes through. One that is refused because its values were written is a right refusal.
local function still_differentiable()
  build.p.sinks = {}
  for _, id in ipairs(floats()) do build.p.sinks[#build.p.sinks + 1] = id end
  local total = program.total(build.p, build.values)
  local xs = {}
  for id, leaf in pairs(build.p.leaves) do if leaf.grad then xs[#xs + 1] = build.values[id] end end
  if not total or not total.requires_grad or #xs == 0 then return true end
  local ok, message = pcall(ai.grad, total, xs, {allow_unused = true, retain_graph = true})
  if not ok and not tostring(message):find("changed in place", 1, true) then error(message, 0) end
  return ok
end

local function replay()
  for id in pairs(build.values) do if not build.p.leaves[id] then build.values[id] = nil end end
  local fresh = program.run(build.p, {})
  for id, v in pairs(fresh) do if id > 0 then build.values[id] = v end end
end

function makers.write()
  local x = target()
  if not x then return end
  local sizes = build.info[x].sizes
  local before = #build.p.statements
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
      local y = program.call(s, build.values)
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
  mark_pinned(build.info[x].root)
  local ok = all_finite(build.values[x]) and still_differentiable()
  if not ok then
    build.undone = build.undone + 1
    table.remove(build.p.statements)
    replay()
  end
  return #build.p.statements > before and {} or nil
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
  build.used[row.name] = (build.used[row.name] or 0) + 1
  mark_pinned(build.info[args[1].v].root)
  if not all_finite(build.values[args[1].v]) or not still_differentiable() then
    build.undone = build.undone + 1
    table.remove(build.p.statements)
    replay()
  end
  return {}
end

return makers
