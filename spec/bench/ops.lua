--- A row for each op, made from the table: its sample is grown to a useful size, and timed forward and backward. Then it is
-- grown four times along its inputs' first dimension, and along their last: where time grows more than six times, and the
-- results do not, something is quadratic by accident.

local ai = require "aijit"
local op = require "aijit.bindings.op"
local here = debug.getinfo(1, "S").source:match "^@(.*/)"
package.path = here .. "?.lua;" .. here .. "../../?.lua;" .. package.path
local measure = require "measure"
local sample = require "spec.support.sample"

local USEFUL, BASE = 2 ^ 20, 2 ^ 15     -- elements: for the row; and where growth begins
local LIMIT, GROWTH = 1e9, 6

-- What an op must do more than once an element: matrices (n^1.5 in their elements, as sizes grow), and all pairs of rows.
local function flops(row, args, y)
  local name = row.name
  local a, b = args[1], args[2]
  if name == "matmul" or name == "mm" or name == "bmm" or name == "mv" or name == "linear" or name == "inner" then return 2 * y:numel() * a:size(-1) end
  if name == "addmm" or name == "addmv" or name == "baddbmm" then return 2 * y:numel() * b:size(-1) end
  if name:find "^conv%dd$" then return 2 * y:numel() * b:numel() / b:size(1) end
  if name:find "^conv_transpose%dd$" then return 2 * a:numel() * b:numel() / b:size(1) end
end

-- -- Growing a sample -------------------------------------------------------------------------------------------------------

local function count(sizes)
  local n = 1
  for _, s in ipairs(sizes) do n = n * s end
  return n
end

-- Sizes of all inputs, grown by k along a dimension: that of input 1, and those of others which have the same size there.
-- "all": every dimension but those of size 1.
local function grown(inputs, along, k)
  local first = inputs[1] and inputs[1].sizes
  if not first or #first == 0 then return nil end
  local out = {}
  local ref = along == "first" and first[1] or first[#first]
  for i, x in ipairs(inputs) do
    local sizes = x and {unpack(x.sizes)} or nil
    if sizes and #sizes > 0 then
      if along == "all" then
        for d, s in ipairs(sizes) do if s > 1 then sizes[d] = math.max(1, math.floor(s * k + 0.5)) end end
      else
        local d = along == "first" and 1 or #sizes
        if sizes[d] == ref and (along == "last" or #sizes == #first) then sizes[d] = math.max(1, math.floor(sizes[d] * k + 0.5)) end
      end
    end
    out[i] = sizes or false
  end
  return out
end

local function make(input, sizes, grad)
  local kind, top = input.kind, math.max(1, unpack(input.values))
  local t
  if kind == "b" then t = ai.rand(sizes):gt(0.5)
  elseif kind == "i" then t = ai.randint(1, top, sizes)
  elseif kind == "s" then
    t = ai.randn(sizes)
    t = (t + t:transpose(-2, -1)) * 0.5 + ai.eye(sizes[#sizes]) * (3 * sizes[#sizes])
  elseif kind == "u" then t = ai.randperm(count(sizes)):float():reshape(sizes) / count(sizes)
  else
    t = ai.rand(sizes)
    if kind == "" then t = t * 2 - 1 elseif kind == "+" then t = t + 0.5 elseif kind == "%" then t = t * 1.8 - 0.9
    elseif kind == "^" or kind == "c" then t = t * 1.8 + 1.2
    elseif kind == "p" then t = t * 0.9 + 0.05 elseif kind == "~" then t = (t + 0.25) * (ai.rand(sizes):gt(0.5):float() * 2 - 1) end
  end
  t = t:detach():contiguous()
  if grad and sample.is_differentiable(input) then t:requires_grad_() end
  return t
end

---@class aijit.BenchCase
---@field args any[]
---@field n integer
---@field xs aijit.Tensor[]      that want gradients
---@field elements integer       of all inputs

-- The sample at these sizes; nil where the op does not take them.
local function case(row, inputs, sizes, grad)
  local xs, elements = {}, 0
  for _, s in ipairs(sizes) do if s then elements = elements + count(s) end end
  if elements > 2 ^ 23 then return nil end
  local ok, args, n = pcall(sample.arguments, row, function(_, i)
    local t = make(inputs[i], sizes[i], grad)
    if t.requires_grad then xs[#xs + 1] = t end
    return t
  end)
  if not ok then return nil end
  local fine = pcall(function() ai.scope(function() return ai.f[row.name](unpack(args, 1, n)) end) end)
  if not fine then return nil end
  return {args = args, n = n, xs = xs, elements = elements}
end

-- The first way of growing that reaches `elements`, or what comes nearest.
local function sized(row, inputs, along, elements, grad)
  local own = 0
  for _, x in ipairs(inputs) do if x then own = own + count(x.sizes) end end
  local k = elements / math.max(own, 1)
  if along == "all" then k = k ^ (1 / math.max(1, #inputs[1].sizes)) end
  while k > 1.5 do
    local sizes = grown(inputs, along, k)
    local c = sizes and case(row, inputs, sizes, grad)
    if c and c.elements >= own * 1.5 then return c, k end
    k = k / 4
  end
end

-- -- Timing -------------------------------------------------------------------------------------------------------------------

local function median(list)
  table.sort(list)
  return list[math.ceil(#list / 2)]
end

-- Seconds of f, which tells how long it took; the median and the spread of the middle half of rounds.
local function timed(f, least)
  f()
  local list, start = {}, measure.now()
  repeat list[#list + 1] = f() until #list >= 5 and (measure.now() - start > least or #list >= 200)
  local m = median(list)
  return m, (list[math.ceil(#list * 3 / 4)] - list[math.ceil(#list / 4)]) / m
end

local function forward(row, c)
  local f = ai.f[row.name]
  return function()
    return ai.scope(function()
      return ai.no_grad(function()
        local t = measure.now()
        f(unpack(c.args, 1, c.n))
        return measure.now() - t
      end)
    end)
  end
end

local function total(results)
  local sum
  for _, y in ipairs(results) do
    if ai.is_tensor(y) and y.requires_grad then sum = sum and sum + y:sum() or y:sum() end
  end
  return sum
end

local function backward(row, c)
  local f = ai.f[row.name]
  return function()
    return ai.scope(function()
      local sum = total {f(unpack(c.args, 1, c.n))}
      if not sum then error "no gradient" end
      local t = measure.now()
      ai.grad(sum, c.xs, {allow_unused = true})
      return measure.now() - t
    end)
  end
end

local function bytes_of(row, c)
  return ai.scope(function()
    local bytes = 0
    local function add(t) if ai.is_tensor(t) then bytes = bytes + t:numel() * t:element_size() end end
    for i = 1, c.n do
      add(c.args[i])
      if type(c.args[i]) == "table" then for _, t in ipairs(c.args[i]) do add(t) end end
    end
    local results = {ai.f[row.name](unpack(c.args, 1, c.n))}
    for _, y in ipairs(results) do add(y) end
    return bytes, ai.is_tensor(results[1]) and flops(row, c.args, results[1]) or nil
  end)
end

-- How time and bytes grow when the sizes along a dimension become four times what they are.
local function growth(row, inputs, along)
  local small, k = sized(row, inputs, along, BASE)
  if not small then return nil end
  local large = case(row, inputs, grown(inputs, along, 4 * k))
  if not large then return nil end
  local t1, t2 = timed(forward(row, small), 0.005), timed(forward(row, large), 0.005)
  return t2 / t1, bytes_of(row, large) / bytes_of(row, small), large.elements / small.elements, t2
end

-- -- The table ------------------------------------------------------------------------------------------------------------------

local wanted = {}
for i = 1, #arg do wanted[arg[i]] = true end
ai.set_num_threads(1)
ai.manual_seed(1)
local out, slow, missing = {}, {}, {}

local function rate(bytes, work, t)
  if work then return ("%8.2f GFLOP/s"):format(work / t / LIMIT) end
  return ("%8.2f GB/s   "):format(bytes / t / LIMIT)
end

print(("aijit %s, CPU level %s, one thread, f32"):format(ai._VERSION, ai.cpu_level()))
print(("%-26s %9s %10s %6s  %-16s %10s  %-15s"):format("op", "elements", "forward", "spread", "rate", "backward", "4 times: first, last"))
for _, row in ipairs(op.rows) do
  if next(wanted) == nil or wanted[row.name] then
    local inputs = sample.read(row.sample)
    local c, how
    local differentiable = row.kind ~= "UPDATE"          -- a leaf is not written in place
    for _, along in ipairs {"all", "first", "last"} do
      c = inputs[1] and sized(row, inputs, along, USEFUL, differentiable)
      if c then how = along break end
    end
    if not c and inputs[1] then
      local sizes = {}
      for i, x in ipairs(inputs) do sizes[i] = x and x.sizes or false end
      c, how = case(row, inputs, sizes, differentiable), "sample"
    end
    if not c then missing[#missing + 1] = row.name
    else
      local bytes, work = bytes_of(row, c)
      local t, spread = timed(forward(row, c), 0.03)
      local ok, back = false, nil
      if #c.xs > 0 and row.kind ~= "UPDATE" then ok, back = pcall(timed, backward(row, c), 0.03) end
      back = ok and back or nil
      local grows, text = {}, {}
      for i, along in ipairs {"first", "last"} do
        local by, of_bytes, of_elements, took = growth(row, inputs, along)
        -- More than what is read and written explains, long enough to be sure of, and so at every try.
        local fair = by and GROWTH * math.max(1, of_bytes / 4, of_elements / 4)
        for _ = 1, 4 do if by and by > fair and took > 2e-4 then by = math.min(by, growth(row, inputs, along)) end end
        if by and by > fair and took > 2e-4 then slow[#slow + 1] = ("%s, along its %s dimension: %.1f times"):format(row.name, along, by) end
        grows[along] = by
        text[i] = by and ("%.1f"):format(by) or "-"
      end
      print(("%-26s %9d %10s %5.0f%%  %s %10s  %s"):format(row.name, c.elements, measure.text(t), spread * 100, rate(bytes, work, t),
        back and measure.text(back) or "", table.concat(text, ", ")))
      io.flush()
      out[#out + 1] = {op = row.name, grown = how, elements = c.elements, bytes = bytes, flops = work, forward = t, spread = spread, backward = back,
        growth_first = grows.first, growth_last = grows.last}
    end
    collectgarbage() collectgarbage()
  end
end
local path = os.getenv "AIJIT_BENCH_OUT"
if path then
  local file = assert(io.open(path, "w"))
  file:write(require("aijit.json").encode {version = ai._VERSION, level = ai.cpu_level(), ops = out}, "\n")
  file:close()
end
if #missing > 0 then print("without a case: " .. table.concat(missing, ", ")) end
if #slow > 0 then print("grows faster than it should:\n  " .. table.concat(slow, "\n  ")) end
os.exit(#slow == 0)
