--- The op table is the test table of fn.vmap: every row with a rule is mapped over three samples and compared with a loop,
-- with all of its tensors batched, with each alone, and with all but each. Rows without a rule are those that
-- lua/aijit/fn/rules/none.lua lists, each with its reason. A new row needs one or the other.

local ai = require "aijit"
local fn = require "aijit.fn"
local none = require "aijit.fn.rules.none"
local op = require "aijit.bindings.op"
local sample = require "spec.support.sample"

local N = 3

-- Samples of which some argument has the same value for every example: sorted, or positions that must not repeat.
local function same_numbers(row, input) return row.name == "searchsorted" and input.sizes[1] == 5 end

local function arguments(row, example)
  sample.seed(row.index * 17 + example)
  local i = 0
  return sample.arguments(row, function(input)
    i = i + 1
    if same_numbers(row, input) then sample.seed(row.index * 17 + i) input = (sample.read(row.sample))[i] end
    local t = sample.tensor(input)
    if row.name == "searchsorted" and i == 1 then t = t:sort(-1) end
    return t
  end)
end

local function call(row, args, n) return {ai.f[row.name](unpack(args, 1, n))} end

local function near(a, b, what)
  assert.are.same({unpack(b.shape)}, {unpack(a.shape)}, what)
  assert.are.equal(b.dtype, a.dtype, what)
  if a:numel() == 0 then return end
  assert(ai.f.isclose(a:double(), b:double(), {rtol = 1e-9, atol = 1e-11, equal_nan = true}):all():item(), what)
end

--- Which tensors are batched: sets of their numbers, with a name for each set.
local function patterns(n)
  local list, all = {}, {}
  for i = 1, n do all[i] = true end
  list[1] = {"all", all}
  if n == 1 then return list end
  for i = 1, n do
    list[#list + 1] = {"tensor " .. i .. " alone", {[i] = true}}
    local others = {}
    for k = 1, n do others[k] = k ~= i or nil end
    if n > 2 then list[#list + 1] = {"all but tensor " .. i, others} end
  end
  return list
end

--- args with each tensor, which are those of `tensors`, replaced by f(tensor, its number).
local function replaced(args, n, tensors, f)
  local numbers, out, k = {}, {}, 0
  for i = 1, 9 do if tensors[i] then k = k + 1 numbers[tensors[i]:id()] = k end end
  for i = 1, n do
    local v = args[i]
    if ai.is_tensor(v) then out[i] = f(v, numbers[v:id()])
    elseif type(v) == "table" and ai.is_tensor(v[1]) then
      out[i] = {}
      for j, t in ipairs(v) do out[i][j] = f(t, numbers[t:id()]) end
    else out[i] = v end
  end
  return out, k
end

--- The names of the parameters that the tensors go to, by number.
local function names_of(row, tensors)
  local names, k, at = {}, 0, 0
  for _, p in ipairs(row.params) do
    if p.type == "aj_tensor *" then
      at = at + 1
      if tensors[at] then k = k + 1 names[k] = p.name end
    end
  end
  return names
end

local function examples(row)
  local sets, n, count = {}, nil, nil
  for e = 1, N do
    local args, tensors
    args, n, tensors = arguments(row, e)
    sets[e] = {args = args, tensors = tensors}
    local _
    _, count = replaced(args, n, tensors, function(t, k) sets[e][k] = t return t end)
  end
  return sets, n, count
end

--- The op mapped over the batched tensors, and what a loop gives: lists of results.
local function both(row, sets, n, count, batched, options)
  local wanted, list, places = {}, {}, {}
  for e = 1, N do
    local args = replaced(sets[1].args, n, sets[1].tensors, function(t, k) return (batched[k] and sets[e][k] or t):clone() end)
    if options then ai.manual_seed(1) end
    wanted[e] = call(row, args, n)
  end
  for k = 1, count do
    if batched[k] then
      local all = {}
      for e = 1, N do all[e] = sets[e][k] end
      list[#list + 1], places[k] = ai.stack(all, 1), #list + 1
    end
  end
  if options then ai.manual_seed(1) end
  local mapped = {pcall(fn.vmap(function(...)
    local given = {...}
    local args = replaced(sets[1].args, n, sets[1].tensors, function(t, k) return batched[k] and given[places[k]] or t:clone() end)
    return ai.f[row.name](unpack(args, 1, n))
  end, options), unpack(list))}
  return mapped, wanted
end

local function compare(row, mapped, wanted, what)
  assert(mapped[1], what .. ": " .. tostring(mapped[2]))
  for r = 1, math.max(#row.returns, 1) do
    local each = {}
    for e = 1, N do each[e] = wanted[e][r] end
    near(mapped[r + 1], ai.stack(each, 1), ("%s, result %d"):format(what, r))
  end
end

local function check(row)
  local sets, n, count = examples(row)
  local names = names_of(row, sets[1].tensors)
  for _, pattern in ipairs(patterns(count)) do
    local batched, refused = pattern[2], nil
    for k in pairs(batched) do
      if names[k] and none.arguments[row.name .. " " .. names[k]] then refused = "^.*vmap: " .. row.name end
    end
    if row.name:sub(-1) == "_" and not batched[1] then refused = "writes what differs between the examples into a tensor that they share" end
    local mapped, wanted = both(row, sets, n, count, batched)
    if refused then
      assert.is_false(mapped[1], pattern[1])
      assert.matches(refused, mapped[2])
    else compare(row, mapped, wanted, pattern[1]) end
  end
end

--- What the op gives of tensors, by number, in the place of those of an example.
local function apply(row, set, n, given)
  local args = replaced(set.args, n, set.tensors, function(_, k) return given[k] end)
  return ai.f[row.name](unpack(args, 1, n))
end

local function stacked(sets, count, first, last)
  local list = {}
  for k = 1, count do
    local all = {}
    for e = first, last do all[#all + 1] = sets[e][k] end
    list[k] = ai.stack(all, 1)
  end
  return list
end

local function is_whole(row)
  for text in pairs(none.arguments) do if text:match "^%S+" == row.name then return false end end
  return row.name:sub(-1) ~= "_"
end

--- A map within a map: the examples twice over.
local function check_nested(row)
  local sets, n, count = examples(row)
  local once, twice = stacked(sets, count, 1, N), {}
  for k = 1, count do twice[k] = ai.stack({once[k], once[k]:flip(1)}, 1) end
  local y = fn.vmap(fn.vmap(function(...) return (apply(row, sets[1], n, {...})) end))(unpack(twice))
  local wanted = fn.vmap(function(...) return (apply(row, sets[1], n, {...})) end)(unpack(once))
  near(y[1], wanted, "nested, first")
  near(y[2]:flip(1), wanted, "nested, second")
end

-- Whose derivative by the first tensor is not known.
local ONE_SIDED = {igamma = true, igammac = true, zeta = true}

--- The gradients of a sum over the examples, and those of a loop.
local function check_gradients(row)
  local sets, n, count = examples(row)
  local inputs, leaves = stacked(sets, count, 1, N), {}
  for k, t in ipairs(inputs) do
    if t:is_floating_point() and not (ONE_SIDED[row.name] and k == 1) then leaves[#leaves + 1] = t:requires_grad_(true) end
  end
  if #leaves == 0 then return end
  local function total(y)
    if not y.requires_grad then return nil end
    return (y * ai.linspace(-1, 2, y:numel(), {dtype = y.dtype}):reshape(y:size())):sum()
  end
  local mapped = total((fn.vmap(function(...) return (apply(row, sets[1], n, {...})) end)(unpack(inputs))))
  local each = {}
  for e = 1, N do
    local given = {}
    for k, t in ipairs(inputs) do given[k] = t[e] end
    each[e] = (apply(row, sets[1], n, given))
  end
  local looped = total(ai.stack(each, 1))
  assert.are.equal(looped == nil, mapped == nil)
  if not looped then return end
  local a, b = ai.grad(mapped, leaves, {allow_unused = true}), ai.grad(looped, leaves, {allow_unused = true})
  for i = 1, #leaves do
    local have, want = a[i] or leaves[i] * 0, b[i] or leaves[i] * 0
    assert(ai.f.isclose(have, want, {rtol = 1e-8, atol = 1e-9, equal_nan = true}):all():item(), "gradient " .. i)
  end
end

-- Rows that draw random numbers.
local RANDOM = {}
for name in ([[uniform_ normal_ bernoulli_ exponential_ random_ bernoulli dropout dropout1d dropout2d dropout3d alpha_dropout
  multinomial]]):gmatch "%S+" do RANDOM[name] = true end

--- Without an option an error; the same for all is what a loop gives that starts each time from the same state; different
--- numbers have each example's shape.
local function check_random(row)
  local sets, n, count = examples(row)
  local mapped = both(row, sets, n, count, {true})
  assert.is_false(mapped[1])
  assert.matches(row.name .. " draws random numbers", mapped[2])
  if row.name ~= "multinomial" then
    local same, wanted = both(row, sets, n, count, {true}, {randomness = "same"})
    compare(row, same, wanted, "the same for all")
  end
  local different, wanted = both(row, sets, n, count, {true}, {randomness = "different"})
  assert(different[1], different[2])
  assert.are.same({N, unpack(wanted[1][1].shape)}, {unpack(different[2].shape)})
  assert.is_false(different[2][1]:equal(different[2][2]):item())
end

for _, row in ipairs(op.rows) do
  if RANDOM[row.name] then
    it(row.name .. " draws as it is told", function() check_random(row) end)
  elseif not none[row.name] then
    it(row.name .. " of a batch is what a loop gives", function() check(row) end)
    if is_whole(row) then
      it(row.name .. " of a batch of batches, and its gradients", function()
        check_nested(row)
        check_gradients(row)
      end)
    end
  end
end

it("rows without a rule exist, say why, and are refused", function()
  for name, reason in pairs(none) do
    if name ~= "arguments" then
      assert(op.named[name], name)
      local sets, n, count = examples(op.named[name])
      local mapped = both(op.named[name], sets, n, count, {true})
      assert.is_false(mapped[1], name)
      assert(mapped[2]:find(("vmap: %s has no rule for a batch, since %s"):format(name, reason), 1, true), mapped[2])
    end
  end
  for text in pairs(none.arguments) do
    local name, argument = text:match "^(%S+) (%S+)$"
    local found = false
    for _, p in ipairs(op.named[name].params) do found = found or p.name == argument end
    assert(found, text)
  end
end)
