--- Makers of statements: views, joins, index tensors, casts.

local build = require "spec.fuzz.build"
local random, chance, pick, emit, one, V = build.random, build.chance, build.pick, build.emit, build.one, build.V
local some_float, count, input = build.some_float, build.count, build.input
local narrower, add_leaf, text_of = build.narrower, build.add_leaf, build.text_of

local makers = {}

local function a_view(id)
  local sizes = build.info[id].sizes
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
  elseif what == 11 and build.values[id]:is_contiguous() then return one("view", {V(id), {count(sizes)}})
  elseif what == 12 then
    local wide = {random(2)}
    for i = 1, n do wide[i + 1] = sizes[i] == 1 and random(3) or -1 end
    return one("expand", {V(id), wide})
  end
  return one("movedim", {V(id), d, random(n)})
end

makers.a_view = a_view

function makers.view()
  local id = some_float()
  local y = id and a_view(id)
  if y and chance(0.3) then y = a_view(y) end
  return y and {y}
end

function makers.join()
  local id = some_float(function(v) return #v.sizes > 0 end)
  if not id then return end
  local sizes, list = build.info[id].sizes, {V(id)}
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
  local sizes = build.info[id].sizes
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
  build.p.statements[#build.p.statements].frozen = true
  return emit(pick {"add", "mul", "maximum"}, {V(y), V(input(narrower(build.info[y].sizes), ""))})
end

function makers.detach()
  local id = some_float()
  return id and emit("detach", {V(id)})
end

return makers
