--- The same networks written in the four ways: classes of nn, factories of model, a graph of placeholders, pure functions of
--- fn. From equal weights equal outputs, and equal gradients of the input and of every weight.

local ai = require "aijit"
local fn = require "aijit.fn"
local m = require "aijit.model"
local nn, f, nets, chain, _ = ai.nn, ai.f, fn.nets, fn.chain, fn._

--- A class of modules with these parts, and a forward.
local function module(parts, forward)
  local Net = ai.class("FourWaysNet", nn.Module)
  function Net:__init() for _, part in ipairs(parts) do self[part[1]] = part[2] end end
  Net.forward = forward
  return Net()
end

local function graph(run, ...)
  local inputs = {}
  for i, shape in ipairs {...} do inputs[i] = nn.Placeholder(shape) end
  local out = run(unpack(inputs))
  return nn.Functional{inputs = #inputs == 1 and inputs[1] or inputs, outputs = out}
end

-- What fn names by its own habits, from an nn layer's weights.
local function linear(layer) return {weights = layer.weight:t(), bias = layer.bias} end
local function conv(layer) return {kernel = layer.weight, bias = layer.bias} end
local function norm(layer) return {scale = layer.weight, offset = layer.bias} end

local function attention(layer)
  local w, b = layer.in_proj_weight:chunk(3, 1), layer.in_proj_bias:chunk(3, 1)
  local out = {out = linear(layer.out_proj)}
  for i, name in ipairs {"q", "k", "v"} do out[name] = {weights = w[i]:t(), bias = b[i]} end
  return out
end

--- Each: inputs, and the four ways; params(the nn module) is fn's tree, of that module's own tensors.
local networks = {}

networks["a perceptron with norms"] = function()
  return {
    inputs = {ai.randn(5, 6)},
    nn = nn.Sequential{nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3)},
    model = m.seq{m.fc(6, 8, {norm = "layer", actv = "relu"}), m.fc(8, 8, {actv = "gelu"}), m.fc(8, 3)},
    graph = graph(function(x)
      return nn.Linear(3)(nn.Linear(8)(nn.LayerNorm(8)(nn.Linear(8)(x)):relu()):gelu())
    end, {false, 6}),
    fn = function(p, x)
      local first = chain{nets.linear(p[1], _, 8), nets.layer_norm(p[2], _), f.relu}
      return chain{first, nets.linear(p[3], _, 8, {activation = "gelu"}), nets.linear(p[4], _, 3)}(x)
    end,
    params = function(net) return {linear(net[1]), norm(net[2]), linear(net[4]), linear(net[6])} end,
  }
end

networks["convolutions and pools"] = function()
  return {
    inputs = {ai.randn(2, 3, 12, 12)},
    nn = nn.Sequential{
      nn.Conv2d(3, 4, 3, {padding = 1}), nn.Mish(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, {padding = 1, stride = 2}), nn.Tanh(),
      nn.Flatten(), nn.Linear(54, 5),
    },
    model = m.seq{m.conv(3, 4, {actv = "mish"}), nn.MaxPool2d(2), m.conv(4, 6, {stride = 2, actv = "tanh"}), m.flatten(), m.fc(54, 5)},
    graph = graph(function(x)
      local h = f.max_pool2d(nn.Conv2d(4, {kernel_size = 3, padding = 1})(x):mish(), 2)
      return nn.Linear(5)(nn.Conv2d(6, {kernel_size = 3, padding = 1, stride = 2})(h):tanh():flatten())
    end, {false, 3, 12, 12}),
    fn = function(p, x)
      return chain{
        nets.conv_2d(p[1], _, 4, 3, {activation = "mish"}), nets.max_pool(p, _, 2, 2),
        nets.conv_2d(p[2], _, 6, 3, {stride = 2, padding = 1, activation = "tanh"}),
        function(h) return h:flatten(2) end, nets.linear(p[3], _, 5),
      }(x)
    end,
    params = function(net) return {conv(net[1]), conv(net[4]), linear(net[7])} end,
  }
end

networks["a residual block with a shortcut, and one without"] = function()
  local function main(a, b, stride)
    return nn.Sequential{nn.Conv2d(a, b, 3, {stride = stride, padding = 1}), nn.ReLU(), nn.Conv2d(b, b, 3, {padding = 1})}
  end
  local one, two, short = main(2, 4, 2), main(4, 4, 1), nn.Conv2d(2, 4, 1, {stride = 2})
  return {
    inputs = {ai.randn(2, 2, 8, 8)},
    nn = module({{"one", one}, {"short", short}, {"two", two}}, function(self, x)
      x = self.one(x) + self.short(x)
      return self.two(x) + x
    end),
    model = m.seq{
      m.res(m.seq{m.conv(2, 4, {stride = 2, actv = "relu"}), m.conv(4, 4)}, nn.Conv2d(2, 4, 1, {stride = 2})),
      m.res(m.seq{m.conv(4, 4, {actv = "relu"}), m.conv(4, 4)}),
    },
    graph = graph(function(x)
      local function c(stride) return nn.Conv2d(4, {kernel_size = 3, padding = 1, stride = stride}) end
      local a = c(1)
      local first = c(2)(x):relu()
      local h = a(first) + nn.Conv2d(4, {kernel_size = 1, stride = 2})(x)
      return c(1)(c(1)(h):relu()) + h
    end, {false, 2, 8, 8}),
    fn = function(p, x)
      local function block(q, stride)
        return chain{nets.conv_2d(q[1], _, 4, 3, {stride = stride, padding = 1, activation = "relu"}), nets.conv_2d(q[2], _, 4, 3)}
      end
      x = block(p.one, 2)(x) + nets.conv_2d(p.short, x, 4, 1, {stride = 2})
      return fn.skip(block(p.two, 1))(x)
    end,
    params = function(net)
      return {one = {conv(net.one[1]), conv(net.one[3])}, short = conv(net.short), two = {conv(net.two[1]), conv(net.two[3])}}
    end,
  }
end

networks["a transformer's encoder"] = function()
  local layer = nn.TransformerEncoderLayer(8, 2, 12, {dropout = 0, activation = "gelu", batch_first = true, norm_first = true})
  return {
    inputs = {ai.randn(3, 5, 8)},
    nn = nn.TransformerEncoder(layer, 2),
    model = m.tx_enc(2, 8, 2, 12),
    -- A block calls its norms in another order than PyTorch's layer names them.
    order = function(net)
      local list = {}
      for _, block in ipairs(net.layers) do
        for _, part in ipairs {block.norm1, block.self_attn, block.norm2, block.linear1, block.linear2} do
          for _, p in ipairs(part:parameters()) do list[#list + 1] = p end
        end
      end
      return list
    end,
    graph = graph(function(x)
      for _ = 1, 2 do
        local h = nn.LayerNorm(8)(x)
        x = x + nn.MultiheadAttention(8, 2, {batch_first = true})(h, h, h)
        x = x + nn.Linear(8)(nn.Linear(12)(nn.LayerNorm(8)(x)):gelu())
      end
      return x
    end, {false, 5, 8}),
    fn = function(p, x)
      return chain(fn.thread_params({nets.transformer_block(_, _, 2, {mlp_dim = 12}), nets.transformer_block(_, _, 2, {mlp_dim = 12})}, p))(x)
    end,
    params = function(net)
      local list = {}
      for i, block in ipairs(net.layers) do
        list[i] = {ln1 = norm(block.norm1), attention = attention(block.self_attn), ln2 = norm(block.norm2),
                   mlp = {linear(block.linear1), linear(block.linear2)}}
      end
      return list
    end,
  }
end

local function recurrent(kind, bias_of)
  return function()
    local function body(rnn, fc) return function(x) return fc((rnn(x)):select(2, -1)) end end
    local rnn, fc = nn[kind](4, 6, {batch_first = true}), nn.Linear(6, 3)
    local inner, outer = nn[kind](4, 6, {batch_first = true}), m.fc(6, 3)
    local Classifier = ai.class("FourWaysClassifier", m.Model)
    function Classifier:__init() m.Model.__init(self) self.rnn = inner self.fc = outer end
    function Classifier:forward(x) return body(self.rnn, self.fc)(x) end
    return {
      inputs = {ai.randn(3, 7, 4)},
      nn = module({{"rnn", rnn}, {"fc", fc}}, function(self, x) return body(self.rnn, self.fc)(x) end),
      model = Classifier(),
      graph = graph(function(x) return body(nn[kind](6, {batch_first = true}), nn.Linear(3))(x) end, {false, 7, 4}),
      fn = function(p, x)
        local y = nets[kind:lower()](p.rnn, x, 6)
        return nets.linear(p.fc, y:select(2, -1), 3)
      end,
      params = function(net)
        local r = net.rnn
        local tree = {w_ih = r.weight_ih_l0:t(), w_hh = r.weight_hh_l0:t()}
        bias_of(tree, r.bias_ih_l0, r.bias_hh_l0)
        return {rnn = tree, fc = linear(net.fc)}
      end,
    }
  end
end
local function summed(tree, a, b) tree.bias = a + b end
networks["an RNN"], networks["an LSTM"] = recurrent("RNN", summed), recurrent("LSTM", summed)
networks["a GRU"] = recurrent("GRU", function(tree, a, b)
  tree.bias = ai.cat({a[{{1, 12}}] + b[{{1, 12}}], a[{{13, 18}}]}, 1)
  tree.bias_n = b[{{13, 18}}]
end)

networks["an embedding, averaged"] = function()
  local function body(embed, fc) return function(x) return fc(embed(x):mean(2)) end end
  local embed, fc, embed2, fc2 = nn.Embedding(9, 5), nn.Linear(5, 4), m.embed(9, 5), m.fc(5, 4)
  local Bag = ai.class("FourWaysBag", m.Model)
  function Bag:__init() m.Model.__init(self) self.embed = embed2 self.fc = fc2 end
  function Bag:forward(x) return body(self.embed, self.fc)(x) end
  return {
    inputs = {ai.randint(1, 9, 4, 6)},
    nn = module({{"embed", embed}, {"fc", fc}}, function(self, x) return body(self.embed, self.fc)(x) end),
    model = Bag(),
    graph = graph(function(x) return body(nn.Embedding(9, 5), nn.Linear(4))(x) end, {false, 6, dtype = "i64"}),
    fn = function(p, x) return nets.linear(p.fc, nets.token_embed(p.embed, x, 9, 5):mean(2), 4) end,
    params = function(net) return {embed = {embeddings = net.embed.weight}, fc = linear(net.fc)} end,
  }
end

networks["two inputs through one shared layer"] = function()
  local shared, shared2 = nn.Linear(4, 5), m.fc(4, 5, {actv = "tanh"})
  local Pair = ai.class("FourWaysPair", m.Model)
  function Pair:__init() m.Model.__init(self) self.net = shared2 end
  function Pair:forward(a, b) return self.net(a) * self.net(b) end
  return {
    inputs = {ai.randn(3, 4), ai.randn(3, 4)},
    nn = module({{"shared", shared}}, function(self, a, b) return self.shared(a):tanh() * self.shared(b):tanh() end),
    model = Pair(),
    graph = graph(function(a, b)
      local layer = nn.Linear(5)
      return layer(a):tanh() * layer(b):tanh()
    end, {false, 4}, {false, 4}),
    fn = function(p, a, b)
      p = fn.shared(p)
      local layer = nets.linear(p, _, 5, {activation = "tanh"})
      return layer(a) * layer(b)
    end,
    params = function(net) return linear(net.shared) end,
  }
end

networks["an autoencoder of transposed convolutions"] = function()
  local function up(a, b) return nn.ConvTranspose2d(a, b, 4, {stride = 2, padding = 1}) end
  return {
    inputs = {ai.randn(2, 1, 8, 8)},
    nn = nn.Sequential{nn.Conv2d(1, 3, 4, {stride = 2, padding = 1}), nn.ELU(), up(3, 2), nn.Sigmoid(), nn.Conv2d(2, 1, 1)},
    model = m.seq{nn.Conv2d(1, 3, 4, {stride = 2, padding = 1}), nn.ELU(), m.seq{up(3, 2), nn.Sigmoid()}, m.conv(2, 1, 1)},
    graph = graph(function(x)
      return nn.Conv2d(1, {kernel_size = 1})(up(3, 2)(nn.Conv2d(3, {kernel_size = 4, stride = 2, padding = 1})(x):elu()):sigmoid())
    end, {false, 1, 8, 8}),
    fn = function(p, x)
      return chain{
        nets.conv_2d(p[1], _, 3, 4, {stride = 2, padding = 1, activation = "elu"}), nets.conv_transpose_2d(p[2], _, 2, 4, {stride = 2, padding = 1}),
        f.sigmoid, nets.conv_2d(p[3], _, 1, 1),
      }(x)
    end,
    params = function(net) return {conv(net[1]), conv(net[3]), conv(net[5])} end,
  }
end

-- -- Comparing -----------------------------------------------------------------------------------------------------------

local function near(a, b, what)
  assert.are.same({unpack(b.shape)}, {unpack(a.shape)}, what)
  local size = math.max(1, b:abs():max():item())
  local off = (a - b):abs():max():item()
  assert(off <= 1e-5 * size, ("%s: off by %g of %g"):format(what, off, size))
end

--- Output, gradients of the inputs that have one, gradients of the parameters.
local function run(call, inputs, parameters)
  local given, leaves = {}, {}
  for i, x in ipairs(inputs) do
    given[i] = x
    if x:is_floating_point() then
      given[i] = x:clone():requires_grad_(true)
      leaves[#leaves + 1] = given[i]
    end
  end
  local y = call(unpack(given))
  local n = #leaves
  for _, p in ipairs(parameters) do leaves[#leaves + 1] = p end
  return y:detach(), ai.grad((y * ai.linspace(-1, 1, y:numel()):reshape(y:size())):sum(), leaves), n
end

describe("equal outputs and gradients in the four ways:", function()
  for name, make in pairs(networks) do
    it(name, function()
      ai.manual_seed(3)
      local w = make()
      local parameters = w.order and w.order(w.nn) or w.nn:parameters()
      local y, gradients, n = run(w.nn, w.inputs, parameters)
      for _, way in ipairs {"model", "graph"} do
        local own = w[way]:parameters()
        assert.are.equal(#parameters, #own, way)
        ai.no_grad(function()
          for i, p in ipairs(own) do
            assert.are.same({unpack(parameters[i].shape)}, {unpack(p.shape)}, way .. " parameter " .. i)
            p:copy_(parameters[i])
          end
        end)
        local its, its_gradients = run(w[way], w.inputs, own)
        near(its, y, way)
        for i, g in ipairs(gradients) do near(its_gradients[i], g, way .. " gradient " .. i - n) end
      end
      -- fn's tree is made of the nn module's tensors, and so its gradients reach these.
      local traced = fn.trace(w.fn, fn.key(0), unpack(w.inputs))
      local tree = w.params(w.nn)
      fn.tree_map(function(a, b) assert.are.same({unpack(a.shape)}, {unpack(b.shape)}) end, traced, tree)
      local its, its_gradients = run(function(...) return w.fn(tree, ...) end, w.inputs, parameters)
      near(its, y, "fn")
      for i, g in ipairs(gradients) do near(its_gradients[i], g, "fn gradient " .. i - n) end
    end)
  end
end)

it("there are several networks", function()
  local count = 0
  for _ in pairs(networks) do count = count + 1 end
  assert.is_true(count >= 9)
end)
