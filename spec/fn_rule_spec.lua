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
