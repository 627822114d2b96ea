--- Runs the cases of spec/vectors/, which oracle.py made from PyTorch's samples: values and dtypes, gradients, and
-- gradients of gradients. How PyTorch's arguments become ours is said in oracle_map.lua alone.

local ai = require "aijit"
local op = require "aijit.bindings.op"
local json = require "aijit.json"
local map = require "spec.support.oracle_map"

local oracle = {}

oracle.FOLDER = "spec/vectors/"
local TOLERANCE = {f64 = 1e-12, f32 = 1e-5, bf16 = 2e-2, f16 = 4e-3}
local GRADIENT, SECOND = 1e-10, 1e-9

--- The names of all ops that there are vectors of, sorted.
---@return string[]
function oracle.names()
  local list, p = {}, io.popen("ls " .. oracle.FOLDER)
  for file in p:lines() do list[#list + 1] = file:match "^(.*)%.safetensors$" end
  p:close()
  table.sort(list)
  return list
end

--- What unsupported.txt lists: name -> {[case id or "*"] = reason}. A line is `name id id ...: reason`.
---@return table<string, table<string, string>>
function oracle.unsupported()
  local list = {}
  for line in io.lines(oracle.FOLDER .. "unsupported.txt") do
    if line ~= "" and line:sub(1, 1) ~= "#" then
      local name, ids, reason = line:match "^(%S+) ([^:]+): (.+)$"
      assert(name, "unsupported.txt: cannot read " .. line)
      list[name] = list[name] or {}
      for id in ids:gmatch "%S+" do list[name][id] = reason end
    end
  end
  return list
end

---@class aijit.OracleCase
---@field id string
---@field args any[]
---@field kwargs table<string, any>?
---@field out any[]?
---@field error string?
---@field tol number?    of the results
---@field gtol number?   of the gradients

--- The cases of an op, and their pools of numbers.
---@param name string
---@return aijit.OracleCase[] cases
---@return table<string, aijit.Tensor> pools
function oracle.load(name)
  local pools, metadata = ai.load(oracle.FOLDER .. name .. ".safetensors")
  return json.decode(metadata.cases), pools
end

local function is_tensor(v) return type(v) == "table" and v.t ~= nil end

local function numbers(pools, dtype, sizes, at)
  local n = 1
  for _, s in ipairs(sizes) do n = n * s end
  if n == 0 then return ai.empty(sizes, {dtype = dtype}) end
  return pools[dtype]:narrow(1, at + 1, n):clone():view(sizes)
end

-- Every second element of a wider tensor: the same values, not in order in memory.
local function spread(t)
  if t:dim() == 0 or t:numel() == 0 then return t end
  local wide = ai.stack({t, t}, t:dim() + 1)
  return wide:select(wide:dim(), 1)
end

local function weights(n, k)
  local w = {}
  for i = 0, n - 1 do w[i + 1] = ((i * 7 + k * 5 + 3) % 13 - 6.25) / 8 end
  return ai.tensor(w, {dtype = "f64"})
end

-- -- Arguments -----------------------------------------------------------------------------------------------------------

-- What JSON says as Lua values: tensors are made, the leaves among them entered into `leaves`, null is nil.
local function decode(v, pools, leaves, strided)
  if v == json.null then return nil end
  if type(v) ~= "table" then return v end
  if v.t then
    local t = numbers(pools, v.t, v.s, v.at)
    if strided then t = spread(t) end
    if v.g then
      t = strided and t:detach() or t
      t:requires_grad_()
      leaves[#leaves + 1] = {x = t, v = v}
    end
    return t
  end
  if v.dtype then return v.dtype end
  if v.number then return tonumber(({["inf"] = "inf", ["-inf"] = "-inf", ["nan"] = "nan"})[v.number]) or 0 / 0 end
  local list = {n = #v}
  for i = 1, #v do list[i] = decode(v[i], pools, leaves, strided) end
  return list
end

local NUMBER = {double = true, int64_t = true}
local FROM_ONE = {aj_dim = true, aj_dims = true, aj_index = true}

local function plain_list(v)
  if type(v) ~= "table" or ai.is_tensor(v) then return v end
  local list = {}
  for i = 1, v.n or #v do list[i] = plain_list(v[i]) end
  return list
end

-- A row called with PyTorch's arguments: by position, the rest by name.
local function call_row(row, entry, args, kwargs)
  local params, named, list, has_base, options = {}, {}, {}, false, nil
  for _, p in ipairs(row.params) do
    if p.type == "aj_base" then has_base = true
    else
      params[#params + 1] = p
      named[p.name] = #params
    end
  end
  for i = 1, args.n do
    if not params[i] then error(("takes %d arguments, not %d"):format(#params, args.n), 0) end
    list[entry.first and entry.first[i] or i] = args[i]
  end
  for key, v in pairs(kwargs) do
    local name = entry.rename and entry.rename[key] or map.rename[key] or key
    local i = named[name] or (key == "input" and 1) or (key == "other" and 2)
    if i then list[i] = v
    elseif key == "dtype" and entry.cast then options = {dtype = v}
    elseif not (entry.drop and entry.drop[key] == v) then error("has no argument " .. key, 0) end
  end
  for name, v in pairs(entry.defaults or {}) do
    if list[named[name]] == nil then list[named[name]] = v end
  end
  local positions = {}
  for _, name in ipairs(entry.index or {}) do positions[name] = true end
  for i, p in ipairs(params) do
    local v = list[i]
    if v ~= nil then
      local is_index = has_base and positions[p.name] and not (ai.is_tensor(v) and v:is_floating_point())
      if entry.numbers and NUMBER[p.type] and ai.is_tensor(v) and v:numel() == 1 then v = v:item() end
      if NUMBER[p.type] and type(v) == "boolean" then v = v and 1 or 0 end
      if FROM_ONE[p.type] or is_index then v = map.from_one(v) end
      list[i] = plain_list(v)
    end
  end
  if options then                                        -- they stand where the first of what may be left out would
    local first
    for i = #params, 1, -1 do
      if params[i].default then first, options[params[i].name] = i, list[i] end
    end
    first = first or #params + 1
    list[first] = options
    return ai.f[row.name](unpack(list, 1, first))
  end
  return ai.f[row.name](unpack(list, 1, #params))
end

local function pack(...)
  local first = ...
  if type(first) == "table" and not ai.is_tensor(first) then return first end
  return {...}
end

--- What we call for PyTorch's op; nil where there is nothing.
---@param name string
function oracle.entry(name)
  local entry = map.ops[name]
  if type(entry) == "string" then entry = {op = entry} end
  if not entry then
    local short = name:gsub("^nn%.functional%.", ""):gsub("^linalg%.", ""):gsub("^special%.", ""):gsub("^fft%.", "")
    if not op.named[short] then return nil end
    entry = {op = short}
  end
  if type(entry) == "table" and type(entry[1]) == "string" then entry.op = entry[1] end
  if type(entry) == "table" and not op.named[entry.op] then return nil end
  return entry
end

local function call(entry, args, kwargs)
  if type(entry) == "function" then return pack(entry(args, kwargs)) end
  return pack(call_row(op.named[entry.op], entry, args, kwargs))
end

-- -- Comparing --------------------------------------------------------------------------------------------------------------


-- Where the first of n numbers differs: relative to the number and to the mean size of all, which is at least `least`.
local function differs(p, q, n, tolerance, least)
  local total, count = 0, 0
  for i = 1, n do
    local b = q[i]
    if b - b == 0 then total, count = total + math.abs(b), count + 1 end
  end
  local mean = math.max(count > 0 and total / count or 0, least or 0)
  for i = 1, n do
    local a, b = p[i], q[i]
    if not (a == b or (a ~= a and b ~= b)) and not (b - b == 0 and math.abs(a - b) <= tolerance * (math.abs(b) + mean)) then
      return ("element %d is %.17g, and should be %.17g"):format(i, a, b)
    end
  end
end

local function compare(have, want, tolerance, least)
  if table.concat(have:size(), "x") ~= table.concat(want:size(), "x") then
    return ("the sizes are {%s}, and should be {%s}"):format(table.concat(have:size(), ", "), table.concat(want:size(), ", "))
  end
  if have.dtype ~= want.dtype then return ("the dtype is %s, and should be %s"):format(have.dtype, want.dtype) end
  local n = want:numel()
  if n == 0 then return nil end
  if want:is_floating_point() then
    local a, b = have:detach():to "f64":contiguous(), want:to "f64"
    return differs(a:view(-1):totable(), b:view(-1):totable(), n, tolerance, least)
  end
  local a, b = have:contiguous(), want:contiguous()
  local p, q = a:data(), b:data()
  for i = 0, n - 1 do
    if p[i] ~= q[i] then return ("element %d is %s, and should be %s"):format(i + 1, tostring(p[i]), tostring(q[i])) end
  end
end

local function flat(list, out)
  for i = 1, list.n or #list do
    local v = list[i]
    if type(v) == "table" and not ai.is_tensor(v) then flat(v, out) else out[#out + 1] = v end
  end
  return out
end

local function flat_wanted(list, out)
  for _, v in ipairs(list) do
    if type(v) == "table" and not v.t and not v.number and v ~= json.null then flat_wanted(v, out) else out[#out + 1] = v end
  end
  return out
end

local function check_values(entry, results, case, pools)
  local have, want = flat(results, {}), flat_wanted(case.out, {})
  local results_of = type(entry) == "table" and entry.results or nil
  for k, v in ipairs(want) do
    local y = have[k]
    if y == nil then return ("there is no result %d"):format(k) end
    local problem
    if is_tensor(v) then
      if not ai.is_tensor(y) then return ("result %d is no tensor"):format(k) end
      local wanted = numbers(pools, v.t, v.s, v.at)
      local kind = results_of and results_of[k]
      if kind == "index" then wanted = wanted + 1 end
      if kind ~= "any" then problem = compare(y, wanted, math.max(case.tol or 0, TOLERANCE[v.t] or 0)) end
    elseif v ~= json.null then
      local x = y
      if ai.is_tensor(y) then x = y:item() end
      local w = type(v) == "table" and decode(v, pools) or v
      if type(w) == "number" and type(x) == "number" then
        if not (x == w or (x ~= x and w ~= w) or math.abs(x - w) <= 1e-12 * math.abs(w)) then problem = ("%.17g should be %.17g"):format(x, w) end
      elseif x ~= w then problem = ("%s should be %s"):format(tostring(x), tostring(w)) end
    end
    if problem then return ("result %d: %s"):format(k, problem) end
  end
end

local function weighted(list, first)
  local total
  for k, y in ipairs(list) do
    if ai.is_tensor(y) and y.requires_grad and y.dtype == "f64" and y:numel() > 0 then
      local s = (y * weights(y:numel(), k - 1 + first):view(y:size())):sum()
      total = total and total + s or s
    end
  end
  return total
end

local function check_gradients(results, leaves, case, pools)
  local xs, second = {}, false
  for i, leaf in ipairs(leaves) do
    xs[i] = leaf.x
    second = second or leaf.v.h ~= nil
  end
  local total = weighted(flat(results, {}), 0)
  local function compare_all(grads, key, tolerance, what)
    for i, leaf in ipairs(leaves) do
      if leaf.v[key] then
        local want = numbers(pools, "f64", leaf.v.s, leaf.v[key])
        local problem = compare(grads[i] or ai.zeros_like(leaf.x), want, math.max(tolerance, case.gtol or 0), 1e-3)
        if problem then return ("%s of input %d: %s"):format(what, i, problem) end
      end
    end
  end
  local grads = not total and {} or ai.grad(total, xs, {create_graph = second, allow_unused = true})
  local problem = compare_all(grads, "g", GRADIENT, "gradient")
  if problem or not second then return problem end
  local tied = {}
  for i = 1, #xs do tied[i] = grads[i] or 0 end
  local again = weighted(tied, 2)
  local grads2 = again and ai.grad(again, xs, {allow_unused = true}) or {}
  return compare_all(grads2, "h", SECOND, "second gradient")
end

--- Runs one case. nil: as PyTorch; else what differs.
---@param entry table|function   what oracle.entry gave
---@param case aijit.OracleCase
---@param pools table<string, aijit.Tensor>
---@param strided boolean        with inputs that do not lie in order
---@return string? problem
function oracle.run(entry, case, pools, strided)
  local ok, problem = pcall(ai.scope, function()
    local leaves = {}
    strided = strided and not (type(entry) == "table" and entry.dense)
    local args = decode(case.args, pools, leaves, strided)
    local keys, kwargs = {}, {}
    for key in pairs(case.kwargs or {}) do keys[#keys + 1] = key end
    table.sort(keys)
    for _, key in ipairs(keys) do kwargs[key] = decode(case.kwargs[key], pools, leaves, strided) end
    local fine, results = pcall(call, entry, args, kwargs)
    if case.error then return fine and "is not refused, as in PyTorch: " .. case.error or nil end
    if not fine then return "error: " .. tostring(results):gsub("^[^ ]*: ", "", 1) end
    local difference = check_values(entry, results, case, pools)
    if difference or #leaves == 0 then return difference end
    return check_gradients(results, leaves, case, pools)
  end)
  if not ok then return "error: " .. tostring(problem) end
  return problem
end

return oracle
