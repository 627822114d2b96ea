local ai = require "aijit"
local nn = ai.nn

local function row_of(profile, name, phase, o)
  for _, row in ipairs(profile:rows(o)) do
    if row.name == name and (not phase or row.phase == phase) then return row end
  end
end

describe("a profile", function()
  local w, x
  before_each(function()
    ai.manual_seed(1)
    w, x = ai.randn(8, 16, {requires_grad = true}), ai.randn(4, 16)
  end)

  it("counts the calls of each op, forward and backward, and gives the function's results", function()
    local profile, a, b = ai.profile(function(k)
      for _ = 1, k do ai.f.linear(x, w):tanh():sum():backward() end
      return "a", k
    end, 3)
    assert.same({"a", 3}, {a, b})
    assert.equal(3, row_of(profile, "linear", "forward").calls)
    assert.equal(3, row_of(profile, "tanh", "forward").calls)
    assert.equal(3, row_of(profile, "tanh backward", "backward").calls)
    assert.equal(3, row_of(profile, "linear backward", "backward").calls)
    assert.is_true(row_of(profile, "matmul", "backward").calls >= 3)
  end)

  it("splits time into what an op spends itself and in the ops within it", function()
    local profile = ai.profile(function() return ai.f.cosine_similarity(x, x * 2) end)
    local outer, inner = row_of(profile, "cosine_similarity"), 0
    for i, event in ipairs(profile.events) do
      assert.is_true(event.to >= event.from and event.inner <= event.to - event.from + 1e-9)
      if event.parent then
        assert.is_true(event.parent < i)
        if profile.events[event.parent].name == "cosine_similarity" then inner = inner + event.to - event.from end
      end
    end
    assert.is_true(inner > 0)
    assert.near(outer.total - inner, outer.self, 1e-8)
    local sum = 0
    for _, row in ipairs(profile:rows()) do sum = sum + row.share end
    assert.is_true(sum <= 1)
  end)

  it("counts the bytes that ops allocate, also where they are freed within", function()
    local profile = ai.profile(function() ai.scope(function() return ai.ones(1000) + 1, ai.ones(1000) * 2 end) end)
    local bytes = row_of(profile, "add").bytes
    assert.is_true(bytes >= 4000 and bytes < 8000)
  end)

  it("tells the shapes of inputs, and makes a row of each", function()
    local profile = ai.profile(function() return x + 1, x + x, ai.ones(2) + 1 end)
    local seen = {}
    for _, row in ipairs(profile:rows {by_shape = true}) do seen[row.shapes] = row.calls end
    assert.equal(1, seen["f32 (4, 16)"])
    assert.equal(1, seen["f32 (4, 16), f32 (4, 16)"])
    assert.equal(1, seen["f32 (2)"])
    assert.equal(3, row_of(profile, "add").calls)
  end)

  it("tells of a recorded function op by op, fused ones together", function()
    local f = ai.jit(function(t) return ((t * 2):tanh() + 1):matmul(t:t()) end)
    local wide = ai.randn(256, 64)
    f(wide)
    local profile = ai.profile(f, wide)
    assert.equal(1, row_of(profile, "replay, between its ops").calls)
    assert.equal(1, row_of(profile, "matmul").calls)
    assert.equal(1, row_of(profile, "mul tanh add").calls)
    local optimizer = ai.optim.SGD({w}, {lr = 0.1})
    local step = ai.jit(function()
      optimizer:zero_grad()
      ai.f.linear(x, w):tanh():sum():backward()
      optimizer:step()
    end)
    step()
    profile = ai.profile(step)
    assert.equal("backward", row_of(profile, "tanh backward").phase)
    assert.equal("forward", row_of(profile, "linear").phase)
    assert.equal("optimizer", row_of(profile, "sgd").phase)
    assert.equal("backward", row_of(profile, "matmul").phase)
  end)

  it("tells of an optimizer's step, and of parts that the program names", function()
    local optimizer = ai.optim.AdamW({w})
    local profile = ai.profile(function()
      local loss = ai.record_function("my part", function() return ai.f.linear(x, w):sum() end)
      loss:backward()
      optimizer:step()
    end)
    assert.equal(1, row_of(profile, "adam", "optimizer").calls)
    assert.is_true(profile:ranges()["my part"] > 0)
    assert.equal(5, ai.record_function("outside of a profile", function(n) return n end, 5))
  end)

  it("ends with an error of its function, which is raised", function()
    assert.has_error(function() ai.profile(function() error("mine", 0) end) end, "mine")
    assert.has_error(function() ai.profile(function() ai.record_function("r", function() x:matmul(x) end) end) end)
    assert.equal(1, row_of(ai.profile(function() return x + 1 end), "add").calls)
  end)

  it("is one at a time, of a function, by known columns", function()
    assert.error_matches(function() ai.profile(function() ai.profile(print) end) end, "being profiled already")
    assert.error_matches(function() ai.profile(3) end, "a function is wanted")
    assert.error_matches(function() ai.record_function(3, print) end, "record_function: the name is 3")
    local profile = ai.profile(function() return x + 1 end)
    assert.error_matches(function() profile:rows {sort = "colour"} end, "by self, total, calls, mean or bytes")
  end)

  it("prints a table whose shares are of the whole time", function()
    local text = tostring(ai.profile(function() for _ = 1, 50 do ai.scope(function() return x:exp() end) end end))
    assert.matches("^[%d.]+ ms:\n  op +phase +self ms +share +total ms +calls +mean us +memory\n  exp +forward ", text)
    assert.matches("in ops: [%d.]+ ms, [%d.]+ %%; around them", text)
    local _, lines = ai.profile(function() return x:exp(), x:tanh(), x:abs() end):table {limit = 1}:gsub("\n", "")
    assert.equal(3, lines)
  end)

  it("writes a trace of complete events that lie within each other, with arrows to backward rules", function()
    local name = os.tmpname()
    local net = nn.Sequential {nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2)}
    local profile = ai.profile(function() net(x):sum():backward() end)
    profile:write(name)
    local file = io.open(name)
    local trace = ai.json.decode(file:read "*a")
    file:close()
    os.remove(name)
    local ends, begins, last, arrows = {}, {}, 0, 0
    for _, event in ipairs(trace.traceEvents) do
      assert.equal("number", type(event.ts))
      if event.ph == "X" then
        assert.is_true(event.dur >= 0 and event.ts >= last)
        last = event.ts
      elseif event.ph == "s" then begins[event.id] = event.ts
      elseif event.ph == "f" then ends[event.id] = event.ts end
    end
    for id, at in pairs(ends) do
      arrows = arrows + 1
      assert.is_true(begins[id] < at)
    end
    assert.equal(4, arrows)
  end)
end)

describe("detect_anomaly", function()
  local function fault(f, o)
    local ok, message = pcall(ai.detect_anomaly, o or f, o and f)
    assert.is_false(ok)
    return message
  end

  it("names the op that made the first NaN, its inputs' shapes and the module", function()
    local Net = ai.class("Net", nn.Module)
    function Net:__init() nn.Module.__init(self) self.inner = nn.Lambda(function(x) return (x - 2):log() + 1 end) end
    function Net:forward(x) return self.inner(x):sum() end
    local message = fault(function() return Net()(ai.ones(2, 3)) end)
    assert.matches("spec/profile_spec.lua:%d+: log: the result is f32 %(2, 3%), with 6 NaN and 0 infinite of 6; input 1: f32 %(2, 3%), finite", message)
    assert.matches("in Net.inner", message)
  end)

  it("names the backward rule that made the first infinity, and the place of its forward call", function()
    local w = ai.tensor({0, 4}, {requires_grad = true})
    local here = debug.getinfo(1, "l").currentline
    local message = fault(function()
      local y = w:sqrt()
      local z = y * 2
      z:sum():backward()
    end)
    assert.matches("backward of sqrt: the gradient of input 1 is f32 %(2%), with 0 NaN and 1 infinite of 2; that of its result was finite", message)
    assert.matches(("the forward call:\n\t[^\n]*profile_spec.lua:%d:"):format(here + 2), message)
    assert.is_nil(w.grad)
  end)

  it("finds a composed op's rule by the place where the program called it", function()
    local w = ai.full({2, 3}, 1e-30, {requires_grad = true})
    local here = debug.getinfo(1, "l").currentline
    local message = fault(function() ai.f.cosine_similarity(w, w, {dim = 2, eps = 0}):sum():backward() end)
    assert.matches(("profile_spec.lua:%d:"):format(here + 1), message)
    assert.matches("backward of norm", message)
  end)

  it("says when the NaN was there before", function()
    local x = ai.tensor {0 / 0}
    assert.matches("add: .*it was given NaN", fault(function() return x + 1 end))
  end)

  it("lets pass an infinity that an op was given, as a number or in a tensor", function()
    local mask = ai.tensor {1, 0}:bool()
    local y = ai.detect_anomaly(function() return ai.zeros(2):masked_fill(mask, -math.huge):softmax(1) end)
    assert.same({0, 1}, y:totable())
    assert.matches("log: ", fault(function() return ai.zeros(1):log() end))
    assert.equal(-math.huge, ai.detect_anomaly({infinity = false}, function() return ai.zeros(1):log() end):item())
  end)

  it("looks at writes in place, and at gradients of ops written in Lua", function()
    assert.matches("log_: ", fault(function() ai.zeros(2):neg():sub_(1):log_() end))
    local op = ai.define_op {name = "mine", forward = function(_, x) return x * 1 end, backward = function(_, g) return g / 0 end}
    local w = ai.ones(2, {requires_grad = true})
    assert.matches("backward of mine: the gradient of input 1 holds infinity\n  the forward call:\n", fault(function() op(w):sum():backward() end))
  end)

  it("changes no bit, no random number and no result, and ends with its function", function()
    local function run()
      ai.manual_seed(3)
      local net = nn.Sequential {nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(1)}
      local y = net(ai.randn(3, 4)):sum()
      y:backward()
      return y:item(), net[1].weight.grad:totable()
    end
    local loss, grad = run()
    local watched, its = ai.detect_anomaly(run)
    assert.equal(loss, watched)
    assert.same(grad, its)
    assert.is_true(ai.zeros(1):log():isinf():item())
    pcall(ai.detect_anomaly, error)
    assert.is_true(ai.zeros(1):log():isinf():item())
  end)

  it("runs recorded functions as they were, and is refused within a recording", function()
    local f = ai.jit(function(x) return (x * 2):log() end)
    f(ai.ones(2))
    assert.matches("log: ", fault(function() return f(ai.zeros(2)) end))
    assert.error_matches(function() ai.jit(function() ai.detect_anomaly(print) end)() end, "not within a function that ai.jit records")
  end)

  it("leaves no tensor behind after a fault, outside of a scope too", function()
    local w = ai.zeros(64, {requires_grad = true})
    local function once() fault(function() (w + 1):log():neg():log() end) end
    once()
    collectgarbage() collectgarbage()
    local before = ai.memory().cpu.tensors
    for _ = 1, 5 do once() end
    collectgarbage() collectgarbage()
    assert.is_true(ai.memory().cpu.tensors <= before)                  -- fewer: what earlier specs left has been collected
  end)

  it("refuses options that it does not know, and what is no function", function()
    assert.error_matches(function() ai.detect_anomaly({inf = false}, print) end, "no option 'inf'")
    assert.error_matches(function() ai.detect_anomaly(3) end, "a function is wanted")
  end)
end)
