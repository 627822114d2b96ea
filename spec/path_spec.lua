--- Where in a model an error happened, and the shapes on the way there.

local ai = require "aijit"
local m = require "aijit.model"
local nn = ai.nn

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

--- The lines after the first.
local function rest(message) return message:match "\n(.*)$" end

local Net = ai.class("PathNet", nn.Module)
function Net:__init() self.body = nn.Sequential{nn.Sequential{nn.Conv2d(3, 8, 3), nn.ReLU()}, nn.Flatten(), nn.Linear(10, 4)} end
function Net:forward(x) return self.body(x) end

local Pair = ai.class("PathPair", nn.Module)
function Pair:__init()
  self.a = nn.Linear(4, 5)
  self.b = nn.Linear(4, 6)
end
function Pair:forward(x) return self.a(x) + self.b(x) end

describe("an error deep inside a model", function()
  it("shows the modules on the way, those before it in the innermost container, and their inputs' shapes", function()
    assert.are.equal(table.concat({
      "  in PathNet.body[3] (Linear 10 -> 4)",
      "  inputs on the way there:",
      "    PathNet   (2, 3, 8, 8)",
      "    .body     (2, 3, 8, 8)",
      "    .body[1]  (2, 3, 8, 8)",
      "    .body[2]  (2, 8, 6, 6)",
      "    .body[3]  (2, 288)",
    }, "\n"), rest(message_of(Net(), ai.randn(2, 3, 8, 8))))
  end)

  it("shows what a module called before it failed itself", function()
    assert.are.equal(table.concat({
      "  in Sequential[2] (PathPair())",
      "  inputs on the way there:",
      "    Sequential  (2, 3)",
      "    [1]         (2, 3)",
      "    [2]         (2, 4)",
      "    [2].a       (2, 4)",
      "    [2].b       (2, 4)",
    }, "\n"), rest(message_of(nn.Sequential{nn.Linear(3, 4), Pair()}, ai.randn(2, 3))))
  end)

  it("of the factories, too", function()
    local message = message_of(m.Model(m.seq{m.conv(3, 8), m.resblk(8, 8), m.resblk(9, 8)}), ai.randn(2, 3, 8, 8))
    assert.matches("in Model%.net%[3%]%.main%[1%]%[1%] %(Conv2d 9 %-> 8%)", message)
    assert.matches("%.net%[3%] +%(2, 8, 8, 8%)", message)
  end)

  it("says no more than the path for a layer by itself", function()
    assert.are.equal("  in Linear 3 -> 4", rest(message_of(nn.Linear(3, 4), ai.randn(2, 5))))
  end)

  it("is the same in a second call, after others, and while sizes are inferred or a graph is made", function()
    local net = Net()
    local first = message_of(net, ai.randn(2, 3, 8, 8))
    nn.Linear(3, 4)(ai.randn(1, 3))
    assert.are.equal(rest(first), rest(message_of(net, ai.randn(2, 3, 8, 8))))
    local lazy = nn.Sequential{nn.Linear(4), nn.Sequential{nn.Flatten(), nn.Unflatten(2, {3, 3})}}
    assert.matches("%[2%]%[2%] +%(2, 4%)", message_of(lazy, ai.randn(2, 5)))
    assert.matches("in PathNet%.body%[3%]", message_of(net, nn.Placeholder{false, 3, 8, 8}))
    assert.matches("%.body%[3%] +%(12, 288%)", message_of(net, nn.Placeholder{false, 3, 8, 8}))
  end)

  it("shows at most eight calls beside those on the way, lists of tensors, and nothing of what is gone", function()
    local list = {}
    for i = 1, 20 do list[i] = nn.Linear(4, 4) end
    list[21] = nn.Linear(5, 4)
    local lines = rest(message_of(nn.Sequential(list), ai.randn(2, 4)))
    assert.matches("%[20%]", lines)
    assert.is_nil(lines:find("[12]", 1, true))
    assert.matches("%[13%]", lines)
    local merge = ai.class("PathMerge", nn.Module)
    function merge:__init() self.add = nn.Add() end
    function merge:forward(t) return self.add(t) end
    assert.matches("%.add +{%(2%), %(3%)}", message_of(merge(), {ai.ones(2), ai.ones(3)}))
    local freed = ai.class("PathFreed", nn.Module)
    function freed:__init() self.one, self.two = nn.Identity(), nn.Linear(2, 2) end
    function freed:forward(x)
      ai.scope(function() self.one(x * 1) end)
      return self.two(x)
    end
    local text = message_of(freed(), ai.ones(1, 3))
    assert.is_nil(text:find(".one", 1, true))
    assert.matches("%.two +%(1, 3%)", text)
  end)

  it("keeps no input alive", function()
    local net = nn.Sequential{nn.Identity(), nn.Identity()}
    local before = ai.memory().cpu.live
    for _ = 1, 3 do net(ai.ones(1000, 100)) end
    collectgarbage() collectgarbage()
    assert.is_true(ai.memory().cpu.live - before < 1000)
  end)
end)

describe("the way is told", function()
  it("of a step of a graph, by what it makes of what", function()
    local x = nn.Placeholder{false, 4}
    local graph = nn.Functional{inputs = x, outputs = nn.Linear(4, 3)(x):reshape(-1, 2, 3):sum(2)}
    local net = nn.Sequential{graph}
    assert.matches("in Sequential%[1%] %(Functional{}, step 2: x3 = reshape%(x2, %-1, 2, 3%)%)", message_of(net, ai.randn(3, 4)))
    assert.matches("in Sequential%[1%] %(Functional{}%)", message_of(net, ai.randn(3, 5)))
    net(ai.randn(4, 4))
  end)

  it("through layers over time, shared layers, hooks and checkpoints", function()
    local nested = nn.Sequential{nn.Linear(4, 8), nn.TimeDistributed(nn.Sequential{nn.Linear(8, 8), nn.TimeDistributed(nn.Linear(9, 2))})}
    assert.matches("in Sequential%[2%]%.module%[2%]%.module %(Linear 9 %-> 2%).*%[2%]%.module%[2%]%.module +%(30, 8%)",
      message_of(nested, ai.randn(2, 3, 5, 4)))
    local shared = nn.Linear(4, 4)
    local twice = nn.Sequential{shared, nn.Sequential{shared, nn.Linear(5, 2)}}
    twice[1]:register_forward_hook(function(_, _, y) return y * 1 end)
    twice[2][2]:register_forward_pre_hook(function(_, x) return x end)
    assert.matches("in Sequential%[2%]%[2%] %(Linear 5 %-> 2%)", message_of(twice, ai.randn(2, 4)))
    local body = nn.Sequential{nn.Linear(4, 4), nn.Linear(5, 4)}
    local saved = nn.Sequential{nn.Lambda(function(x) return ai.checkpoint(body, x) end)}
    assert.matches("in Sequential%[2%] %(Linear 5 %-> 4%)", message_of(saved, ai.randn(2, 4):requires_grad_(true)))
  end)

  it("in a map over examples and in a recording", function()
    local fn = require "aijit.fn"
    local net = nn.Sequential{nn.Linear(4, 4), nn.Linear(5, 2)}
    for _, run in ipairs{fn.vmap(function(x) return net(x) end), ai.jit(function(x) return net(x):detach() end)} do
      local message = message_of(run, ai.randn(2, 3, 4))
      assert.matches("in Sequential%[2%] %(Linear 5 %-> 2%)\n  inputs on the way there:\n    Sequential  %(.*3, 4%)", message)
    end
  end)
end)
