--- Makers of statements: products, convolutions, pooling, normalisation.

local build = require "spec.fuzz.build"
local random, chance, pick, emit, V, some_float = build.random, build.chance, build.pick, build.emit, build.V, build.some_float
local count, into, input = build.count, build.into, build.input
local add_leaf, text_of = build.add_leaf, build.text_of

local makers = {}

function makers.matmul()
  local id = some_float(function(v) return #v.sizes >= 1 and #v.sizes <= 3 end)
  if not id then return end
  id = into(id, "")
  if not id then return end
  local sizes = build.info[id].sizes
  local inner = sizes[#sizes]
  if chance(0.4) then
    local out = build.big and 64 + random(64) or random(4)
    local bias = chance(0.6) and V(input({out}, "")) or nil
    return emit("linear", {V(id), V(input({out, inner}, "")), bias}, 3)
  end
  local other = {inner}
  if chance(0.8) then other[2] = build.big and 64 + random(128) or random(4) end
  if #sizes == 3 and #other == 2 and chance(0.5) then table.insert(other, 1, chance(0.5) and 1 or sizes[1]) end
  return emit("matmul", {V(id), V(input(other, ""))})
end

function makers.conv()
  local nd = build.big and 2 or random(3)
  local groups = pick {1, 1, 1, 2}
  local c, k = groups * random(2), groups * random(2)
  if build.big then c, k = 16, 16 * random(2) end
  local transposed = chance(0.4)
  local x, w = {random(2), c}, transposed and {c, k / groups} or {k, c / groups}
  for i = 1, nd do
    local kernel = random(3)
    w[2 + i] = kernel
    x[2 + i] = build.big and 32 + random(16) or kernel + random(3)
  end
  if build.big then x[1] = 4 end
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
  for i = 1, nd do x[2 + i] = build.big and nd < 3 and 40 or 2 + random(4) end
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
  local sizes = build.info[id].sizes
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

return makers
