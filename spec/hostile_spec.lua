--- Whoever calls an op with what it does not take gets an error that says so: never a crash, never one from within, and
-- nothing is lost. Every row of the op table is called with every value of a list in the place of every argument.

local ai = require "aijit"
local ffi = require "ffi"
local op = require "aijit.bindings.op"
local sample = require "spec.support.sample"

local MOST = 2 ^ 25                     -- bytes that a call may ask for
local TRACE = os.getenv "AIJIT_HOSTILE_TRACE"

-- Values of no use, each made anew: some are written, or freed.
local function nothing() return nil end
local strange = {
  {"nil", nothing}, {"a word", function() return "fish" end}, {"an empty word", function() return "" end}, {"true", function() return true end},
  {"a function", function() return nothing end}, {"a coroutine", function() return coroutine.create(nothing) end},
  {"an empty table", function() return {} end}, {"a nested table", function() return {{1}} end}, {"a table of words", function() return {"a"} end},
  {"a table of NaN", function() return {0 / 0, 0 / 0} end}, {"a long table", function() return {1, 1, 1, 1, 1, 1, 1, 1, 1, 1} end},
  {"an unknown option", function() return {fish = 1} end}, {"a table of nil and false", function() return {nil, false} end},
  {"a table of huge sizes", function() return {2 ^ 31, 2 ^ 31, 2 ^ 31} end}, {"a table of negative sizes", function() return {-1, -2, -3} end},
  {"a table that is all of int64", function() return {-2 ^ 63, 2 ^ 63} end}, {"zeros", function() return {0, 0} end}, {"ones", function() return {1, 1} end},
  {"an int64", function() return ffi.new("int64_t", -1) end}, {"a buffer", function() return ffi.new "double[4]" end},
}
for _, v in ipairs {
  0, -1, 1, 2, 0.5, 7, -100, 1000, 2 ^ 31 - 1, 2 ^ 31, -2 ^ 31, 2 ^ 32, 2 ^ 53, 2 ^ 63, -2 ^ 63, 1e308, -1e308, 1e-320, math.huge, -math.huge, 0 / 0,
} do
  strange[#strange + 1] = {"the number " .. v, function() return v end}
end
local function freed() return ai.scope(function() local x = ai.ones(3) rawset(_G, "escaped_", x) end) or rawget(_G, "escaped_") end
for what, make in pairs {
  ["a tensor of a scope that ended"] = freed, ["a table of one"] = function() return {freed()} end,
  ["a scalar"] = function() return ai.tensor(3) end, ["no elements"] = function() return ai.zeros(0) end, ["no rows"] = function() return ai.zeros(0, 4) end,
  ["no columns"] = function() return ai.zeros(3, 0) end, ["8 dimensions"] = function() return ai.ones(1, 1, 1, 1, 1, 1, 1, 2) end,
  ["bools"] = function() return ai.ones({3, 4}, {dtype = "bool"}) end, ["u8"] = function() return ai.ones({3, 4}, {dtype = "u8"}) end,
  ["huge i64"] = function() return ai.full({3, 4}, 2 ^ 62, {dtype = "i64"}) end,
  ["negative i64"] = function() return ai.full({3, 4}, -2 ^ 62, {dtype = "i64"}) end,
  ["i32"] = function() return ai.ones({2, 3}, {dtype = "i32"}) end, ["f16"] = function() return ai.ones({3, 4}, {dtype = "f16"}) end,
  ["NaN"] = function() return ai.full({3, 4}, 0 / 0) end, ["infinities"] = function() return ai.full({2, 3, 4}, math.huge, {dtype = "f64"}) end,
  ["a vector"] = function() return ai.ones(5, {requires_grad = true}) end, ["an expanded number"] = function() return ai.ones(1):expand(64, 64) end,
  ["a window that overlaps"] = function() return ai.ones(6):unfold(1, 3, 1) end, ["a transposed matrix"] = function() return ai.ones(4, 3):t() end,
  ["shapes alone"] = function() return ai.empty({3, 4}, {device = "meta"}) end,
  ["five dimensions"] = function() return ai.ones({2, 1, 2, 1, 2}, {requires_grad = true}) end,
} do
  strange[#strange + 1] = {what, make}
  strange[#strange + 1] = {"a table of " .. what, function() return {make()} end}
end
table.sort(strange, function(a, b) return a[1] < b[1] end)

-- Messages that say that something was not checked before it was used.
local INNER = {"^[^:]*attempt to", "stack overflow", "cannot call", "table index is", "assertion", "too many results"}
local function from_within(message)
  for _, pattern in ipairs(INNER) do if message:find(pattern) then return true end end
  return message:find "attempt to %a+ " ~= nil
end

local function sane(row, what, name, args, n, xs)
  if TRACE then io.stderr:write(row.name, " ", name, " ", what, "\n") end
  local results = {pcall(ai.f[name], unpack(args, 1, n))}
  if not results[1] then
    local message = results[2]
    if type(message) ~= "string" then return ("%s: the error is a %s"):format(what, type(message)) end
    if from_within(message) then return ("%s: %s"):format(what, message) end
    return
  end
  for i = 2, #results do
    local y = results[i]
    if ai.is_tensor(y) and y.device ~= "meta" and y:numel() < 1e5 then
      local _ = y:numel() > 0 and y:to("f64"):sum():item()
      if y.requires_grad and #xs > 0 then
        local ok, message = pcall(ai.grad, y:sum(), xs, {allow_unused = true})
        if not ok and (type(message) ~= "string" or from_within(message)) then return ("%s: its gradient: %s"):format(what, tostring(message)) end
      end
    end
  end
end

-- A tensor almost like x: a size is one more or one less, a dimension too many or too few.
local function almost(x, visit)
  local sizes = x:size()
  local function try(what, s)
    local t = ai.ones(s, {dtype = x.dtype})
    if t:is_floating_point() then t:requires_grad_() end
    visit(what .. " (" .. table.concat(s, ", ") .. ")", t)
  end
  for d = 1, #sizes do
    for _, by in ipairs {1, -1} do
      local s = {unpack(sizes)}
      s[d] = s[d] + by
      try("of sizes", s)
    end
    local less = {unpack(sizes)}
    table.remove(less, d)
    try("without a dimension,", less)
  end
  if #sizes < 8 then try("of one more dimension,", {2, unpack(sizes)}) end
end

local function arguments(row)
  local xs = {}
  sample.seed(row.index + 1)
  local args, n = sample.arguments(row, function(input)
    local t = sample.tensor(input, "f32")
    if sample.is_differentiable(input) then xs[#xs + 1] = t:requires_grad_() end
    return t
  end)
  return args, n, xs
end

-- All is made in scopes, which free it: the collector has no part in this, but for what earlier specs left.
local function alive() return ai.memory().cpu.tensors end

describe("called with what it does not take,", function()
  setup(function() ai.set_memory_limit(ai.memory().cpu.live + MOST) end)
  teardown(function() ai.set_memory_limit(0) rawset(_G, "escaped_", nil) end)
  for _, row in ipairs(op.rows) do
    it("op " .. row.name .. " says so", function()
      local n = ai.scope(function() return select(2, arguments(row)) end)
      local before, faults = alive(), {}
      local names = row.kind == "UPDATE" and {row.name} or rawget(op.functions, row.name .. "_") and {row.name, row.name .. "_"} or {row.name}
      for at = 1, n do
        for _, value in ipairs(strange) do
          local name = names[at % #names + 1]
          ai.scope(function()
            local args, _, xs = arguments(row)
            args[at] = value[2]()
            faults[#faults + 1] = sane(row, ("argument %d is %s"):format(at, value[1]), name, args, n, xs)
          end)
        end
      end
      for at = 1, n do
        ai.scope(function()
          local given, _, xs = arguments(row)
          local list = type(given[at]) == "table" and given[at]
          local x = list and list[#list] or given[at]
          if not ai.is_tensor(x) then return end
          almost(x, function(what, t)
            local args = {unpack(given, 1, n)}
            args[at] = t
            if list then
              args[at] = {unpack(list)}
              args[at][#list] = t
            end
            faults[#faults + 1] = sane(row, ("argument %d is a tensor %s"):format(at, what), names[at % #names + 1], args, n, xs)
          end)
        end)
      end
      assert.are.equal(0, #faults, table.concat(faults, "\n"))
      local left = alive() - before                      -- less than none: what earlier specs left was collected
      assert.is_true(left <= 0, left .. " tensors are lost")
    end)
  end
end)
