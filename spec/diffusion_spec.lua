--- Schedules of noise, solvers, Gaussian diffusion and consistency models.

local ai = require "aijit"
local m = require "aijit.model"
local nn = ai.nn

local message_of = require "spec.support.raises"

describe("beta_schedule", function()
  local function list(...) return nn.beta_schedule(...):totable() end

  it("has the kinds that papers use", function()
    local function near(wanted, got) for i, v in ipairs(wanted) do assert.is_near(v, got[i], 1e-6) end assert.are.equal(#wanted, #got) end
    near({0.1, 0.2, 0.3}, list("linear", 3, {beta_start = 0.1, beta_end = 0.3}))
    near({0.01, 0.0625, 0.16}, list("quad", 3, {beta_start = 0.01, beta_end = 0.16}))
    near({0.1, 0.3, 0.3, 0.3}, list("warmup", 4, {beta_start = 0.1, beta_end = 0.3, warmup = 0.5}))
    near({0.3, 0.3}, list("const", 2, {beta_end = 0.3}))
    near({1 / 3, 1 / 2, 1}, list("jsd", 3))
    local left = 1
    for i, beta in ipairs(list("cosine", 10)) do
      left = left * (1 - beta)
      local function part(t) return math.cos((t / 10 + 0.008) / 1.008 * math.pi / 2) ^ 2 end
      if i < 10 then assert.is_near(part(i) / part(0), left, 1e-6) end
    end
    assert.are.equal(1, #list("linear", 1))
  end)

  it("refuses others, with the nearest name, and variances that are none", function()
    assert.matches("kind is \"cosin\".*did you mean 'cosine'", message_of(nn.beta_schedule, "cosin", 4))
    assert.matches("n is 0; a whole number from 1", message_of(nn.beta_schedule, "linear", 0))
    assert.matches("no argument 'beta_stat': did you mean 'beta_start'", message_of(nn.beta_schedule, "linear", 4, {beta_stat = 1}))
    assert.matches("beta_end is 2; a number above 0, at most 1", message_of(nn.beta_schedule, "linear", 4, {beta_end = 2}))
  end)

  it("serves DiffusionModel too", function()
    local model = m.DiffusionModel({2}, {n_timesteps = 20, schedule = "warmup"})
    assert.is_true(model.betas:equal(nn.beta_schedule("warmup", 20)):item())
    assert.matches("the variance of step 5 is 1, not between 0 and 1", message_of(m.DiffusionModel, {2}, {n_timesteps = 5, schedule = "jsd"}))
  end)
end)

describe("ode_solver", function()
  it("has errors of the order of its name", function()
    for name, order in pairs{euler = 1, heun = 2, rk4 = 4} do
      local step = nn.ode_solver(name)
      local function off(n)
        local x = ai.tensor({1}, {dtype = "f64"})
        for i = 1, n do x = step(x, (i - 1) / n, i / n, function(y, t) return y * (-2 * t) end) end
        return math.abs(x:item() - math.exp(-1))
      end
      assert.is_near(order, math.log(off(20) / off(40)) / math.log(2), 0.15, name)
    end
    assert.matches("name is \"rk\".*did you mean 'rk4'", message_of(nn.ode_solver, "rk"))
  end)
end)

--- What the best network says of data N(2, 0.5^2) in a diffusion.
local function ideal(diffusion)
  local left = diffusion.signal:double():square()
  return function(x, t)
    local low = t:floor():long()
    local a, b = left:index_select(1, low + 1), left:index_select(1, (low + 2):clamp(1, #left))
    a = (a * (b / a) ^ (t:double() - low:double())):to(x.dtype):unsqueeze(2)
    local data = (x * a:sqrt() * 0.25 + (1 - a) * 2) / (a * 0.25 + (1 - a))
    if diffusion.pred_mode == "pred_x_0" then return data end
    local noise = (x - a:sqrt() * data) / (1 - a):sqrt()
    return diffusion.pred_mode == "pred_eps" and noise or a:sqrt() * noise - (1 - a):sqrt() * data
  end
end

describe("GaussianDiffusion", function()
  it("samples the data's distribution, whatever is predicted, by every solver", function()
    for _, o in ipairs{
      {pred_mode = "pred_x_0"}, {pred_mode = "pred_eps", solver = "heun"}, {pred_mode = "pred_v", solver = "rk4", beta_schedule = "cosine"},
      {beta_schedule = "jsd", sigma_type = "lower_bound"},
    } do
      ai.manual_seed(0)
      o.num_beta_steps = o.beta_schedule and 100 or 1000
      local diffusion = nn.GaussianDiffusion(o)
      local y = diffusion:sample(ideal(diffusion), {3000, 1}, {steps = 60})
      assert.is_near(2, y:mean():item(), 0.04)
      assert.is_near(0.5, y:std():item(), o.sigma_type and 0.06 or 0.03)
    end
  end)

  it("steps back as DiffusionModel does", function()
    local diffusion = nn.GaussianDiffusion{num_beta_steps = 50, pred_mode = "pred_eps", sigma_type = "lower_bound"}
    local Model = ai.class("DiffusionSpecModel", m.DiffusionModel)
    local fc = nn.Linear(2, 2)
    function Model:forward(x) return fc(x) end
    local model = Model({2})
    ai.manual_seed(7)
    local a = model:sample(5)
    ai.manual_seed(7)
    local b = diffusion:sample(function(x) return fc(x) end, {5, 2})
    assert.is_true((a - b):abs():max():item() < 1e-4 * a:abs():max():item())
  end)

  it("gives all steps, the samples first, and restores the network's mode", function()
    local diffusion, net = nn.GaussianDiffusion{num_beta_steps = 10}, nn.Linear(3, 3)
    local Net = ai.class("DiffusionSpecNet", nn.Module)
    function Net:__init() self.fc = net end
    function Net:forward(x, t)
      assert.is_false(self.training)
      assert.are.same({"i64", 4}, {t.dtype, t:size(1)})
      return self.fc(x)
    end
    local model = Net()
    local x, all = diffusion:sample(model, {4, 3}, {steps = 5, all = true})
    assert.are.same({6, 4, 3}, {unpack(all.shape)})
    assert.is_true(all[1]:equal(x):item())
    assert.is_true(model.training)
    assert.is_false(x.requires_grad)
    assert.is_nil((select(2, diffusion:sample(model, {4, 3}))))
  end)

  it("changes a sample by as much of the way as is asked for", function()
    ai.manual_seed(0)
    local diffusion = nn.GaussianDiffusion{num_beta_steps = 200}
    local reference = ai.full({2000, 1}, 2.8)
    local net = ideal(diffusion)
    assert.is_true(diffusion:partial_sample(net, reference, 1):equal(reference):item())
    local near, far = diffusion:partial_sample(net, reference, 0.9), diffusion:partial_sample(net, reference, 0)
    assert.is_near(2.8, near:mean():item(), 0.15)
    assert.is_near(2, far:mean():item(), 0.15)
    assert.is_true(near:std():item() < 0.3 and far:std():item() > 0.4)
    assert.are.same({11, 2000, 1}, {unpack((select(2, diffusion:partial_sample(net, reference, 0.5, {steps = 20, all = true}))).shape)})
  end)

  it("trains: the losses fall, and the best network's is that of what cannot be known", function()
    ai.manual_seed(0)
    local diffusion = nn.GaussianDiffusion{num_beta_steps = 100, pred_mode = "pred_eps"}
    local data = ai.randn(4096, 1) * 0.5 + 2
    local best = diffusion:loss(ideal(diffusion), data):item()
    assert.is_true(best < diffusion:loss(function(x) return x * 0 end, data):item())
    local Net = ai.class("DiffusionSpecTrained", nn.Module)
    function Net:__init() self.net = nn.Sequential{nn.Linear(7, 32), nn.SiLU(), nn.Linear(32, 1)} self.time = nn.FourierEmbeddings(6) end
    function Net:forward(x, t) return self.net(ai.cat({x, self.time(t)}, 2)) end
    local net = Net()
    local optimizer = ai.optim.Adam(net:parameters(), {lr = 0.01})
    for _ = 1, 200 do
      optimizer:zero_grad()
      diffusion:loss(net, data:narrow(1, 1, 512)):backward()
      optimizer:step()
    end
    assert.is_true(diffusion:loss(net, data):item() < best * 1.2 + 0.05)
  end)

  it("takes losses by name or as functions, reduced or not", function()
    local diffusion, x, t = nn.GaussianDiffusion{num_beta_steps = 10, loss = "l1"}, ai.randn(3, 2, 2), ai.tensor({1, 5, 10}, {dtype = "i64"})
    local function zero(y) return y * 0 end
    assert.is_near(x:abs():mean():item(), diffusion:loss(zero, x, {t = t}):item(), 1e-6)
    assert.is_near(x:square():mean():item(), diffusion(zero, x, {loss = "mse"}):item(), 1e-6)
    assert.are.same({3}, {unpack(diffusion:loss(zero, x, {loss = "pseudo_huber", reduction = "none"}).shape)})
    assert.are.same({3, 2, 2}, {unpack(diffusion:loss(zero, x, {loss = function(a, b) return a - b end, reduction = "none"}).shape)})
  end)

  it("moves, and goes through a spec", function()
    local diffusion = nn.GaussianDiffusion{num_beta_steps = 10, beta_schedule = "cosine", pred_mode = "pred_v"}
    local again = nn.from_spec(ai.json.decode(ai.json.encode(diffusion:to_spec())))
    assert.are.equal(tostring(diffusion), tostring(again))
    assert.is_true(diffusion.signal:equal(again.signal):item())
    assert.are.same({}, diffusion:state_dict())
    assert.are.equal("f64", diffusion:to("f64"):sample(function(x) return x end, {2, 2}).dtype)
  end)

  it("refuses what it cannot take", function()
    local diffusion, x = nn.GaussianDiffusion{num_beta_steps = 10}, ai.randn(2, 2)
    local function net(y) return y end
    assert.matches("pred_mode is \"pred_x0\".*did you mean 'pred_x_0'", message_of(nn.GaussianDiffusion, {pred_mode = "pred_x0"}))
    assert.matches("leaves nothing of the data", message_of(nn.GaussianDiffusion, {pred_mode = "pred_eps", beta_schedule = "jsd"}))
    assert.matches('loss is "mae"; "mse", "l1", "pseudo_huber" or a function', message_of(nn.GaussianDiffusion, {loss = "mae"}))
    assert.matches("model is 3; a function", message_of(diffusion.loss, diffusion, 3, x))
    assert.matches("x is %(2%) of i64; samples of floats", message_of(diffusion.loss, diffusion, net, ai.tensor({1, 2}, {dtype = "i64"})))
    assert.matches("steps is 11; the diffusion has 10", message_of(diffusion.sample, diffusion, net, {2, 2}, {steps = 11}))
    assert.matches("shape is 3; a list of whole numbers from 1", message_of(diffusion.sample, diffusion, net, 3))
    assert.matches("start is 2; a probability", message_of(diffusion.partial_sample, diffusion, net, x, 2))
    assert.matches("t is %(2%) of f32; integers from 1 to 10, %(2%)", message_of(diffusion.noisify, diffusion, x, ai.ones(2), x))
    assert.matches("no argument 'step': did you mean 'steps'", message_of(diffusion.sample, diffusion, net, {2, 2}, {step = 3}))
  end)
end)

describe("ConsistencyModel", function()
  --- The data in noise, for data N(1, 0.5^2), as a network says it through c_skip and c_out.
  local function best(model)
    return function(scaled, t)
      local sigma = (t / 250):exp()
      local s, size = sigma:unsqueeze(2), (sigma:square() + 0.25):sqrt():unsqueeze(2)
      local x = scaled * size
      -- Along the flow of the noise a sample keeps its place among the others.
      local data = 1 + (x - 1) * math.sqrt(0.25 + model.sigma_min ^ 2) / (s:square() + 0.25):sqrt()
      local over = s - model.sigma_min
      return (data - x * 0.25 / (over:square() + 0.25)) / (over:clamp(1e-6) * 0.5 / size)
    end
  end

  it("has amounts of noise that are spaced by rho, and ever more of them", function()
    local model = nn.ConsistencyModel{total_steps = 700, start_scales = 10, end_scales = 160}
    assert.is_near(80, model:sigma(0), 1e-9)
    assert.are.equal(0.002, model:sigma(1))
    assert.is_near(((80 ^ (1 / 7) + 0.002 ^ (1 / 7)) / 2) ^ 7, model:sigma(0.5), 1e-9)
    local counts = {}
    for i, step in ipairs{0, 139, 140, 280, 420, 560, 700, 9999} do counts[i] = model:num_scales(step) end
    assert.are.same({11, 11, 21, 41, 81, 161, 161, 161}, counts)
    assert.are.equal(1281, nn.ConsistencyModel():num_scales(0))
  end)

  it("leaves the data as it is at the least noise", function()
    local model, x = nn.ConsistencyModel(), ai.randn(3, 4)
    assert.is_true((model:denoise(function(y) return y * 7 end, x, ai.full({3}, 0.002)) - x):abs():max():item() < 1e-6)
  end)

  it("samples in one step or a few, and near a reference", function()
    ai.manual_seed(0)
    local model = nn.ConsistencyModel()
    local net = best(model)
    for _, n in ipairs{1, 3} do
      local y, all = model:sample(net, {4000, 1}, {num_steps = n, all = true})
      assert.is_near(1, y:mean():item(), 0.05)
      assert.is_near(0.5, y:std():item(), 0.05)
      assert.are.same({n + 1, 4000, 1}, {unpack(all.shape)})
      assert.is_true(all[1]:equal(y):item())
    end
    local near = model:partial_sample(net, ai.full({500, 1}, 1.4), 1)
    assert.is_near(1.4, near:mean():item(), 0.01)
  end)

  it("trains: the best network's loss is small, a gradient flows from the noisier side alone, dropout is the same on both", function()
    ai.manual_seed(0)
    local model, x = nn.ConsistencyModel{total_steps = 100, start_scales = 10, end_scales = 40}, ai.randn(256, 1) * 0.5 + 1
    local function mse(net) return model:loss(net, x, 100, {loss = "mse"}):item() end
    assert.is_true(mse(best(model)) < 0.5 * mse(function(y) return y * 0 end))
    local net = nn.Sequential{nn.Dropout(0.5), nn.Linear(1, 1)}
    local function run(y) return net(y) end
    local loss = model:loss(run, x, 0)
    loss:backward()
    assert.is_truthy(net[2].weight.grad)
    local masks = {}
    model:loss(function(y)
      masks[#masks + 1] = nn.Dropout(0.5)(ai.ones(y.shape))
      return y
    end, x, 3, {loss = "mse"})
    assert.are.equal(2, #masks)
    assert.is_true(masks[1]:equal(masks[2]):item())
    assert.are.same({256}, {unpack(model(run, x, 0, {reduction = "none"}).shape)})
  end)

  it("refuses what it cannot take", function()
    assert.matches("sigma_min is 3, not below sigma_max, which is 2", message_of(nn.ConsistencyModel, {sigma_min = 3, sigma_max = 2}))
    assert.matches("start_scales is 9, above end_scales", message_of(nn.ConsistencyModel, {start_scales = 9, end_scales = 8}))
    local model = nn.ConsistencyModel()
    assert.matches("step is nil; a whole number from 0", message_of(model.loss, model, function() end, ai.randn(2, 2)))
    assert.matches("num_steps is 0; a whole number from 1", message_of(model.sample, model, function() end, {2}, {num_steps = 0}))
    assert.matches("sigma is 3; a tensor", message_of(model.denoise, model, function() end, ai.randn(2, 2), 3))
  end)
end)
