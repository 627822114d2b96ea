--- The meta device: shapes without elements.

local ai = require "aijit"
local op = require "aijit.bindings.op"
local sample = require "spec.support.sample"

local function call(row, device)
  sample.seed(row.index + 1)
  local args, n = sample.arguments(row, function(input)
    local t = sample.tensor(input, "f32")
    return device and t:to(device) or t
  end)
  return {ai.f[row.name](unpack(args, 1, n))}
end

for _, row in ipairs(op.rows) do
  it(row.name .. " gives the sizes and dtypes of a real run", function()
    ai.no_grad(function()
      local real = call(row)
      local ok, meta = pcall(call, row, "meta")
      if not ok then                                     -- a size that is told by values
        assert.is_truthy(meta:find("no elements", 1, true), meta)
        return
      end
      assert.are.equal(#real, #meta)
      for i, y in ipairs(real) do
        assert.are.same(y:size(), meta[i]:size())
        assert.are.equal(y.dtype, meta[i].dtype)
        assert.are.equal("meta", meta[i].device)
      end
    end)
  end)
end

it("takes no memory for elements", function()
  local before = ai.memory().cpu.live
  local t = ai.empty(1e6, 1e6, {device = "meta"})
  local y = t:matmul(t) + 1
  assert.are.same({1000000, 1000000}, y:size())
  assert.is_true(ai.memory().cpu.live - before < 10000)
end)

it("mixes with real parameters, and leaves them as they are", function()
  local w = ai.ones(3)
  assert.are.equal("meta", (w + ai.empty(3, {device = "meta"})).device)
  w:add_(ai.empty(3, {device = "meta"}))
  assert.are.same({1, 1, 1}, w:totable())
end)

it("says that there is nothing to read", function()
  local t = ai.ones(1, {device = "meta"})
  for _, f in ipairs {function() t:item() end, function() t:totable() end, function() t:to "cpu" end, function() t:data() end} do
    local ok, message = pcall(f)
    assert.is_false(ok)
    assert.is_truthy(message:find("meta", 1, true), message)
  end
  assert.are.equal("[f32 1 meta]", tostring(t))
end)
