--- Makers of statements: functions of each element, and reductions.

local build = require "spec.fuzz.build"
local random, chance, pick, unary, binary, emit = build.random, build.chance, build.pick, build.unary, build.binary, build.emit
local V, some_float, into = build.V, build.some_float, build.into
local input, sample_kind, scalars, narrower = build.input, build.sample_kind, build.scalars, build.narrower

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

function makers.binary()
  local row = pick(binary)
  local a = some_float()
  if not a then return end
  local ka, kb = sample_kind(row, 1), sample_kind(row, 2)
  a = into(a, ka)
  if not a then return end
  local b
  local how = random()
  if how < 0.3 then b = some_float(function(v) return table.concat(v.sizes, "x") == table.concat(build.info[a].sizes, "x") end)
  elseif how < 0.45 and row.kind == "BINARY" then
    local number = ({["+"] = 0.75, ["~"] = 0.5, ["%"] = -0.5, ["^"] = 1.5, p = 0.25})[kb] or pick {0.5, -0.75, 2}
    if chance(0.3) and ka == kb then return emit(row.name, {number, V(a)}) end
    return emit(row.name, {V(a), number})
  end
  b = b and into(b, kb) or input(narrower(build.info[a].sizes), kb)
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
  local n = #build.info[id].sizes
  local name = pick {"sum", "mean", "amax", "amin", "prod", "var", "std", "norm", "logsumexp", "max_dim", "min_dim", "cumsum", "cumprod", "cumsum_from_end",
    "argmax", "var_mean", "softmax", "log_softmax", "softmin", "sort", "normalize"}
  if build.big and (name == "prod" or name == "cumprod") then name = "sum" end       -- partial products of 100,000 numbers leave f32
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

return makers
