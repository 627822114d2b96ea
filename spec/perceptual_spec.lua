--- Losses of pictures as trained networks see them: where their weights come from, and what they refuse. Their values are compared with
--- PyTorch's in spec/parity_spec.lua.

local ai = require "aijit"
local nn = ai.nn

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local path = os.tmpname()
after_each(function()
  for _, ending in ipairs{"", "1.safetensors", "2.safetensors"} do os.remove(path .. ending) end
end)

local function renamed(state, f)
  local out = {}
  for name, t in pairs(state) do
    local new = f(name)
    if new then out[new] = t end
  end
  return out
end

local small = {width = 2, weights = "random"}
local function pictures(n) return ai.rand(n or 2, 3, 40, 36) * 2 - 1, ai.rand(n or 2, 3, 40, 36) * 2 - 1 end

describe("LPIPS", function()
  it("is 0 of equal pictures, above 0 of others, and has a value for each picture or their mean", function()
    for _, net in ipairs{"vgg", "alex"} do
      local loss, x, y = nn.LPIPS{width = 2, weights = "random", net = net, reduction = "none"}, pictures(3)
      assert.are.same({3}, {unpack(loss(x, y).shape)})
      assert.is_true(loss(x, y):min():item() > 0)
      assert.are.equal(0, loss(x, x):max():item())
      loss.reduction = "mean"
      assert.are.same({}, {unpack(loss(x, y).shape)})
      local unit = nn.LPIPS{width = 2, weights = loss:state_dict(), net = net, normalize = true}
      assert.is_near(loss(x, y):item(), unit((x + 1) / 2, (y + 1) / 2):item(), 1e-5)
    end
  end)

  it("takes its weights from files, under the names that torchvision, lpips and others give them", function()
    local loss, x, y = nn.LPIPS(small), pictures()
    local state, wanted = loss:state_dict(), loss(x, y):item()
    local function by(names) return math.abs(nn.LPIPS{width = 2, weights = names}(x, y):item() - wanted) < 1e-7 end
    ai.save(state, path .. "1.safetensors")
    assert.is_true(by(path .. "1.safetensors"))
    ai.save(renamed(state, function(name) return name:find "^features" and name or nil end), path .. "1.safetensors")
    ai.save(renamed(state, function(name) return name:find "^lin" and name:gsub("lin%.(%d)", "lin%1.model.1") or nil end), path .. "2.safetensors")
    assert.is_true(by{path .. "1.safetensors", path .. "2.safetensors"})
    assert.is_true(by(renamed(state, function(name)
      return (name:gsub("features", "net.slice3"):gsub("lin%.(%d)", "lins.%1.model.1"))
    end)))
    assert.is_true(by(renamed(state, function(name) return (name:gsub("features", "vgg16.slice1"):gsub("lin%.(%d)", "in_projs.%1.1")) end)))
  end)

  it("is frozen, whatever the model does that holds it, and lets gradients through to the pictures", function()
    local holder = nn.Module()
    holder.loss, holder.fc = nn.LPIPS(small), nn.Linear(2, 2)
    holder:train()
    assert.are.equal(0, holder.loss:num_parameters(true))
    local x, y = pictures()
    x:requires_grad_()
    holder.loss(x, y):backward()
    assert.is_true(x.grad:abs():max():item() > 0)
  end)

  it("goes through a spec that names its files", function()
    local loss, x, y = nn.LPIPS(small), pictures()
    ai.save(loss:state_dict(), path .. "1.safetensors")
    local again = nn.from_spec(ai.json.decode(ai.json.encode(nn.LPIPS{width = 2, weights = path .. "1.safetensors"}:to_spec())))
    assert.are.equal(loss(x, y):item(), again(x, y):item())
    assert.are.equal("random", nn.LPIPS{width = 2, weights = loss:state_dict()}:to_spec().weights)
  end)

  it("without weights, with some of them or with those of another network is an error that says which are wanted", function()
    assert.matches("LPIPS: weights are wanted: the path of a file.*VGG16, features%.N%.weight.*linN%.model%.1%.weight", message_of(nn.LPIPS))
    assert.matches("no%-such%-file.*No such file", message_of(nn.LPIPS, {weights = "no-such-file.safetensors"}))
    local state = nn.LPIPS(small):state_dict()
    state["lin.2.weight"], state["features.0.bias"] = nil, nil
    assert.matches("no value for 2 of its tensors, among them features%.0%.bias, lin%.2%.weight; wanted", message_of(nn.LPIPS, {width = 2, weights = state}))
    assert.matches("of another shape", message_of(nn.LPIPS, {width = 3, weights = nn.LPIPS(small):state_dict()}))
    assert.matches("weights is 3; the path of a file, a list of paths", message_of(nn.LPIPS, {weights = 3}))
    assert.matches('net is "vg".*did you mean \'vgg\'', message_of(nn.LPIPS, {net = "vg"}))
  end)

  it("refuses what is no pair of pictures", function()
    local loss, x, y = nn.LPIPS(small), pictures()
    assert.matches("LPIPS: x is %(2, 1, 40, 36%); pictures, %(N, 3, H, W%) of 16 x 16 or more", message_of(loss, x:narrow(2, 1, 1), y))
    assert.matches("y is a nil", message_of(loss, x))
    assert.matches("x is %(2, 3, 8, 36%)", message_of(loss, x:narrow(3, 1, 8), y))
    assert.matches("%(2, 3, 40, 36%) and %(1, 3, 40, 36%): both must have the same sizes", message_of(loss, x, y:narrow(1, 1, 1)))
  end)
end)

describe("PerceptualLoss", function()
  it("is LPIPS, or a distance of VGG19's features; no gradient flows to y unless it shall", function()
    local x, y = pictures()
    for _, kind in ipairs{"lpips-vgg", "lpips-alex", "trad-vgg"} do
      local loss = nn.PerceptualLoss(kind, small)
      x.grad, y.grad = nil, nil
      x:requires_grad_()
      y:requires_grad_()
      loss(x, y):backward()
      assert.is_truthy(x.grad)
      assert.is_nil(y.grad)
      nn.PerceptualLoss(kind, {width = 2, weights = "random", detach_y = false})(x, y):backward()
      assert.is_truthy(y.grad)
      local state = loss:state_dict()
      local same = nn.PerceptualLoss(kind, {width = 2, weights = state})
      assert.are.equal(loss(x, y):item(), same(x, y):item())
    end
  end)

  it("refuses other kinds, and wants weights", function()
    assert.matches('kind is "lpips"; "lpips%-vgg", "lpips%-alex" or "trad%-vgg"', message_of(nn.PerceptualLoss, "lpips", small))
    assert.matches("PerceptualLoss: weights are wanted.*VGG19", message_of(nn.PerceptualLoss, "trad-vgg"))
    assert.matches("weights are wanted.*AlexNet", message_of(nn.PerceptualLoss, "lpips-alex"))
  end)
end)

describe("FaceIdentityLoss", function()
  local o = {weights = "random", input_size = 16, channels = {4, 4, 6}, blocks = {2, 1}, dim = 5}
  local function with(more)
    local all = {}
    for _, t in ipairs{o, more} do for key, value in pairs(t) do all[key] = value end end
    return all
  end

  it("is 0 of one face, not above 2 of others, and the same when its model is trained", function()
    local loss, x, y = nn.FaceIdentityLoss(o), pictures()
    assert.is_near(0, loss(x, x):item(), 1e-6)
    local d = loss(x, y):item()
    assert.is_true(d > 0 and d <= 2)
    local holder = nn.Module()
    holder.loss = loss
    holder:train()
    assert.are.equal(d, loss(x, y):item())
    x:requires_grad_()
    y:requires_grad_()
    loss(x, y):backward()
    assert.is_true(x.grad:abs():max():item() > 0)
    assert.is_nil(y.grad)
  end)

  it("looks at the face's part alone, of pictures of any size", function()
    local loss, x = nn.FaceIdentityLoss(with{crop = {0.25, 0.75, 0.25, 0.75}}), (pictures())
    local changed = x:clone()
    changed:narrow(3, 1, 9):fill_(1)
    assert.is_near(0, loss(x, changed):item(), 1e-6)
    changed:narrow(3, 15, 3):fill_(1)
    assert.is_true(loss(x, changed):item() > 1e-4)
    assert.is_true(nn.FaceIdentityLoss(with{crop = false})(ai.randn(1, 3, 16, 16), ai.randn(1, 3, 50, 30)):item() > 0)
  end)

  it("takes its weights from a file by the published names, and wants all of them", function()
    local loss, x, y = nn.FaceIdentityLoss(o), pictures()
    local state = loss.net:state_dict()
    ai.save(state, path .. "1.safetensors")
    assert.are.equal(loss(x, y):item(), nn.FaceIdentityLoss(with{weights = path .. "1.safetensors"})(x, y):item())
    local names = {}
    for name in pairs(nn.FaceEmbedding(o.input_size, o.channels, o.blocks, 5):state_dict()) do names[name] = true end
    for _, name in ipairs{"input_layer.2.weight", "body.0.res_layer.5.fc1.weight", "body.2.shortcut_layer.1.running_var", "output_layer.4.running_mean"} do
      assert(names[name], name)
    end
    state["body.0.res_layer.1.weight"] = nil
    assert.matches("no value for 1 of its tensors, among them net%.body%.0%.res_layer%.1%.weight", message_of(nn.FaceIdentityLoss, with{weights = state}))
    assert.matches("FaceIdentityLoss: weights are wanted.*ArcFace", message_of(nn.FaceIdentityLoss))
  end)

  it("refuses what it cannot take", function()
    local loss, x = nn.FaceIdentityLoss(o), (pictures())
    assert.matches("y is %(3, 4%); pictures", message_of(loss, x, ai.randn(3, 4)))
    assert.matches("y is a nil", message_of(loss, x))
    assert.matches("2 pictures and 1; as many", message_of(loss, x, x:narrow(1, 1, 1)))
    assert.matches("crop is {0.5, 0.2, 0, 1}; four numbers", message_of(nn.FaceIdentityLoss, with{crop = {0.5, 0.2, 0, 1}}))
    assert.matches("2 numbers of channels for 2 groups", message_of(nn.FaceEmbedding, {channels = {4, 4}, blocks = {1, 1}}))
    assert.matches("2 groups do not halve a size of 6", message_of(nn.FaceEmbedding, {channels = {4, 4, 4}, blocks = {1, 1}, input_size = 6}))
  end)
end)
