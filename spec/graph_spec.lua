-- Placeholders, graphs of layers and ops, nn.Functional, and their specs.

local ai = require "aijit"
local nn = ai.nn

local function shape(t) return {unpack(t.shape)} end
local function numbers(t) return t:reshape(-1):totable() end

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

--- Linear(2, 2) with known weights.
local function linear(a, b, c, d)
  local m = nn.Linear(2, 2)
  m:load_state_dict{weight = ai.tensor{{a, b}, {c, d}}, bias = ai.zeros(2)}
  return m
end

it("the program of the documentation", function()
  local x  = nn.Placeholder{8, 3, 32, 32}              -- {false, 3, 32, 32}: batch left open
  local h  = nn.Conv2d(10, {kernel_size = 5, stride = 2})(x)
  local b1 = nn.Conv2d(30, {kernel_size = 7, padding = 2})(h)
  local b2 = nn.Conv2d(30, {kernel_size = 5, padding = 1})(h)
  local y  = nn.Linear(10)(nn.Linear(80)((b1 * b2):flatten()))
  local model = nn.Functional{inputs = x, outputs = y}  -- one, a list, or a table of names; parameters exist now
  assert.are.equal(10 * 3 * 25 + 10 + 30 * 10 * 49 + 30 + 30 * 10 * 25 + 30 + 80 * 30 * 144 + 80 + 10 * 80 + 10, model:num_parameters())
  local out = model(ai.randn(8, 3, 32, 32))
  assert.are.same({8, 10}, shape(out))
  local same = nn.from_spec(model:to_spec())            -- graphs too
  same:load_state_dict(model:state_dict())
  local input = ai.randn(2, 3, 32, 32)
  assert.are.same(numbers(model(input)), numbers(same(input)))
end)

describe("a placeholder", function()
  it("knows the shape of every step, and its type", function()
    local x = nn.Placeholder{4, 6, dtype = "f64"}
    assert.are.same({4, 3}, x[{{}, {1, 3}}].shape)
    assert.are.same({6}, x[2].shape)
    assert.are.same({6, 4}, x:t().shape)
    assert.are.equal("bool", x:gt(0).dtype)
    assert.are.equal("f64", (2 - x / 3 ^ x).dtype)
    assert.are.equal("i64", select(2, x:max(2)).dtype)
    assert.are.same({8, 6}, ai.cat{x, x}.shape)
    assert.are.same({4, 5}, x:matmul(ai.zeros(6, 5, {dtype = "f64"})).shape)
    assert.are.same({4, 5}, ai.f.linear(x, ai.zeros(5, 6, {dtype = "f64"})).shape)
    assert.are.same({4, 6}, ai.f.layer_norm(x, {6}, x[1], {bias = x[2]}).shape)     -- as optional arguments too
    assert.are.same({4, 6}, ai.f.where(x:gt(0), x, 3).shape)
    assert.are.equal("Placeholder (4, 6) f64", tostring(x))
    assert.are.equal("Placeholder (4, 6) f64 of relu", tostring(ai.f.relu(x)))
  end)

  it("may leave sizes open; what follows from them is open", function()
    local x = nn.Placeholder{false, 3, 8}
    assert.are.same({false, 24}, x:flatten().shape)
    assert.are.same({false, 3, 1}, x:mean(3, {keepdim = true}).shape)
    assert.are.same({3, false, 8}, x:transpose(1, 2).shape)
    assert.are.same({3, 8}, x:sum(1).shape)
    assert.are.same({false, 3, 5}, nn.Linear(5)(x).shape)
    assert.are.equal(3, x:size(2))
    assert.are.equal(8, x:size(-1))
    assert.matches("size 1 of this placeholder is left open, %(%?, 3, 8%)", message_of(x.size, x, 1))
  end)

  it("computes nothing, and draws no numbers", function()
    ai.manual_seed(3)
    local before = ai.get_random_state()
    local x = nn.Placeholder{4, 6}
    local _ = nn.Dropout(0.5)(x):relu()
    assert.are.same(before, ai.get_random_state())
    local big = nn.Placeholder{100000, 100000}
    local live = ai.memory().cpu.live
    local y = big:matmul(big)
    assert.are.same({100000, 100000}, y.shape)
    assert.is_true(ai.memory().cpu.live - live < 10000)
  end)

  it("takes the place of a tensor in a wrong step as in a right one: the error stands there", function()
    local x = nn.Placeholder{4, 6}
    local line = debug.getinfo(1, "l").currentline + 1
    local message = message_of(function() local y = x:matmul(x) return y end)
    assert.matches("graph_spec%.lua:" .. line .. ":", message)
    assert.matches("%(4, 6%)", message)
    assert.matches("did you mean 'reshape'", message_of(function() return x.reshap end))
    assert.matches("relu_: a placeholder cannot be written in place; use relu", message_of(function() return x:relu_() end))
    assert.matches("cannot be written", message_of(function() x[1] = 0 end))
    assert.matches("no elements", message_of(function() return x:sum():item() end))
    assert.matches("list of sizes", message_of(nn.Placeholder, {2, -3}))
    assert.matches("'dtyp' is no size.*dtype", message_of(nn.Placeholder, {2, dtyp = "f64"}))
  end)

  it("builds a layer that waits for its sizes, on the device of real tensors, with its first values", function()
    ai.manual_seed(1)
    local layer = nn.Linear(3)
    local y = layer(nn.Placeholder{false, 5})
    assert.are.same({false, 3}, y.shape)
    assert.are.equal("cpu", layer.weight.device)
    assert.is_true(layer.weight.requires_grad)
    ai.manual_seed(1)
    local other = nn.Linear(5, 3)
    assert.are.same(numbers(other.weight), numbers(layer.weight))
    local message = message_of(layer, nn.Placeholder{2, 6})
    assert.matches("%(2, 6%)", message)
    assert.matches("Linear 5 %-> 3", message)
  end)

  it("leaves buffers alone", function()
    local norm = nn.BatchNorm1d(3)
    norm(nn.Placeholder{4, 3})
    assert.are.equal(0, norm.num_batches_tracked:item())
    assert.is_true(norm.training)
  end)
end)

describe("Functional", function()
  it("computes what its steps say", function()
    local x = nn.Placeholder{false, 2}
    local a = linear(1, 2, 3, 4)
    local m = nn.Functional{inputs = x, outputs = (a(x) * x + 1 - x / 2)[{{}, 2}]}
    -- a(x) = (x1 + 2 x2, 3 x1 + 4 x2); second column: (3 x1 + 4 x2) x2 + 1 - x2 / 2
    assert.are.same({22, 47.5}, numbers(m(ai.tensor{{1, 2}, {1, 3}}) + ai.tensor{0, 3}))
  end)

  it("shares a layer that is called twice", function()
    local x = nn.Placeholder{false, 2}
    local a = linear(1, 1, 0, 1)
    local m = nn.Functional{inputs = x, outputs = a(a(x))}
    assert.are.equal(6, m:num_parameters())
    assert.are.equal(1, #m)
    assert.are.equal(a, m[1])
    assert.are.same({1 + 2 * 2, 2}, numbers(m(ai.tensor{{1, 2}})))
    m(ai.tensor{{1, 2}}):sum():backward()
    -- y = W W x, summed; dW = 1 (W x)^T + W^T 1 x^T
    assert.are.same({3 + 1, 2 + 2, 3 + 2, 2 + 4}, numbers(a.weight.grad))
  end)

  it("keeps the structure of its inputs and outputs", function()
    local x, y = nn.Placeholder{false, 2}, nn.Placeholder{false, 2}
    local one, two = ai.ones(1, 2), ai.ones(1, 2) * 2
    local sum, product = x + y, x * y
    local list = nn.Functional{inputs = {x, y}, outputs = {sum, product}}
    for _, out in ipairs {list(one, two), list{one, two}} do
      assert.are.same({3, 3}, numbers(out[1]))
      assert.are.same({2, 2}, numbers(out[2]))
    end
    local named = nn.Functional{inputs = {a = x, b = y}, outputs = {s = sum, rest = {product, x, product}}}
    local out = named{a = one, b = two}
    assert.are.same({3, 3}, numbers(out.s))
    assert.are.same({{2, 2}, {1, 1}, {2, 2}}, {numbers(out.rest[1]), numbers(out.rest[2]), numbers(out.rest[3])})
    local nested = nn.Functional{inputs = {q = {x, {k = y}}}, outputs = sum}
    assert.are.same({3, 3}, numbers(nested{q = {one, {k = two}}}))
  end)

  it("may be cut at any node", function()
    local x = nn.Placeholder{false, 2}
    local a, b = linear(1, 1, 0, 1), linear(2, 0, 0, 2)
    local h = a(x)
    local y = b(h)
    assert.are.same({2, 4}, numbers(nn.Functional{inputs = h, outputs = y}(ai.tensor{{1, 2}})))
    assert.are.same({3, 2}, numbers(nn.Functional{inputs = x, outputs = h}(ai.tensor{{1, 2}})))
    local both = nn.Functional{inputs = x, outputs = {h, y}}(ai.tensor{{1, 2}})
    assert.are.same({{3, 2}, {6, 4}}, {numbers(both[1]), numbers(both[2])})
    assert.are.equal(1, #nn.Functional{inputs = h, outputs = y})
  end)

  it("is a module in modules, and a layer in graphs", function()
    local x = nn.Placeholder{false, 2}
    local inner = nn.Functional{inputs = x, outputs = linear(0, 1, 1, 0)(x) + 1}
    local net = nn.Sequential{inner, nn.Linear(3)}
    assert.are.same({4, 3}, shape(net(ai.ones(4, 2))))
    local z = nn.Placeholder{false, 2}
    local outer = nn.Functional{inputs = z, outputs = inner(inner(z))}
    assert.are.same({3, 4}, numbers(outer(ai.tensor{{1, 2}})))
    assert.are.equal(6, outer:num_parameters())
  end)

  it("takes modules of one's own, functions, and lists of results", function()
    local Two = ai.class("TwoOfGraphSpec", nn.Module)
    function Two:__init() self.fc = nn.Linear(2) end
    function Two:forward(u, v) return {sum = self.fc(u) + v, both = {u, v}}, u end
    local x = nn.Placeholder{false, 2}
    local two = Two()
    local out, again = two(x, x * 2)
    assert.are.same({false, 2}, out.both[2].shape)
    local m = nn.Functional{inputs = x, outputs = {out.sum, out.both[2], again, ai.cat({x, x}, 2), x:chunk(2, 2)[2]}}
    local input = ai.tensor{{1, 2}}
    local got = m(input)
    assert.are.same(numbers(two.fc(input) + input * 2), numbers(got[1]))
    assert.are.same({{2, 4}, {1, 2}, {1, 2, 1, 2}, {2}}, {numbers(got[2]), numbers(got[3]), numbers(got[4]), numbers(got[5])})
  end)

  it("holds the tensors that its steps use, as parameters or buffers", function()
    local x = nn.Placeholder{false, 2}
    local w, c = ai.tensor({3, 4}, {requires_grad = true}), ai.tensor{10, 20}
    local m = nn.Functional{inputs = x, outputs = x * w + c + c - c}
    assert.are.equal(1, #m:parameters())
    assert.are.equal(1, #m:buffers())
    m(ai.ones(1, 2)):sum():backward()
    assert.are.same({1, 1}, numbers(w.grad))
    assert.are.same({13, 24}, numbers(m(ai.ones(1, 2))))
    local copy = m:clone()
    ai.no_grad(function() w:fill_(0) end)
    assert.are.same({13, 24}, numbers(copy(ai.ones(1, 2))))
  end)

  it("prints its steps with shapes; a shared layer by its place", function()
    local x = nn.Placeholder{false, 2}
    local a = nn.Linear(2)
    local text = tostring(nn.Functional{inputs = {x = x}, outputs = a(a(x)):relu()})
    assert.matches("x1 = nn%.Placeholder{false, 2}", text)
    assert.matches("x2 = nn%.Linear%(2, 2%)%(x1%) +%-%- %(%?, 2%)", text)
    assert.matches("x3 = self%[1%]%(x2%)", text)
    assert.matches("x4 = relu%(x3%)", text)
    assert.matches("inputs = {x = x1}, outputs = x4", text)
    assert.matches("6 parameters", text)
  end)

  it("says what is wrong with its arguments", function()
    local x, y = nn.Placeholder{false, 2}, nn.Placeholder{4, 7}
    assert.matches("usage: nn%.Functional{inputs = x, outputs = y}", message_of(nn.Functional, {inputs = x}))
    assert.matches("no argument 'output': did you mean 'outputs'", message_of(nn.Functional, {inputs = x, outputs = x, output = x}))
    assert.matches("need a placeholder of sizes %(4, 7%) that is not among the inputs", message_of(nn.Functional, {inputs = x, outputs = {x, y}}))
    assert.matches("inputs holds a number", message_of(nn.Functional, {inputs = {x, 3}, outputs = x}))
    local m = nn.Functional{inputs = {a = x, b = y}, outputs = x + 1}
    assert.matches("no input named 'c'", message_of(m, {a = ai.ones(1, 2), b = ai.ones(1, 7), c = 1}))
    assert.matches("input%.b is a nil", message_of(m, {a = ai.ones(1, 2)}))
    assert.matches("input%.b has the sizes %(4, 6%), where the graph was made for %(4, 7%)", message_of(m, {a = ai.ones(1, 2), b = ai.ones(4, 6)}))
    assert.matches("2 inputs are given, where the graph has one", message_of(nn.Functional{inputs = x, outputs = x + 1}, ai.ones(1), ai.ones(1)))
  end)
end)

describe("the spec of a graph", function()
  local function round_trip(m)
    local text = ai.json.encode(m:to_spec())
    local again = nn.from_spec(ai.json.decode(text))
    again:load_state_dict(m:state_dict())
    assert.are.equal(text, ai.json.encode(again:to_spec()))
    return again
  end

  it("survives JSON: shared layers, options, nested inputs and outputs, constants, nil arguments", function()
    local x, y = nn.Placeholder{false, 4, dtype = "f32"}, nn.Placeholder{3, 4}
    local a = nn.Sequential{nn.Linear(4), nn.ReLU()}
    local h = a(a(x)) + y:sum(1, {keepdim = true}) * ai.tensor{1, 2, 3, 4}
    local values, places = h:max(2)
    local m = nn.Functional{inputs = {x = x, more = {y}}, outputs = {h:clamp(nil, 0.5), {values = values, places = places}, ai.cat({h, x}, 2)}}
    local again = round_trip(m)
    local input = {x = ai.randn(5, 4), more = {ai.randn(3, 4)}}
    local left, right = m(input), again(input)
    assert.are.same(numbers(left[1]), numbers(right[1]))
    assert.are.same(numbers(left[2].values), numbers(right[2].values))
    assert.are.same(numbers(left[2].places), numbers(right[2].places))
    assert.are.same(numbers(left[3]), numbers(right[3]))
    assert.are.equal(m:num_parameters(), again:num_parameters())
  end)

  it("nests in others", function()
    local x = nn.Placeholder{false, 4}
    local again = round_trip(nn.Sequential{nn.Functional{inputs = x, outputs = nn.Linear(3)(x):tanh()}, nn.TimeDistributed(nn.Linear(3, 2))})
    assert.are.equal("Functional", again:to_spec().layers[1].type)
  end)

  it("that is wrong is an error with the nearest name", function()
    local x = nn.Placeholder{false, 4}
    local spec = nn.Functional{inputs = x, outputs = nn.Linear(3)(x):tanh()}:to_spec()
    local function broken(change)
      local copy = ai.json.decode(ai.json.encode(spec))
      change(copy)
      return message_of(nn.from_spec, copy)
    end
    assert.matches("no class 'Liner': did you mean 'Linear'", broken(function(s) s.layers[1].type = "Liner" end))
    assert.matches("no argument 'in_feature': did you mean 'in_features'", broken(function(s) s.layers[1].in_feature = 4 end))
    assert.matches("no op 'tanhh': did you mean 'tanh'", broken(function(s) s.steps[2].op = "tanhh" end))
    assert.matches("has no 'step': did you mean 'steps'", broken(function(s) s.step = {} end))
    assert.matches("uses placeholder 9 before anything makes it", broken(function(s) s.steps[1].args[1].ref = 9 end))
    assert.matches("calls layer 7, and there are 1", broken(function(s) s.steps[1].layer = 7 end))
    assert.matches("no argument 'layrs': did you mean 'layers'", message_of(nn.from_spec, {type = "Sequential", layrs = {}}))
    assert.matches("no argument 'modul': did you mean 'module'", message_of(nn.from_spec, {type = "TimeDistributed", modul = {}}))
    assert.matches("Lambda%.fn is a function", message_of(function()
      return nn.Functional{inputs = x, outputs = nn.Lambda(function(t) return t + 1 end)(x)}:to_spec()
    end))
  end)

  it("may be a file of JSON or of YAML", function()
    local path = os.tmpname()
    ai.save({type = "sequential", layers = {{type = "linear", args = {4, 3}}, {type = "relu"}}}, path .. ".json")
    assert.are.same({2, 3}, shape(nn.from_spec(path .. ".json")(ai.ones(2, 4))))
    local file = assert(io.open(path .. ".yaml", "w"))
    file:write "type: Sequential\nlayers:\n  - type: Linear\n    args: [4, 3]\n  - {type: LeakyReLU, negative_slope: 0.5}\n"
    file:close()
    local net = nn.from_spec(path .. ".yaml")
    assert.are.same({2, 3}, shape(net(ai.ones(2, 4))))
    assert.are.equal(0.5, net[2].negative_slope)
    os.remove(path) os.remove(path .. ".json") os.remove(path .. ".yaml")
  end)
end)

describe("every structure of inputs with every structure of outputs:", function()
  -- Inputs a, b; h = shared(a), k = shared(b) are inner nodes.
  local ins = {
    ["a list"] = {function(a, b) return {a, b} end, function(net, a, b) return net{a, b} end},
    ["one after another"] = {function(a, b) return {a, b} end, function(net, a, b) return net(a, b) end},
    ["names"] = {function(a, b) return {left = a, right = b} end, function(net, a, b) return net{left = a, right = b} end},
    ["a list in a name"] = {function(a, b) return {both = {a, b}} end, function(net, a, b) return net{both = {a, b}} end},
    ["names in a list"] = {function(a, b) return {{x = a}, {x = b}} end, function(net, a, b) return net({x = a}, {x = b}) end},
    ["three levels"] = {function(a, b) return {p = {a, {q = {b}}}} end, function(net, a, b) return net{p = {a, {q = {b}}}} end},
  }
  local outs = {
    ["one"] = function(t) return t.sum end,
    ["a list of one"] = function(t) return {t.sum} end,
    ["a list"] = function(t) return {t.sum, t.h} end,
    ["names"] = function(t) return {s = t.sum, k = t.k} end,
    ["repeated"] = function(t) return {t.sum, t.sum, {t.sum}} end,
    ["an input itself"] = function(t) return {t.a, t.sum} end,
    ["nested"] = function(t) return {u = {t.h, {v = t.product}}, w = {t.k, t.b}} end,
  }
  local function walk(got, wanted, at)
    if ai.is_tensor(wanted) then return assert(got:equal(wanted):item(), at) end
    local keys = 0
    for key in pairs(got) do assert(wanted[key] ~= nil, at) keys = keys + 1 end
    for key, inner in pairs(wanted) do
      walk(got[key], inner, at .. "." .. tostring(key))
      keys = keys - 1
    end
    assert.are.equal(0, keys)
  end
  for in_name, input in pairs(ins) do
    for out_name, output in pairs(outs) do
      it(in_name .. " to " .. out_name, function()
        local shared = nn.Linear(3, 3)
        local function values(a, b)
          local h, k = shared(a), shared(b)
          return {a = a, b = b, h = h, k = k, sum = h + k * 2, product = (h * k):tanh()}
        end
        local a, b = nn.Placeholder{false, 3}, nn.Placeholder{false, 3}
        local net = nn.Functional{inputs = input[1](a, b), outputs = output(values(a, b))}
        assert.are.equal(12, net:num_parameters())
        local again = nn.from_spec(ai.yaml.decode(ai.yaml.encode(net:to_spec())))
        again:load_state_dict(net:state_dict())
        local x, y = ai.randn(4, 3), ai.randn(4, 3)
        for _, each in ipairs{net, again, net:clone()} do walk(input[2](each, x, y), output(values(x, y)), "") end
      end)
    end
  end

  it("a cut at inner nodes takes their values", function()
    local shared, last = nn.Linear(3, 3), nn.Linear(3, 2)
    local a, b = nn.Placeholder{false, 3}, nn.Placeholder{false, 3}
    local h, k = shared(a), shared(b)
    local y = last(h * k)
    local x, z = ai.randn(2, 3), ai.randn(2, 3)
    assert.is_true(nn.Functional{inputs = {h, k}, outputs = y}(x, z):equal(last(x * z)):item())
    assert.is_true(nn.Functional{inputs = {a = a, k = k}, outputs = {y}}{a = x, k = z}[1]:equal(last(shared(x) * z)):item())
    assert.are.equal(1, #nn.Functional{inputs = {h, k}, outputs = y})
  end)

  it("what cannot be is refused", function()
    local a = nn.Placeholder{false, 3}
    assert.matches("the same placeholder is input%[1%] and input%[2%]", message_of(nn.Functional, {inputs = {a, a}, outputs = a + 1}))
    assert.matches("no placeholder among the outputs", message_of(nn.Functional, {inputs = a, outputs = {}}))
    assert.matches("%(12, 3%) and %(12, 4%).*\n  a size of 12 stands for one that is left open", message_of(function() return a + nn.Placeholder{false, 4} end))
    assert.is_nil(message_of(function() return nn.Placeholder{2, 3} + nn.Placeholder{2, 4} end):find("left open", 1, true))
  end)
end)
