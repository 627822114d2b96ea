--- The programs that the documentation shows, run as they are written.

local ai = require "aijit"

local function quietly(f)
  local real, lines = print, {}
  local env = setmetatable({print = function(...)
    local parts = {}
    for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
    lines[#lines + 1] = table.concat(parts, "\t")
  end}, {__index = _G})
  setfenv(f, env)
  f()
  assert.are.equal(real, print)
  return table.concat(lines, "\n")
end

it("tensors, gradients, scopes", function()
  local text = quietly(function()
    local a = ai.tensor{{1, 2}, {3, 4}}                 -- f32 on the device in scope
    local b = ai.randn(2, 2, {dtype = "f64", device = "cpu", requires_grad = true})
    print(a, #a, a:size(1), a:size(-1), a.dtype, a.device, a.shape)
    print(a[1], a[{1, 2}], a[{{}, {1, 1}}], a[a:gt(2)])
    a[{1, {}}] = 0
    local c = (a * 2 + a ^ 2):matmul(a:t()):sum(2, {keepdim = true}):log_()
    local n = c:max():item()

    local w = ai.randn(3, {requires_grad = true})
    local loss = (w * w):sum()
    loss:backward()
    print(w.grad)
    local loss2 = (w * w * w):sum()
    local g = ai.grad(loss2, {w}, {create_graph = true})
    ai.no_grad(function() w:add_(w.grad, {alpha = -0.1}) end)

    local best = ai.scope(function() return (a * 3):max() end)
    print(ai.memory())
    ai.manual_seed(1)
    assert(b.dtype == "f64" and b.requires_grad and n > 0 and g[1].requires_grad and best:item() == 12)
  end)
  assert.is_truthy(text:find("[f32 2x2 cpu]", 1, true))
  assert.is_truthy(text:find("[[1.],\n [3.]]", 1, true))
  assert.is_truthy(text:find("[3., 4.]", 1, true))
end)

it("ops as functions and methods, options last", function()
  local x, weight, bias = ai.randn(2, 3, 8, 8), ai.randn(4, 3, 3, 3), ai.randn(4)
  local y = ai.f.conv2d(x, weight, bias, {stride = 1, padding = 0, dilation = 1, groups = 1})
  assert.are.same({2, 4, 6, 6}, y.shape)
  assert.are.same({2, 3, 1, 1}, x:mean({3, 4}, {keepdim = true}).shape)
  local values, indices = x:max(2)
  assert.are.same({2, 8, 8}, values.shape)
  assert.are.equal("i64", indices.dtype)
  assert.are.same({}, x:sum().shape)
  assert.is_truthy(ai.cross_entropy(ai.randn(4, 10), ai.tensor({1, 10, 3, 4}, {dtype = "i64"})):item() > 0)
  assert.are.same({2, 192}, x:reshape(2, -1).shape)
  assert.are.same({2, 192}, x:reshape{2, -1}.shape)
  assert.are.same(ai.zeros(2, 3):totable(), ai.zeros({2, 3}):totable())
end)

it("classes with sizes given and left out", function()
  local nn = ai.nn
  local text = quietly(function()
    local net = nn.Sequential{
      nn.Conv2d(1, 32, 3, {padding = 1}), nn.BatchNorm2d(32), nn.ReLU(),     -- given
      nn.Conv2d(64, {kernel_size = 3, padding = 1}), nn.BatchNorm2d(), nn.ReLU(), nn.MaxPool2d(2),   -- inferred
      nn.Flatten(), nn.Linear(10),
    }
    local y = net(ai.randn(8, 1, 28, 28))
    print(net)
    assert(y:size(2) == 10)

    local MyModel = ai.class("MyModel", nn.Module)
    function MyModel:__init() nn.Module.__init(self); self.fc1 = nn.Linear(10, 20); self.fc2 = nn.Linear(20, 30) end
    function MyModel:forward(x) return self.fc2(self.fc1(x)) end

    local m, target = MyModel(), MyModel()
    m:train() m:eval() m:freeze() m:unfreeze()
    m(ai.randn(2, 10)):sum():backward()
    m:clip_grad_value(1.0) m:clip_grad_norm(1.0) m:soft_update(target, 0.01) m:hard_update(target)
    for name, p in m:named_parameters() do print(name, p.shape) end
    local path = os.tmpname() .. ".safetensors"
    ai.save(m:state_dict(), path); m:load_state_dict(ai.load(path))
    os.remove(path)
  end)
  assert.is_truthy(text:find("Conv2d(32, 64", 1, true) or text:find("Conv2d", 1, true))
  assert.is_truthy(text:find("fc1.weight", 1, true))
end)

it("factories: three ways to the same model", function()
  local m = require "aijit.model"

  local FullyConnected = ai.class("FullyConnected", m.Model)
  function FullyConnected:__init(o)
    o = o or {}
    local shape_in, n_out, dim, n_layers = o.shape_in or {1, 28, 28}, o.n_out or 10, o.dim or 128, o.n_layers or 4
    m.Model.__init(self, m.seq{
      m.flatten(),
      m.fc(ai.prod(shape_in), dim, {actv = "relu"}),
      m.rep(n_layers, m.fc(dim, dim, {actv = "relu"})),
      m.fc(dim, n_out),
    })
  end
  local model = FullyConnected():init()               -- random parameters
  assert.are.same({2, 10}, model(ai.randn(2, 1, 28, 28)).shape)

  local One = ai.class("One", m.Model); function One:__init() m.Model.__init(self, m.seq{m.flatten(), m.fc(8, 8)}) end
  local Two = ai.class("Two", m.Model); function Two:__init() m.Model.__init(self); self.net = m.fc(8, 8) end
  function Two:forward(x) return self.net(m.f.flatten(x)) end
  local three = m.Model(m.seq{m.flatten(), m.fc(8, 8)})
  for _, way in ipairs {One(), Two(), three} do
    assert.are.same({3, 8}, way:init()(ai.randn(3, 2, 4)).shape)
  end
end)

it("data and configs", function()
  local data = ai.data
  local Mine = ai.class("Mine", data.Dataset)
  function Mine:size() return 42 end
  function Mine:get(index) return {foo = {1, 2, 3}}, {bar = {3, 2, 1}, baz = {4, 5, 6 + 0 * index}} end
  function Mine:version() return 1 end
  local ds = data.Transformed(Mine(), {transformer = function(features, labels) return features, labels end})
  local n = 0
  for features, labels in data.Loader(ds, {batch_size = 8, shuffle = true}) do
    n = n + features.foo:size(1)
    assert.are.same(features.foo:size(1), labels.baz:size(1))
  end
  assert.are.equal(42, n)

  local MyConfig = ai.Config.extend("MyConfig", {train = {batch_size = ai.required()}, arch = {model = ai.required()}})
  local ok, message = pcall(function() MyConfig{}:check_completeness() end)
  assert.is_false(ok)
  assert.is_truthy(message:find("train.batch_size", 1, true) and message:find("arch.model", 1, true))
  MyConfig{train = {batch_size = 8}, arch = {model = "cnn"}}:check_completeness()
end)
