--- What stands for a tensor (placeholders, batched tensors, parameters that are traced) answers as a tensor does, or is an error:
--- nothing is silently 0, true or empty. A comparison that nothing uses was the condition of an `if`.

local ai = require "aijit"
local fn = require "aijit.fn"
local nn, f = ai.nn, ai.f
local _ = fn._
local key = fn.key(1)

local function message_of(g, ...)
  local ok, message = pcall(g, ...)
  assert.is_false(ok)
  return message
end

--- A symbol of each kind for a tensor of sizes (4, 3), given to a function.
local kinds = {
  placeholder = function(run) return run(nn.Placeholder{4, 3}) end,
  ["batched tensor"] = function(run)
    local result
    fn.vmap(function(x) result = run(x) return x end)(ai.ones(2, 4, 3))
    return result
  end,
}

for name, with in pairs(kinds) do
  describe("a " .. name, function()
    it("has the length of its first dimension, and can be counted through", function()
      assert.are.equal(4, with(function(x) return #x end))
      assert.are.equal(3, with(function(x)
        local n = 0
        for i = 1, #x[1] do n = n + #x[{{}, i}]:size() * 1 end
        return n
      end))
      assert.matches("dimension 1 of a", message_of(with, function(x) return #x:sum() end))
    end)

    it("is text where text is wanted", function()
      assert.matches("4, 3", with(function(x) return tostring(x) end))
      assert.matches("^x is .*4, 3.*!$", with(function(x) return "x is " .. x .. "!" end))
    end)

    it("is no table: ipairs and pairs are errors, and so is a place beyond its end", function()
      assert.matches("symbol_spec%.lua:%d+: .*table expected", message_of(with, function(x) for i in ipairs(x) do print(i) end end))
      assert.matches("symbol_spec%.lua:%d+: .*table expected", message_of(with, function(x) for i in pairs(x) do print(i) end end))
      assert.matches("5", message_of(with, function(x) return x[5] end))
    end)

    it("is not compared by < and its kin, with its own kind or with numbers", function()
      assert.matches("compared by :lt", message_of(with, function(x) return x < x end))
      assert.matches("compared by :lt", message_of(with, function(x) return x >= x end))
      assert.matches("symbol_spec%.lua:%d+: attempt to compare", message_of(with, function(x) return x < 0 end))
      assert.matches("symbol_spec%.lua:%d+: attempt to compare", message_of(with, function(x) return 0 <= x end))
    end)

    it("has no fields of its own", function()
      assert.matches("did you mean .*reshape", message_of(with, function(x) return x:reshap(12) end))
      assert.has_error(function() with(function(x) x.name = 1 end) end)
    end)
  end)
end

it("a batch that is left open has no length", function()
  assert.matches("left open", message_of(function() return #nn.Placeholder{false, 3} end))
end)

it("a traced table of parameters has no length, and no end for ipairs and pairs; a hole has neither", function()
  local x = ai.ones(2, 3)
  assert.matches("symbol_spec%.lua:%d+: fn%.trace: #params%.layers: while it is traced", message_of(fn.trace, function(p) return #p.layers end, key))
  for _, each in ipairs{ipairs, pairs} do
    local message = message_of(fn.trace, function(p, v) for i, layer in each(p.layers) do v = fn.nets.linear(layer, v, i) end return v end, key, x)
    assert.matches("table expected, got userdata%)\n  while it is traced, params stands for any table", message)
  end
  assert.matches("no length", message_of(function() return #_ end))
  local w = fn.trace(function(p) fn.validate(p.w, {5, 2}) return ai.ones(#p.w) end, key).w
  assert.are.equal(5, #w)
end)

it("nothing that stands for a tensor keeps itself alive", function()
  local states = require("aijit.bindings.symbol").states
  local models = setmetatable({}, {__mode = "k"})
  local function count()
    collectgarbage() collectgarbage()
    local n = 0
    for _ in pairs(states) do n = n + 1 end
    for _ in pairs(models) do n = n + 1 end
    return n
  end
  local before = count()
  for _ = 1, 20 do
    local chain = nn.Placeholder{4, 3}
    for _ = 1, 30 do chain = nn.Linear(3)(chain):relu() end
    models[chain.node.args[1].node.module] = true
    local x = nn.Placeholder{4, 3}
    local y = nn.Linear(2)(x):relu() * x:gt(0):float()[{{}, {1, 2}}]
    local net = nn.Functional{inputs = x, outputs = y}
    net(ai.ones(4, 3))
    fn.vmap(function(v) return (v * 2):gt(1) end)(ai.ones(2, 3))
    fn.trace(fn.nets.linear, key, ai.ones(2, 3), 4)
  end
  assert.are.equal(before, count())
end)

describe("the condition of an if", function()
  local x = ai.ones(4, 3)

  --- f run in each of the ways that see no values, and the name that its error begins with.
  local ways = {
    ["Functional"] = function(run) local p = nn.Placeholder{4, 3} return nn.Functional{inputs = p, outputs = run(p)} end,
    ["fn.vmap"] = function(run) return fn.vmap(run)(x:unsqueeze(1)) end,
    ["fn.trace"] = function(run) return fn.trace(function(_, v) return run(v) end, key, x) end,
    ["fn.output_shape"] = function(run) return fn.output_shape(run, x) end,
    ["jit"] = function(run) return ai.jit(run)(x) end,
    ["Lambda"] = function(run) return nn.Lambda(run)(nn.Placeholder{4, 3}) end,
  }

  for name, way in pairs(ways) do
    it("is an error that names its line: " .. name, function()
      local line = debug.getinfo(1, "l").currentline + 2
      local message = message_of(way, function(v)
        if v:gt(0) then return v end
        return -v
      end)
      assert.matches(name, message, 1, true)
      assert(message:find(("nothing uses the result of gt at %s:%d"):format("spec/symbol_spec.lua", line), 1, true), message)
      assert.matches("where%(condition, a, b%)", message)
    end)

    it("may be several comparisons, of which the last is not used: " .. name, function()
      assert.matches("result of any at", message_of(way, function(v)
        return v:isnan():any() and v or v * 2
      end))
      assert.matches("result of logical_and at", message_of(way, function(v)
        if v:lt(1):logical_and(v:ge(0)) then v = v + 1 end
        return v
      end))
    end)

    it("is no comparison that is used, or returned: " .. name, function()
      way(function(v) return f.where(v:gt(0), v, -v) end)
      way(function(v) return v:masked_fill(v:gt(0), 0) end)
      way(function(v) return v * v:gt(0):float() + v:le(3):to "f32" end)
      way(function(v) return v:gt(0) end)
      way(function(v) return v:gt(0):detach() end)
      way(function(v) return (v:eq(1):all():reshape(1) * v:sum()):sum() end)
    end)
  end

  it("of the results of a module in a graph is no error: the module may give what is not wanted", function()
    local p = nn.Placeholder{4, 3}
    local both = nn.Lambda(function(v) return v * 2, v:gt(0) end)
    nn.Functional{inputs = p, outputs = (both(p))}
  end)

  it("is told once; a graph of other parts can be made", function()
    local p, q = nn.Placeholder{4, 3}, nn.Placeholder{4, 3}
    local y = p:gt(0) and p * 2
    local z = q * 2
    assert.matches("nothing uses", message_of(nn.Functional, {inputs = p, outputs = y}))
    nn.Functional{inputs = q, outputs = z}
  end)

  it("leaves nothing behind after an error", function()
    pcall(fn.trace, function(_, v) return v:gt(0) and error "stop" end, key, x)
    fn.trace(function(_, v) return v * 2 end, key, x)
    pcall(ai.jit(function(v) return v:gt(0) and error "stop" end), x)
    ai.jit(function(v) return v * 2 end)(x)
  end)
end)

it("what is no tensor is refused by what asks of one, also where LuaJIT would hand over any userdata", function()
  local x = nn.Placeholder{4, 3}
  for _, wrong in ipairs{io.stdout, newproxy(), fn._, x} do
    for _, name in ipairs{"item", "data", "detach", "id", "is_contiguous", "element_size", "version", "touch", "retain_grad", "totable",
                          "cpu", "tobytes"} do
      local message = message_of(ai.Tensor[name], wrong)
      assert(message:find("a tensor is wanted", 1, true) or message:find("where a tensor", 1, true), name .. ": " .. message)
    end
    assert.is_false(ai.Tensor.is_live(wrong))
    assert.is_false(ai.ones(1):is_same(wrong))
    assert.has_error(function() ai.ones(1):set_data(wrong) end)
  end
end)

it("a hole within a list is not filled", function()
  assert.matches("cat: a hole within a list is not filled", message_of(f.cat, {_, ai.ones(2)}))
end)
