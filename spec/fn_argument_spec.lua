--- What nets of aijit.fn, and functions that take functions, keys or trees, refuse beside single arguments, which
--- spec/argument_spec.lua walks.

local ai = require "aijit"
local fn = require "aijit.fn"
local nets = fn.nets

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local key = fn.key(1)
local x, image, row = ai.randn(2, 5, 4), ai.randn(1, 2, 6, 6), ai.randn(2, 3, 8)

it("what is given in the place of params is told apart", function()
  assert.matches("linear: params is nil.*was it traced%?", message_of(nets.linear, nil, x, 3))
  assert.matches("linear: params is a tensor", message_of(nets.linear, x, x, 3))
  for _, heads in ipairs{3, 0} do
    assert.matches("multi_head_attention: .*heads", message_of(fn.trace, function(p) return nets.multi_head_attention(p, x, x, x, heads) end, key))
  end
  for _, axis in ipairs{4, -4} do assert.matches("axis is " .. ("%d"):format(axis):gsub("%-", "%%-"), message_of(nets.layer_norm, {}, x, axis)) end
  assert.matches("nets%.linear: 6 arguments are too many", message_of(nets.linear, {}, x, 3, {}, 1, 2))
  assert.matches("no activation 'rellu': did you mean 'relu'", message_of(nets.linear, fn.trace(nets.linear, key, x, 3), x, 3, {activation = "rellu"}))
end)

it("functions of functions, keys and trees", function()
  local function f(v) return v end
  for _, wrong in ipairs{3, "f", {}} do
    for _, name in ipairs{"skip", "flexible", "trace", "vmap", "grad", "value_and_grad"} do
      assert.matches("fn_argument_spec%.lua:%d+: fn%." .. name .. ":? .*function", message_of(function() fn[name](wrong, key) end))
    end
  end
  assert.matches("fn%.chain: a list of functions", message_of(fn.chain, f))
  assert.matches("fn%.chain: entry 2 is a number", message_of(fn.chain, {f, 3}))
  assert.matches("fn%.thread: a list of functions", message_of(fn.thread, f, 1))
  assert.matches("fn%.thread: the split gave a number", message_of(fn.thread, {f}, 1, function() return 3 end))
  assert.matches("fn%.thread_params: params is a number", message_of(fn.thread_params, {f}, 1))
  assert.matches("fn%.thread_key: argument 2 is a number", message_of(fn.thread_key, {f}, 1))
  assert.matches("fn%.trace: argument 2 is a number", message_of(fn.trace, f, 3))
  for _, wrong in ipairs{-1, 0.5, "1", {}} do assert.matches("fn%.key: a whole number", message_of(fn.key, wrong)) end
  for _, wrong in ipairs{0, -1, 1.5, "2"} do assert.matches("fn%.split: a number of keys", message_of(fn.split, key, wrong)) end
  assert.matches("fn%.fold_in: a whole number or a string", message_of(fn.fold_in, key, {}))
  for _, wrong in ipairs{3, {1.5}, {"a"}, {-1}} do
    assert.matches("fn%.validate: the shape", message_of(fn.trace, function(p) return fn.validate(p.w, wrong) end, key))
  end
  assert.matches("unknown option 'ini'.*did you mean 'init'", message_of(fn.trace, function(p) return fn.validate(p.w, {2}, {ini = "ones"}) end, key))
  assert.matches("argument 1 is a number", message_of(fn.tree_map, 3, {}))
  assert.matches("update_tagged: usage", message_of(fn.update_tagged, {}, {}))
  assert.matches("unknown option 'argnums'", message_of(fn.grad, f, {argnums = 1}))
end)

it("an error inside names the functions and the shapes on the way", function()
  local net = fn.flexible(function(p, v)
    local y = fn.chain{nets.mlp(p.mlp, fn._, {6, 8}), function(h) return h:reshape(-1, 3, 3) end}(v)
    return y
  end, "net")
  local message = message_of(fn.trace, net, key, ai.ones(2, 5))
  assert.are.equal(table.concat({
    "  in the functions, outermost first:",
    "    net                         v (2, 5)",
    "    function 2 of 2 of a chain  (2, 8)",
  }, "\n"), message:match "\n(.*)$")
  local params = fn.trace(function(p, v) return nets.mlp(p.mlp, v, {6, 8}) end, key, ai.ones(2, 5))
  message = message_of(function() local y = nets.mlp(params.mlp, ai.ones(2, 4), {6, 8}) return y end)
  assert.matches("linear's weights has the sizes %(5, 6%), where %(4, 6%) is wanted", message)
  assert.matches("\n    nets%.mlp +x %(2, 4%)\n    nets%.linear +x %(2, 4%)$", message)
end)

it("masks, general convolutions, dilated inputs", function()
  local v, mask = ai.randn(2, 3, 3), ai.ones(3, 3):tril()
  assert.is_true(nets.apply_mask(v, mask):equal(v * mask):item())
  assert.are.equal(0, nets.apply_attention_mask(v, mask):softmax(-1)[{1, 1, 2}]:item())
  local params = fn.trace(nets.conv_general, key, image, 3, {3, 3})
  assert.is_true(nets.conv_general(params, image, 3, {3, 3}):equal(nets.conv_2d(params, image, 3, {3, 3})):item())
  -- A convolution of a dilated input is a transposed one, its kernel turned and its channels exchanged.
  local p = fn.trace(nets.conv_1d, key, row, 4, 3, {input_dilation = 2, padding = 2})
  local y = nets.conv_1d(p, row, 4, 3, {input_dilation = 2, padding = 2})
  local wanted = ai.f.conv_transpose1d(row, p.kernel:flip(3):transpose(1, 2), p.bias, {stride = 2})
  assert.are.same({unpack(wanted.shape)}, {unpack(y.shape)})
  assert.is_true((wanted - y):abs():max():item() < 1e-5)
  local q = fn.trace(nets.conv_2d, key, image, 1, 3, {input_dilation = {2, 3}, padding = "valid"})
  assert.are.same({1, 1, 9, 14}, {unpack(nets.conv_2d(q, image, 1, 3, {input_dilation = {2, 3}, padding = "valid"}).shape)})
end)

it("a name that is not there but is like one that is, in any of the tables of functions and classes", function()
  for who, case in pairs{
    ["fn"] = {fn, "valdate", "validate"}, ["fn%.nets"] = {nets, "linaer", "linear"}, ["nn"] = {ai.nn, "Liner", "Linear"},
    ["optim"] = {ai.optim, "Adm", "Adam"}, ["model"] = {require "aijit.model", "con", "conv"},
  } do
    local message = message_of(function() return case[1][case[2]] end)
    assert.matches(("fn_argument_spec%%.lua:%%d+: %s has no %s; did you mean .*%s"):format(who, case[2], case[3]), message)
    assert.is_nil(case[1].something_else_altogether)
  end
end)

it("a module is no function of parameters, but may be mapped, also while it waits for its sizes", function()
  assert.matches("argument 1 is a module, which has parameters of its own", message_of(fn.trace, ai.nn.Linear(3, 4), key))
  local net = ai.nn.Sequential{ai.nn.Linear(4), ai.nn.ReLU(), ai.nn.Linear(2)}
  local y = fn.vmap(function(v) return net(v) end)(row)
  assert.are.same({2, 3, 2}, {unpack(y.shape)})
  assert.is_true((y - net(row)):abs():max():item() < 1e-6)
end)
