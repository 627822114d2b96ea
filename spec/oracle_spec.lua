--- PyTorch's operator samples (spec/vectors/, made by spec/support/oracle) through our ops: values, dtypes, refusals, first
-- and second gradients. What does not agree stands in spec/vectors/unsupported.txt, which only shrinks.

local ai = require "aijit"
local oracle = require "spec.support.oracle"

local names = oracle.names()
local unsupported = oracle.unsupported()
local cases_run, ops_run = 0, 0

describe("PyTorch's samples of", function()
  for _, name in ipairs(names) do
    it(name, function()
      local entry, listed = oracle.entry(name), unsupported[name] or {}
      if not entry then
        assert.is_truthy(listed["*"], name .. ": there is no such op, and unsupported.txt does not say so")
        return
      end
      local cases, pools = oracle.load(name)
      local failed, passed, seen = {}, {}, {}
      for i, case in ipairs(cases) do
        assert.is_nil(seen[case.id], case.id)
        seen[case.id] = true
        local problem = oracle.run(entry, case, pools, i % 2 == 0)
        if problem and not listed[case.id] then failed[#failed + 1] = ("  %s %s: %s"):format(name, case.id, problem)
        elseif not problem and listed[case.id] then passed[#passed + 1] = ("  %s %s"):format(name, case.id) end
        if not problem then cases_run = cases_run + 1 end
      end
      ops_run = ops_run + 1
      if listed["*"] then
        assert.is_true(#passed == 0 and #failed == #cases, name .. " is here now: its line in unsupported.txt can go, or name the cases that fail")
        return
      end
      for id in pairs(listed) do
        if not seen[id] then passed[#passed + 1] = ("  %s %s (there is no such sample)"):format(name, id) end
      end
      if #failed > 0 then error("these do not agree with PyTorch:\n" .. table.concat(failed, "\n"), 0) end
      if #passed > 0 then error("these agree now, and can go from unsupported.txt:\n" .. table.concat(passed, "\n"), 0) end
    end)
  end
end)

it("at least 13,500 samples of 430 ops agree with PyTorch", function()
  assert.is_true(cases_run >= 13500, cases_run .. " samples")
  assert.is_true(ops_run >= 430, ops_run .. " ops")
end)

it("unsupported.txt names ops that there are samples of", function()
  local known = {}
  for _, name in ipairs(names) do known[name] = true end
  for name in pairs(unsupported) do assert.is_true(known[name], name) end
end)

it("a NaN of any bits reaches Lua as NaN", function()
  for _, bytes in ipairs {"\255\255\255\255", "\255\255\255\127", "\1\0\128\255"} do
    local t = ai.from_string(bytes, {1}, {dtype = "f32"})
    for _, dtype in ipairs {"f32", "f64"} do
      local x = t:to(dtype)
      local a, b = x:item(), x:totable()[1]
      assert.are.equal("number", type(a))
      assert.are.equal("number", type(b))
      assert.is_true(a ~= a and b ~= b)
    end
  end
  local t = ai.from_string("\255\255\255\255\255\255\255\255", {1}, {dtype = "f64"})
  assert.is_true(t:item() ~= t:item())
  assert.are.equal("nan", tostring(t:totable()[1]):match "nan")
end)
