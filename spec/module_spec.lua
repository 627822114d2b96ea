-- nn.Module: its parts and their names, state, services, errors.

local ai = require "aijit"
local nn = ai.nn

local Net = ai.class("SpecNet", nn.Module)
function Net:__init()
  nn.Module.__init(self)
  self.fc2 = nn.Linear(4, 3)
  self.fc1 = nn.Linear(3, 2)
  self.scale = nn.Parameter(ai.ones(2))
  self.blocks = {}
  for i = 1, 2 do self.blocks[i] = nn.Linear(2, 2, {bias = false}) end
  self.note = "data"
end
function Net:forward(x)
  x = self.fc1(self.fc2(x)) * self.scale
  for i = 1, #self.blocks do x = self.blocks[i](x) end
  return x
end

local function names(iterator)
  local list = {}
  for name in iterator do list[#list + 1] = name end
  return list
end

local function sorted(t)
  local list = {}
  for name in pairs(t) do list[#list + 1] = name end
  table.sort(list)
  return list
end

local function numbers(t) return t:reshape(-1):totable() end

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

describe("the parts of a module", function()
  it("come in the order of their definition, under PyTorch's names", function()
    assert.are.same({"fc2.weight", "fc2.bias", "fc1.weight", "fc1.bias", "scale", "blocks.0.weight", "blocks.1.weight"},
      (function()
        -- A module's own tensors stand before those of its children.
        local own, below = {}, {}
        for _, name in ipairs(names(Net():named_parameters())) do
          if name == "scale" then own[1] = name else below[#below + 1] = name end
        end
        table.insert(below, 5, own[1])
        return below
      end)())
  end)

  it("list a module's own parameters before its children's, as PyTorch does", function()
    assert.are.equal("scale", names(Net():named_parameters())[1])
  end)

  it("are found in fields that held something else at first", function()
    local m = nn.Module()
    m.head = false
    m.head = nn.Linear(2, 1)
    assert.are.same({"head.weight", "head.bias"}, names(m:named_parameters()))
  end)

  it("do not include a plain tensor, or one that an op made", function()
    local m = nn.Module()
    m.mask = ai.ones(2)
    m.seen = ai.ones(2, {requires_grad = true}) * 2
    assert.are.same({}, names(m:named_parameters()))
    assert.are.same({}, sorted(m:state_dict()))
  end)

  it("may stand beside values that a scope has freed", function()
    local m = nn.Linear(2, 1)
    ai.scope(function() m.last = m.weight * 2 end)
    assert.are.equal(2, #m:parameters())
    assert.are.equal(2, #sorted(m:state_dict()))
  end)

  it("are named once when shared, and under every name in the state", function()
    local m = nn.Module()
    m.a = nn.Linear(2, 2, {bias = false})
    m.b = nn.Linear(2, 2, {bias = false})
    m.b.weight = m.a.weight
    assert.are.same({"a.weight"}, names(m:named_parameters()))
    assert.are.same({"a.weight", "b.weight"}, sorted(m:state_dict()))
  end)

  it("stay parameters when frozen", function()
    local m = Net():freeze()
    assert.are.equal(7, #m:parameters())
    assert.is_false(m.fc1.weight.requires_grad)
    assert.is_true(m:unfreeze().fc1.weight.requires_grad)
  end)

  it("are visited children first by apply", function()
    local order = {}
    local m = nn.Sequential{nn.Linear(2, 2), nn.ReLU()}
    m:apply(function(module) order[#order + 1] = getmetatable(module).__name end)
    assert.are.same({"ReLU", "Linear", "Sequential"}, order)
  end)

  it("are counted", function()
    assert.are.equal(4 * 3 + 3 + 3 * 2 + 2 + 2 + 8, Net():num_parameters())
  end)

  it("make parameters() an error while a layer waits for its sizes", function()
    assert.has_error(function() nn.Sequential{nn.Linear(3)}:parameters() end)
  end)

  it("outlive the scope in which they were made", function()
    local m
    ai.scope(function() m = nn.Sequential{nn.Linear(3, 2), nn.BatchNorm1d(2)} end)
    assert.are.equal(2, m[1].weight:size(1))
    assert.are.equal(2, m:state_dict()["1.running_mean"]:size(1))
  end)
end)

describe("a state", function()
  it("goes from one model into another", function()
    local a, b = Net(), Net()
    b:load_state_dict(a:state_dict())
    assert.are.same(numbers(a.fc1.weight), numbers(b.fc1.weight))
  end)

  it("that does not fit is one error that lists all differences, and loads nothing", function()
    local m = nn.Sequential{nn.Linear(2, 2), nn.Linear(2, 1)}
    local before = numbers(m[1].weight)
    local ok, message = pcall(function()
      m:load_state_dict{["0.weight"] = ai.zeros(2, 2), ["0.bais"] = ai.zeros(2), ["1.weight"] = ai.zeros(1, 3)}
    end)
    assert.is_false(ok)
    assert.matches("missing from the state %(2%)", message)
    assert.matches("0%.bias", message)
    assert.matches("0%.bais %(like 0%.bias%)", message)
    assert.matches("1%.weight: %(1, 3%) in the state, %(1, 2%) in the model", message)
    assert.are.same(before, numbers(m[1].weight))
  end)

  it("is loaded as far as it fits with strict = false", function()
    local m = nn.Sequential{nn.Linear(2, 2)}
    local same, report = m:load_state_dict({["0.weight"] = ai.ones(2, 2), other = ai.ones(1)}, {strict = false})
    assert.are.equal(m, same)
    assert.are.same({"0.bias"}, report.missing)
    assert.are.same({"other"}, report.unexpected)
    assert.are.same({1, 1, 1, 1}, numbers(m[1].weight))
  end)

  it("gives waiting layers their sizes", function()
    local a = nn.Sequential{nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)}
    local b = nn.Sequential{nn.Linear(4), nn.BatchNorm1d(), nn.Linear(2)}
    b:load_state_dict(a:state_dict())
    assert.are.equal(5, b[1].in_features)
    assert.are.same(numbers(a[3].weight), numbers(b[3].weight))
  end)

  it("has buffers but not those that are not persistent", function()
    local m = nn.Module()
    m:register_buffer("mean", ai.zeros(2))
    m:register_buffer("cache", ai.zeros(2), {persistent = false})
    assert.are.same({"mean"}, sorted(m:state_dict()))
    assert.are.equal(2, #m:buffers())
  end)
end)

describe("services", function()
  it("clone copies values and keeps what is shared shared", function()
    local m = nn.Module()
    m.a = nn.Linear(2, 2)
    m.b = m.a
    local copy = m:clone()
    assert.are.equal(copy.a, copy.b)
    assert.are_not.equal(m.a, copy.a)
    assert.are.same(numbers(m.a.weight), numbers(copy.a.weight))
    ai.no_grad(function() copy.a.weight:fill_(0) end)
    assert.are_not.same(numbers(m.a.weight), numbers(copy.a.weight))
    assert.is_true(copy.a.weight.requires_grad)
  end)

  it("to changes the dtype of floating tensors only, and keeps sharing", function()
    local m = nn.Sequential{nn.BatchNorm1d(2), nn.Linear(2, 2)}
    m[3] = m[2]
    m:double()
    assert.are.equal("f64", m[1].running_mean.dtype)
    assert.are.equal("i64", m[1].num_batches_tracked.dtype)
    assert.are.equal("f64", m[3].weight.dtype)
    assert.are.equal(m[2].weight, m[3].weight)
    assert.is_true(m[2].weight.requires_grad)
  end)

  it("soft_update moves towards another model, hard_update becomes it", function()
    local a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    nn.init.constant_(a.weight, 1)
    nn.init.constant_(b.weight, 3)
    a:soft_update(b, 0.25)
    assert.are.same({1.5, 1.5, 1.5, 1.5}, numbers(a.weight))
    a:hard_update(b)
    assert.are.same({3, 3, 3, 3}, numbers(a.weight))
    assert.has_error(function() a:hard_update(nn.Linear(2, 3)) end)
  end)

  it("zero_grad forgets gradients", function()
    local m = nn.Linear(2, 1)
    m(ai.ones(1, 2)):sum():backward()
    assert.is_not_nil(m.weight.grad)
    m:zero_grad()
    assert.is_nil(m.weight.grad)
  end)

  it("clip_grad_norm returns the norm and scales down to the limit", function()
    local m = nn.Linear(2, 1, {bias = false})
    m(ai.tensor{{3, 4}}):sum():backward()
    assert.are.equal(5, m:clip_grad_norm(1))
    local g = numbers(m.weight.grad)
    assert.is_near(0.6, g[1], 1e-6)
    assert.is_near(0.8, g[2], 1e-6)
    assert.is_near(1, m:clip_grad_norm(100), 1e-6)
    assert.is_near(0.8, m:clip_grad_norm(100, {norm_type = math.huge}), 1e-6)
  end)

  it("clip_grad_value limits each element", function()
    local m = nn.Linear(2, 1, {bias = false})
    m(ai.tensor{{3, -4}}):sum():backward()
    m:clip_grad_value(3.5)
    assert.are.same({3, -3.5}, numbers(m.weight.grad))
  end)

  it("train and eval reach every module", function()
    local m = nn.Sequential{nn.Sequential{nn.Dropout(0.5)}}
    m:eval()
    assert.is_false(m[1][1].training)
    assert.is_true(m:train()[1][1].training)
  end)

  it("hooks see and may replace inputs and outputs, until removed", function()
    local m = nn.Identity()
    local remove = m:register_forward_hook(function(_, _, y) return y + 1 end)
    m:register_forward_pre_hook(function(_, x) return x * 10 end)
    assert.are.equal(21, m(ai.tensor(2)):item())
    remove()
    assert.are.equal(20, m(ai.tensor(2)):item())
  end)

  it("hooks work on a layer that waits for its sizes", function()
    local m, seen = nn.Linear(2), 0
    m:register_forward_hook(function() seen = seen + 1 end)
    m(ai.ones(1, 3))
    m(ai.ones(1, 3))
    assert.are.equal(2, seen)
    assert.are.equal(3, m.in_features)
  end)
end)

describe("an error inside a module", function()
  it("names the path as a Lua expression, the layer and its sizes", function()
    local m = nn.Sequential{nn.ReLU(), Net()}
    assert.matches("SpecNet%.fc2 %(Linear 4 %-> 3%)", message_of(Net(), ai.ones(1, 7)))
    assert.matches("Sequential%[2%]%.fc2 %(Linear 4 %-> 3%)", message_of(m, ai.ones(1, 7)))
  end)

  it("is raised at the line of the program", function()
    local m = nn.Linear(4, 3)
    local line = debug.getinfo(1, "l").currentline + 1
    local message = message_of(function() return (m(ai.ones(1, 7))) end)
    assert.matches("module_spec%.lua:" .. line .. ":", message)
  end)

  it("is described rightly after an earlier error was caught", function()
    pcall(Net(), ai.ones(1, 7))
    assert.matches("%(Linear 2 %-> 1%)", message_of(nn.Sequential{nn.Linear(2, 1)}, ai.ones(1, 5)))
    assert.is_nil(nn.path.describe())
  end)

  it("tells a class without forward what to write", function()
    assert.matches("SpecEmpty has no forward", message_of(ai.class("SpecEmpty", nn.Module)()))
  end)
end)

describe("print", function()
  it("shows each layer as the call that makes it, with sizes and counts", function()
    local m = nn.Sequential{nn.Conv2d(1, 8, 3, {padding = 1}), nn.ReLU(), nn.Linear(10)}
    assert.are.equal(table.concat({
      'nn.Sequential{                             -- 80 parameters',
      '  nn.Conv2d(1, 8, 3, {padding = 1}),       -- 80',
      '  nn.ReLU(),',
      '  nn.Linear(10),                           -- sizes from the first input',
      '}',
    }, "\n"):gsub(" +%-%-", "  --"), (tostring(m):gsub(" +%-%-", "  --")))
  end)

  it("shows the fields of a model", function()
    local text = tostring(Net())
    assert.matches("SpecNet{ +%-%- 33 parameters", text)
    assert.matches("\n  fc2 = nn.Linear%(4, 3%), +%-%- 15", text)
    assert.matches("\n  blocks = {\n    nn.Linear%(2, 2, {bias = false}%), +%-%- 4\n", text)
  end)
end)

describe("a spec", function()
  it("of a class of one's own is its fields", function()
    local m = Net()
    local spec = m:to_spec()
    assert.are.same({type = "Linear", in_features = 4, out_features = 3}, spec.fc2)
    local again = nn.from_spec(spec)
    assert.are.same(names(m:named_parameters()), names(again:named_parameters()))
    assert.are.equal("data", again.note)
    assert.are.same(spec, again:to_spec())
    again:load_state_dict(m:state_dict())
    local x = ai.randn(2, 4)
    assert.are.same(numbers(m(x)), numbers(again(x)))
  end)

  it("of nested containers goes there and back", function()
    local spec = {type = "sequential", layers = {
      {type = "LINEAR", 5}, {type = "ReLU"},
      {type = "TimeDistributed", module = {type = "Linear", out_features = 3, bias = false}},
      {type = "Dropout", args = 0.25},
    }}
    local once = nn.from_spec(spec):to_spec()
    assert.are.same(once, nn.from_spec(once):to_spec())
    assert.are.equal(0.25, once.layers[4].p)
    assert.are.equal(5, once.layers[1].out_features)
  end)

  it("and a state may be kept in files", function()
    local structure, weights = os.tmpname() .. ".json", os.tmpname() .. ".safetensors"
    local m = nn.Sequential{nn.Linear(3, 4, {bias = false}), nn.LayerNorm(4), nn.TimeDistributed(nn.Linear(4, 2))}
    ai.save(m:to_spec(), structure)
    ai.save(m:state_dict(), weights)
    local again = nn.from_spec(structure):load_state_dict(ai.load(weights))
    os.remove(structure)
    os.remove(weights)
    assert.are.equal(tostring(m), tostring(again))
    assert.are.same(numbers(m[1].weight), numbers(again[1].weight))
  end)

  it("keeps a dtype", function()
    assert.are.equal("f64", nn.from_spec(nn.Linear(2, 2):double():to_spec()).weight.dtype)
  end)

  it("with an unknown type is an error that guesses", function()
    local ok, message = pcall(nn.from_spec, {type = "Lineer", 5})
    assert.is_false(ok)
    assert.matches("did you mean 'Linear'", message)
  end)

  it("cannot hold a function", function()
    assert.has_error(function() nn.Sequential{function(x) return x end}:to_spec() end)
  end)
end)

describe("bad arguments of services", function()
  local net = nn.Sequential{nn.Linear(3, 2), nn.ReLU()}

  it("are errors at the line of the program, and change nothing", function()
    local before = net[1].weight:detach():clone()
    net[1].weight.grad = ai.ones(2, 3)
    for text, call in pairs{
      ["clip_grad_norm: a largest norm, a number from 0 up, is wanted, got nil"] = function() net:clip_grad_norm() end,
      ["clip_grad_norm: a norm_type above 0 is wanted, got %-1"] = function() net:clip_grad_norm(1, {norm_type = -1}) end,
      ["clip_grad_norm: no option but norm_type is wanted, got \"norm\""] = function() net:clip_grad_norm(1, {norm = 2}) end,
      ["clip_grad_value: a largest value, a number from 0 up, is wanted, got \"a\""] = function() net:clip_grad_value "a" end,
      ["soft_update: tau is 2; a number between 0 and 1"] = function() net:soft_update(net, 2) end,
      ["soft_update: another model is wanted, got 3"] = function() net:soft_update(3, 0.5) end,
      ["hard_update: another model is wanted, got nil"] = function() net:hard_update() end,
      ["copy_to: another model is wanted, got a table"] = function() net:copy_to{} end,
      ["share: another model is wanted, got nil"] = function() net:share() end,
      ["apply: a function of a module is wanted, got a number"] = function() net:apply(3) end,
      ["train: true or false is wanted, got a string"] = function() net:train "x" end,
      ["a hook is a function, got a number"] = function() net:register_forward_hook(3) end,
      ["load_state_dict: there is no option 'stric'"] = function() net:load_state_dict(net:state_dict(), {stric = false}) end,
      ["infer: the sizes of an input are wanted"] = function() net:infer() end,
      ["requires_grad_: true or false is wanted, got 3"] = function() net:requires_grad_(3) end,
      ["register_buffer: a number cannot be a name"] = function() net:register_buffer(3, before) end,
      ["register_buffer: \"a.b\" cannot be a name"] = function() net:register_buffer("a.b", before) end,
      ["register_parameter: 'eval' is a method"] = function() net:register_parameter("eval", before) end,
      ["register_parameter: 'a' is a string, not a tensor"] = function() net:register_parameter("a", "b") end,
    } do
      local message = message_of(call)
      assert.matches(text, message)
      assert.matches("module_spec%.lua", message)
    end
    assert.is_true(net[1].weight:equal(before):item() and net.training and net[1].weight.requires_grad)
    assert.are.equal(1, net[1].weight.grad:max():item())
  end)
end)
