--- First values anew, models in files with their structure, parameters in a row; activations and norms by name.

local ai = require "aijit"
local nn = ai.nn

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local function temporary() return os.tmpname() end

describe("init", function()
  it("gives every layer its first values anew, and a module's own init_params comes first", function()
    local net = nn.Sequential{nn.Linear(50, 40), nn.BatchNorm1d(40), nn.PReLU(40)}
    ai.no_grad(function() for _, p in ipairs(net:parameters()) do p:fill_(9) end end)
    local own = nn.Linear(3, 2)
    function own:init_params() nn.init.constant_(self.weight, 5) end
    net:append(own)
    assert.are.equal(net, net:init())
    assert.is_true(net[1].weight:abs():max():item() <= 1 / math.sqrt(50))
    assert.are.equal(1, net[2].weight:min():item())
    assert.are.equal(0.25, net[3].weight:max():item())
    assert.are.equal(5, own.weight:min():item())
  end)

  it("waits with layers that wait for their sizes", function()
    local late = nn.Linear(2, {bias = false})
    function late:init_params() nn.init.constant_(self.weight, 5) end
    local net = nn.Sequential{nn.Linear(4), late}:init()
    net(ai.ones(1, 3))
    assert.are.equal(5, late.weight:max():item())
    assert.is_true(net[1].weight:abs():max():item() <= 1 / math.sqrt(3))
  end)

  it("of a path takes the values there", function()
    local path = temporary()
    local a, b = nn.Linear(3, 2), nn.Linear(3, 2)
    a:save(path .. ".safetensors")
    b:init(path)
    assert.is_true(a.weight:equal(b.weight):item() and a.bias:equal(b.bias):item())
    assert.matches("does not fit Linear", message_of(function() nn.Linear(3, 3):init(path) end))
    assert.matches("init: path is 3; the name of a file is wanted", message_of(b.init, b, 3))
    assert.matches('save: path is ""', message_of(b.save, b, ""))
    os.remove(path .. ".safetensors")
    assert.is_false((pcall(b.init, b, path .. ".safetensors")))
    os.remove(path)
  end)
end)

describe("save and nn.load", function()
  it("keep the structure with the values, containers, graphs and dtypes too", function()
    local path = temporary()
    local x = nn.Placeholder{2, 3}
    local h = nn.Linear(4)(x)
    local graph = nn.Functional{inputs = x, outputs = nn.Linear(2)(h + nn.Tanh()(h))}
    local several = {nn.Sequential{nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)}:eval(), nn.LSTM(3, 4, {num_layers = 2}), graph,
                     nn.Linear(3, 2, {dtype = "f64"})}
    for _, net in ipairs(several) do
      net:save(path)
      net:save(path .. ".safetensors")
      local again = nn.load(path .. ".safetensors"):eval()
      local input = ai.randn(2, 3):to(net:parameters()[1].dtype)
      assert.is_true((again(input)):equal((net(input))):item())
    end
    os.remove(path .. ".safetensors")
    os.remove(path)
  end)

  it("of what no spec holds keeps the values, and says so", function()
    local path = temporary() .. ".safetensors"
    local net = nn.Sequential{nn.Linear(3, 2), function(x) return x * 2 end}
    net:save(path)
    assert.matches("holds values and no structure", message_of(nn.load, path))
    local other = nn.Sequential{nn.Linear(3, 2), function(x) return x * 2 end}:init(path)
    assert.is_true(other[1].weight:equal(net[1].weight):item())
    os.remove(path)
  end)
end)

describe("parameters in a row", function()
  it("go out and come back", function()
    local net = nn.Linear(3, 2)
    local row = nn.parameters_to_vector(net:parameters())
    assert.are.same({8}, row.shape)
    nn.vector_to_parameters(row:detach() * 2, net:parameters())
    assert.is_true(nn.parameters_to_vector(net:parameters()):equal(row * 2):item())
    assert.matches("a row of 8 elements is wanted, got %(7%)", message_of(nn.vector_to_parameters, ai.ones(7), net:parameters()))
    assert.matches("a list of one tensor or more", message_of(nn.parameters_to_vector, {}))
  end)

  it("copy_to is copy_from the other way", function()
    local a, b = nn.Linear(3, 2), nn.Linear(3, 2)
    assert.are.equal(a, a:copy_to(b))
    assert.is_true(a.weight:equal(b.weight):item())
    assert.matches("the models differ", message_of(a.copy_to, a, nn.Linear(3, 2, {bias = false})))
  end)
end)

describe("by name", function()
  local x = ai.randn(2, 4, 3, 3)

  it("activations are found, however they are written", function()
    for name, layer in pairs{relu = nn.ReLU(), swish = nn.SiLU(), SiLU = nn.SiLU(), gelu_quick = nn.QuickGELU(), gelu_fast = nn.GELUTanh(),
                             leaky_relu = nn.LeakyReLU(), hard_swish = nn.Hardswish(), log_sigmoid = nn.LogSigmoid(), relu_squared = nn.ReLUSquared(),
                             tanh_shrink = nn.Tanhshrink(), no_act = nn.Identity(), relu6 = nn.ReLU6(), clamp6 = nn.Clamp(6), laplace = nn.Laplace(),
                             soft_shrink = nn.Softshrink(), celu = nn.CELU(), mish = nn.Mish()} do
      assert.are.equal(tostring(layer), tostring(nn.activation(name)))
      assert.is_true(nn.activation(name)(x):equal(layer(x)):item(), name)
    end
    assert.are.equal("nn.ELU({alpha = 2})", tostring(nn.activation("elu", {alpha = 2})))
    assert.matches("no activation 'rel': did you mean", message_of(nn.activation, "rel"))
    assert.matches("no activation 'nil'", message_of(nn.activation))
  end)

  it("norms are found, with their weights or without", function()
    for name, parameters in pairs{no_norm = 0, batch = 0, batch_affine = 8, instance = 0, instance_affine = 8, group = 0, group_affine = 8,
                                  layer = 0, layer_affine = 8} do
      local norm = nn.norm(name, 2, {groups = 2})
      assert.are.same(x.shape, norm(x).shape)
      assert.are.equal(parameters, nn.Module.num_parameters(norm), name)
    end
    assert.are.same({4}, {nn.norm("layer_affine", 0, {channels = 4}).weight:size(1)})
    assert.matches("no norm 'bach': did you mean 'batch'", message_of(nn.norm, "bach"))
    assert.matches("wants a number of groups", message_of(nn.norm, "group", 2))
    assert.matches("no option 'chanels'", message_of(nn.norm, "batch", 2, {chanels = 3}))
    assert.matches("spatial dimensions, 0 to 3", message_of(nn.norm, "batch", 4))
  end)
end)

it("what a recurrent layer returns is picked apart", function()
  local rnn = nn.LSTM(3, 4)
  local y, state = rnn(ai.randn(5, 2, 3))
  assert.is_true(nn.GetRNNOutput()(y, state):equal(y):item())
  assert.are.same({2, 4}, nn.GetRNNOutput{last = true}(y, state).shape)
  assert.is_true(nn.GetRNNState "c"(y, state):equal(state[2]):item())
  assert.are.same({1, 2, 8}, nn.GetRNNState "concat"(rnn(ai.randn(5, 2, 3))).shape)
  assert.matches("there is no state", message_of(nn.GetRNNState "h", y))
  assert.matches("this layer has no c", message_of(nn.GetRNNState "c", nn.GRU(3, 4)(ai.randn(5, 2, 3))))
  assert.matches("part is 7", message_of(nn.GetRNNState, 7))
end)
