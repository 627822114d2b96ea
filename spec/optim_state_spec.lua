-- What an optimizer keeps: through files and back to the last bit; parameters of half precision; groups; train and eval.

local ai = require "aijit"
local pack = require "aijit.data.pack"
local process = require "support.process"
local nn, optim = ai.nn, ai.optim

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local function set_gradients(params, t)
  for k, p in ipairs(params) do
    p.grad = (p:detach():to "f32" * 0.5 + ai.arange(1, p:numel()):float():reshape(p.shape):add(t + k):sin()):to(p.dtype)
  end
end

local function bits(params)
  local list = {}
  for i, p in ipairs(params) do list[i] = p:detach():reshape(-1):totable() end
  return list
end

local all = {
  SGD = {lr = 0.1, momentum = 0.9, dampening = 0.1}, Adam = {lr = 0.1, amsgrad = true}, AdamW = {lr = 0.1}, Adamax = {lr = 0.1},
  NAdam = {lr = 0.1}, RAdam = {lr = 0.1}, RMSprop = {lr = 0.01, centered = true, momentum = 0.5, eps = 1e-3}, Adagrad = {lr = 0.1},
  Adadelta = {lr = 0.5}, Rprop = {lr = 0.01}, Lion = {lr = 0.01}, Adan = {lr = 0.01}, LAMB = {lr = 0.01}, Muon = {lr = 0.01},
  ScheduleFreeAdamW = {lr = 0.1, warmup_steps = 4},
}

describe("a state saved in files and loaded goes on to the same bits:", function()
  local folder
  before_each(function() folder = process.folder() end)
  after_each(function() os.execute("rm -r " .. folder) end)

  for name, options in pairs(all) do
    for _, dtype in ipairs{"f32", "f64", "bf16"} do
      it(name .. ", " .. dtype, function()
        ai.manual_seed(7)
        local a = {nn.Parameter(ai.randn(3, 4):to(dtype)), nn.Parameter(ai.randn(5):to(dtype)), nn.Parameter(ai.ones(2):to(dtype))}
        local untouched = a[3]
        a[3] = nil
        local first = optim[name]({a[1], a[2], untouched}, options)
        for t = 1, 6 do set_gradients(a, t) first:step() end
        local tensors = {}
        local rest = pack.split(first:state_dict(), "", tensors)
        ai.save(tensors, folder .. "/state.safetensors")
        local text = ai.json.encode(rest)
        local b = {}
        for i, p in ipairs(a) do b[i] = nn.Parameter(p:detach():clone()) end
        local second = optim[name]({b[1], b[2], nn.Parameter(untouched:detach():clone())}, {lr = 123})
        second:load_state_dict(pack.join(ai.json.decode(text), ai.load(folder .. "/state.safetensors")))
        assert.are.equal(options.lr, second.param_groups[1].lr)
        for t = 7, 12 do
          set_gradients(a, t)
          set_gradients(b, t)
          first:step()
          second:step()
          assert.are.same(bits(a), bits(b))
        end
      end)
    end
  end
end)

describe("a parameter in bf16 or f16", function()
  it("moves by steps smaller than its own precision, in the f32 copy that the state keeps", function()
    for _, dtype in ipairs{"bf16", "f16"} do
      local p = nn.Parameter(ai.ones(1000):to(dtype))
      local opt = optim.SGD({p}, {lr = 1e-4})
      for _ = 1, 200 do
        p.grad = ai.ones(1000):to(dtype)
        opt:step()
      end
      -- 200 times 1e-4, where half of the last place of 1 is 2^-8 or 2^-11.
      assert.is_near(0.98, p:detach():float():mean():item(), dtype == "bf16" and 2 ^ -8 or 2 ^ -11)
      assert.is_near(0.98, opt:state_dict().state[1].master:mean():item(), 1e-5)
    end
  end)

  it("follows the same path as in f32, rounded", function()
    for name, options in pairs(all) do
      ai.manual_seed(5)
      local start = ai.randn(4, 40):bf16()
      local half, full = nn.Parameter(start:clone()), nn.Parameter(start:float())
      local a, b = optim[name]({half}, options), optim[name]({full}, options)
      for t = 1, 5 do
        local g = ai.randn(4, 40):add(t):bf16()
        half.grad, full.grad = g, g:float()
        a:step()
        b:step()
      end
      assert.are.same(full:detach():bf16():float():totable(), half:detach():float():totable(), name)
      assert.are.equal("f32", a:state_dict().state[1].master.dtype)
    end
  end)

  it("takes what somebody else writes into it", function()
    local p = nn.Parameter(ai.ones(3):bf16())
    local opt = optim.SGD({p}, {lr = 0.5})
    p.grad = ai.ones(3):bf16()
    opt:step()
    ai.no_grad(function() p:fill_(8) end)
    opt:step()
    assert.are.same({7.5, 7.5, 7.5}, p:detach():float():totable())
  end)

  it("is clipped as any other", function()
    local p = nn.Parameter(ai.zeros(2):bf16())
    p.grad = ai.tensor{3, 4}:bf16()
    assert.are.equal(5, optim.clip_grad_norm({p}, 2.5))
    assert.are.same({1.5, 2}, p.grad:float():totable())
    optim.clip_grad_value({p}, 1.75)
    assert.are.same({1.5, 1.75}, p.grad:float():totable())
  end)
end)

describe("strided parameters and gradients", function()
  it("move as dense ones do, in every optimizer", function()
    for name, options in pairs(all) do
      ai.manual_seed(9)
      local start, grad = ai.randn(30, 7), ai.randn(30, 7)
      local dense = nn.Parameter(start:clone())
      local turned = start:t():contiguous():t():detach():requires_grad_(true)
      assert.is_false(turned:is_contiguous())
      local a, b = optim[name]({dense}, options), optim[name]({turned}, options)
      for t = 1, 4 do
        dense.grad = grad * t
        turned.grad = (grad * t):t():contiguous():t()
        a:step()
        b:step()
      end
      local difference = (dense:detach() - turned:detach()):abs():max():item()
      assert.is_true(difference <= 2e-6, name .. ": " .. difference)
    end
  end)
end)

describe("the number of threads", function()
  it("changes no bit", function()
    for _, name in ipairs{"AdamW", "LAMB", "ScheduleFreeAdamW"} do
      local results = {}
      for threads = 1, 2 do
        ai.set_num_threads(threads)
        ai.manual_seed(2)
        local p = nn.Parameter(ai.randn(400001))
        local opt = optim[name]({p}, {lr = 0.1})
        p.grad = ai.randn(400001)
        opt:step()
        opt:step()
        results[threads] = p:detach():clone()
      end
      assert.is_true(results[1]:equal(results[2]):item(), name)
    end
  end)
end)

-- -- Groups -------------------------------------------------------------------------------------------------------------

local Net = ai.class("GroupNet", nn.Module)
function Net:__init()
  nn.Module.__init(self)
  self.encoder = nn.Sequential{nn.Linear(4, 8), nn.LayerNorm(8)}
  self.head = nn.Linear(8, 2)
  self.token = nn.Parameter(ai.zeros(1, 8))
end

local function names_of(opt)
  local list = {}
  for g, group in ipairs(opt.param_groups) do list[g] = #group.params end
  return list
end

describe("groups", function()
  it("are chosen by pattern, by name and by tag; the first that fits counts, and the rest are a group", function()
    local net = Net()
    net.encoder.tag = "encoder"
    local opt = optim.AdamW(net, {lr = 0.1, weight_decay = 0.2, groups = {
      {match = "bias$", weight_decay = 0}, {tag = "encoder", lr = 0.01}, {name = "head.weight", lr = 0.5},
    }})
    assert.are.same({3, 2, 1, 1}, names_of(opt))
    assert.are.same({0.1, 0.01, 0.5, 0.1}, {opt.param_groups[1].lr, opt.param_groups[2].lr, opt.param_groups[3].lr, opt.param_groups[4].lr})
    assert.are.same({0, 0.2}, {opt.param_groups[1].weight_decay, opt.param_groups[2].weight_decay})
    assert.is_true(rawequal(opt.param_groups[3].params[1], net.head.weight))
    assert.is_true(rawequal(opt.param_groups[4].params[1], net.token))
  end)

  it("may be of a tree of tensors, whose keys are names and tags", function()
    local function leaf() return nn.Parameter(ai.zeros(2)) end
    local tree = {encoder = {w = leaf(), b = leaf()}, heads = {{w = leaf()}, {w = leaf()}}}
    local opt = optim.SGD(tree, {groups = {{tag = "encoder", lr = 0.5}, {name = "heads.2.w", lr = 0.25}}})
    assert.are.same({2, 1, 1}, names_of(opt))
    assert.is_true(rawequal(opt.param_groups[2].params[1], tree.heads[2].w))
  end)

  it("must fit something, and say how they choose", function()
    local net = Net()
    assert.matches("fits no parameter that is left for it %(head.weigth%): did you mean 'head.weight",
      message_of(optim.SGD, net, {groups = {{name = "head.weigth"}}}))
    assert.matches("neither match nor name nor tag", message_of(optim.SGD, net, {groups = {{lr = 1}}}))
    assert.matches("no argument 'wd'", message_of(optim.SGD, net, {groups = {{match = "bias", wd = 1}}}))
    assert.matches("is no Lua pattern", message_of(optim.SGD, net, {groups = {{match = "[bias"}}}))
    assert.matches("a plain list of parameters has none", message_of(optim.SGD, net:parameters(), {groups = {{match = "bias"}}}))
    assert.matches("match is a number", message_of(optim.SGD, net, {groups = {{match = 3}}}))
  end)

  it("separate what decays from norms, embeddings, biases and gains", function()
    local net = Net()
    net.table = ai.class("MyEmbedding", nn.Module)()
    net.table.weight = nn.Parameter(ai.zeros(5, 8))
    local groups = optim.separate_decay(net, {weight_decay = 0.3, no_decay = "^token"})
    assert.are.equal(2, #groups[1].params)
    assert.is_true(rawequal(groups[1].params[1], net.encoder[1].weight))
    assert.is_true(rawequal(groups[1].params[2], net.head.weight))
    assert.are.equal(6, #groups[2].params)
    local opt = optim.AdamW(groups, {lr = 0.1})
    assert.are.same({0.3, 0}, {opt.param_groups[1].weight_decay, opt.param_groups[2].weight_decay})
    local same = optim.AdamW(net, {weight_decay = 0.3, groups = {{match = {optim.is_undecayed, "^token"}, weight_decay = 0}}})
    assert.are.same({6, 2}, names_of(same))
  end)

  it("of Muon are matrices and the rest, with embeddings among these", function()
    local net = Net()
    net.table = ai.class("MyEmbedding", nn.Module)()
    net.table.weight = nn.Parameter(ai.zeros(5, 8))
    local opt = optim.Muon(net, {lr = 0.1, adamw_lr = 0.25, groups = {{match = "^head%.", muon = false, lr = 0.125}}})
    assert.are.same({2, 2, 4}, names_of(opt))
    assert.are.same({false, true, false}, {opt.param_groups[1].muon, opt.param_groups[2].muon, opt.param_groups[3].muon})
    assert.are.same({0.125, 0.1, 0.25}, {opt.param_groups[1].lr, opt.param_groups[2].lr, opt.param_groups[3].lr})
    assert.matches("has 1 dimensions", message_of(optim.Muon, {{params = {nn.Parameter(ai.zeros(3))}, muon = true}}))
    assert.matches("adjust_lr is \"other\"", message_of(optim.Muon, net, {adjust_lr = "other"}))
  end)
end)

-- -- Schedule-free ----------------------------------------------------------------------------------------------------------

describe("schedule-free AdamW", function()
  local function trained(dtype)
    ai.manual_seed(4)
    local p = nn.Parameter(ai.randn(3, 5):to(dtype or "f32"))
    local opt = optim.ScheduleFreeAdamW({p}, {lr = 0.1})
    for t = 1, 10 do set_gradients({p}, t) opt:step() end
    return p, opt
  end

  it("shows the average of z in evaluation, and what it trains, to the last bit, in training", function()
    local p = nn.Parameter(ai.tensor({1, -2}, {dtype = "f64"}))
    local opt = optim.ScheduleFreeAdamW({p}, {lr = 0.1})
    local sum, n = ai.zeros(2, {dtype = "f64"}), 0
    for t = 1, 20 do
      p.grad = ai.tensor({math.sin(t), math.cos(t)}, {dtype = "f64"})
      opt:step()
      sum, n = sum + opt:state_dict().state[1].z, n + 1
    end
    local y = p:detach():clone()
    opt:eval()
    opt:eval()
    -- With a constant rate all weights are equal: x is the plain mean.
    assert.is_true((p:detach() - sum / n):abs():max():item() < 1e-12)
    assert.matches("call optimizer:train", message_of(opt.step, opt))
    opt:train()
    opt:train()
    assert.is_true(p:detach():equal(y):item())
  end)

  it("saved in evaluation, trains on from what it trained", function()
    for _, dtype in ipairs{"f32", "bf16"} do
      local a, first = trained(dtype)
      first:eval()
      local b = nn.Parameter(a:detach():clone())
      local second = optim.ScheduleFreeAdamW({b}):load_state_dict(first:state_dict())
      assert.matches("call optimizer:train", message_of(second.step, second))
      first:train()
      second:train()
      for t = 11, 14 do
        set_gradients({a}, t)
        set_gradients({b}, t)
        first:step()
        second:step()
      end
      assert.are.same(bits{a}, bits{b})
      assert.is_nil(first:state_dict().state[1].y)
    end
  end)

  it("refuses a beta of 0, with which x could not be had", function()
    assert.matches("betas%[1%] is 0", message_of(optim.ScheduleFreeAdamW, {nn.Parameter(ai.zeros(1))}, {betas = {0, 0.9}}))
  end)
end)
