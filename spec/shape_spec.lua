-- output_shape and summary: told without computing.

local ai = require "aijit"
local nn = ai.nn

local message_of = require "spec.support.raises"

-- How each layer is made, and an input's sizes. Checked against a real run.
local rows = {
  {function() return nn.Linear(4, 3) end, {2, 5, 4}},
  {function() return nn.Linear(3) end, {2, 4}},
  {function() return nn.Embedding(10, 4) end, {2, 5, dtype = "i64"}},
  {function() return nn.Conv1d(6, 3, {groups = 2, bias = false}) end, {2, 4, 9}},
  {function() return nn.Conv2d(6, 3, {stride = 2, padding = 1, dilation = 2}) end, {2, 4, 9, 8}},
  {function() return nn.Conv2d(6, 3, {padding = 1, padding_mode = "circular"}) end, {2, 4, 5, 5}},
  {function() return nn.Conv3d(2, 2) end, {1, 3, 4, 5, 6}},
  {function() return nn.ConvTranspose1d(6, 3, {stride = 2, output_padding = 1}) end, {2, 4, 5}},
  {function() return nn.ConvTranspose2d(6, 3, {stride = 2, groups = 2}) end, {2, 4, 5, 3}},
  {function() return nn.ConvTranspose3d(2, 2) end, {1, 3, 2, 2, 2}},
  {function() return nn.MaxPool2d(3, {stride = 2, ceil_mode = true}) end, {2, 3, 8, 8}},
  {function() return nn.AvgPool1d(2) end, {2, 3, 8}},
  {function() return nn.AdaptiveAvgPool2d{output_size = {3, 2}} end, {2, 3, 8, 8}},
  {function() return nn.AdaptiveMaxPool1d(3) end, {2, 3, 8}},
  {function() return nn.Upsample{scale_factor = 2} end, {1, 2, 3, 3}},
  {function() return nn.BatchNorm1d() end, {4, 3}},
  {function() return nn.BatchNorm2d(3, {momentum = "none"}) end, {4, 3, 2, 2}},
  {function() return nn.InstanceNorm2d() end, {4, 3, 2, 2}},
  {function() return nn.GroupNorm(2) end, {4, 6, 2}},
  {function() return nn.LayerNorm() end, {4, 6}},
  {function() return nn.RMSNorm() end, {4, 6}},
  {function() return nn.GLU() end, {4, 6}},
  {function() return nn.PReLU("channels") end, {4, 6, 2}},
  {function() return nn.Softmax() end, {4, 6}},
  {function() return nn.Dropout(0.5) end, {4, 6}},
  {function() return nn.Flatten() end, {4, 6, 2}},
  {function() return nn.Unflatten(2, {3, 2}) end, {4, 6, 2}},
  {function() return nn.TimeDistributed(nn.Linear(3)) end, {4, 6, 2}},
  {function() return nn.Lambda(function(x) return x:sum(2) + ai.randn(4) end) end, {4, 6}},
  {function() return nn.LSTM(4, {batch_first = true, bidirectional = true, num_layers = 2}) end, {2, 5, 3}},
  {function() return nn.GRU(3, 4, {batch_first = true}) end, {2, 5, 3}},
  {function() return nn.RNN(4) end, {5, 2, 3}},
  {function() return nn.LSTMCell(4) end, {2, 3}},
  {function() return nn.MultiheadAttention(2, {batch_first = true}) end, {2, 5, 8}},
  {function() return nn.TransformerEncoderLayer(8, 2) end, {5, 2, 8}},
  {function() return nn.Sequential{nn.Linear(7), nn.ReLU(), nn.Linear(3)} end, {4, 6}},
}

for i, row in ipairs(rows) do
  it(("of row %d (%s) is that of a real run"):format(i, row[1]():title()), function()
    local told = row[1]()
    local waits = rawget(told, "_unbuilt") ~= nil
    ai.manual_seed(5)
    local state = ai.get_random_state()
    local guess = told:output_shape(row[2])
    assert.are.same(state, ai.get_random_state())
    assert.are.equal(waits, rawget(told, "_unbuilt") ~= nil)
    assert.is_true(told.training)
    local x = row[2].dtype and ai.ones(row[2], {dtype = row[2].dtype}) or ai.randn(row[2])
    assert.are.same({unpack((row[1]()(x)).shape)}, guess)
    if getmetatable(told) == nn.Lambda then return end
    -- Its spec, through JSON, makes the same.
    local text = ai.json.encode(told:to_spec())
    local again = nn.from_spec(ai.json.decode(text))
    assert.are.equal(text, ai.json.encode(again:to_spec()))
    assert.are.same(guess, again:output_shape(row[2]))
  end)
end

describe("output_shape", function()
  local net = nn.Sequential{nn.Conv2d(4, 3), nn.BatchNorm2d(), nn.Flatten(), nn.Linear(5)}

  it("leaves layers that wait waiting, buffers as they are, and memory alone", function()
    local live = ai.memory().cpu.live
    assert.are.same({1000000, 5}, net:output_shape(1000000, 3, 28, 28))
    collectgarbage() collectgarbage()
    assert.is_true(ai.memory().cpu.live - live < 100000)
    assert.is_nil(net[1].in_channels)
    assert.are.equal("sizes from the first input", tostring(net):match "sizes from the first input")
    local norm = nn.BatchNorm1d(3)
    norm:output_shape(4, 3)
    assert.are.equal(0, norm.num_batches_tracked:item())
    assert.are.same({4, 5}, {unpack(net:clone()(ai.randn(4, 3, 8, 8)).shape)})
  end)

  it("leaves open what follows from an open size", function()
    assert.are.same({false, 5}, net:output_shape{false, 3, 28, 28})
    assert.are.same({false, 5}, net:output_shape(false, 3, 28, 28))
    assert.are.same({2, 4, false, 7}, nn.Conv2d(4, 3, {padding = "same"}):output_shape{2, 3, false, 7})
  end)

  it("takes several inputs and gives several outputs", function()
    local Net = ai.class("NetOfShapeSpec", nn.Module)
    function Net:__init() self.fc = nn.Linear(3) end
    function Net:forward(a, o) return {y = self.fc(a), both = {a, o.b}}, a:size(1) end
    local out, n = Net():output_shape({2, 4}, {b = {5, 6, dtype = "i64"}})
    assert.are.same({y = {2, 3}, both = {{2, 4}, {5, 6}}}, out)
    assert.are.equal(2, n)
    assert.are.same({2, 3}, nn.Linear(3):output_shape(ai.ones(2, 4)))
  end)

  it("says where a shape does not fit, and that it wants one", function()
    local message = message_of(net.output_shape, net, 2, 3, 2, 2)
    assert.matches("Sequential%[1%]", message)
    assert.matches("%(2, 3, 2, 2%)", message)
    assert.matches("the shape of an input is wanted", message_of(net.output_shape, net))
    assert.matches("a list of whole numbers", message_of(net.output_shape, net, 2, -3))
    assert.matches("no elements", message_of(function() return nn.Lambda(function(x) return x:sum():item() end):output_shape(2) end))
  end)
end)

describe("summary", function()
  it("gives each module's output, parameters, multiply-accumulates and bytes", function()
    local net = nn.Sequential{nn.Conv2d(4, 3, {padding = 1}), nn.BatchNorm2d(), nn.Flatten(),
                              nn.Sequential{nn.Linear(5), nn.ReLU()}, nn.Unflatten(2, {5, 1}), nn.ConvTranspose1d(2, 3)}
    local rows_ = net:summary(2, 3, 8, 8)
    local by = {}
    for _, row in ipairs(rows_) do by[row.path] = row end
    assert.are.same({2, 4, 8, 8}, by["0"].output)
    assert.are.equal(4 * 3 * 9 + 4, by["0"].parameters)
    assert.are.equal(2 * 4 * 64 * 27, by["0"].macs)
    assert.are.equal(4 * (4 * 3 * 9 + 4), by["0"].bytes)
    assert.are.equal(8 + 0, by["1"].parameters)
    assert.are.equal(4 * 16 + 8, by["1"].bytes)                 -- two f32 vectors of 4 twice, and a counter
    assert.are.equal(2 * 5 * 256, by["3.0"].macs)
    assert.are.equal(2 * 5 * 256, by["3"].macs)
    assert.are.equal("Linear(256, 5)", by["3.0"].layer)
    assert.are.equal(2 * 5 * 1 * 2 * 3, by["5"].macs)
    assert.are.equal(by["0"].macs + by["3"].macs + by["5"].macs, rows_.macs)
    assert.are.equal(4 * (3 * 512 + 10 + 10 + 10 + 2 * 2 * 3), rows_.output_bytes)
    assert.is_nil(net[1].in_channels)
    local text = tostring(rows_)
    assert.matches("path +layer +output +parameters +MACs +bytes", text)
    assert.matches("\n  3%.0 +Linear%(256, 5%) +%(2, 5%) +1,285 +2,560 +5,140\n", text)
  end)

  it("counts a module that is called twice twice in work and once in size", function()
    local x = nn.Placeholder{false, 4}
    local a = nn.Linear(4)
    local s = nn.Functional{inputs = x, outputs = a(a(x))}:summary(3, 4)
    assert.are.equal(20, s.parameters)
    assert.are.equal(2 * 3 * 16, s.macs)
    assert.are.equal(2, s[2].calls)
  end)

  it("counts the products of attention and of recurrent layers", function()
    local s = nn.MultiheadAttention(8, 2, {batch_first = true}):summary({2, 5, 8}, {2, 7, 8}, {2, 7, 8})
    -- projections of queries, keys, values and outputs; scores and sums
    assert.are.equal(10 * 64 + 14 * 64 + 14 * 64 + 10 * 64 + 2 * 2 * 5 * 7 * 8, s.macs)
    assert.are.equal(2 * 5 * 4 * (3 * 4 + 4 * 4), nn.LSTM(4, {batch_first = true}):summary(2, 5, 3).macs)
    local m = require "aijit.model"
    assert.are.equal(2 * 3 * (4 * 5 + 4), nn.Bilinear(4, 5, 3):summary({2, 4}, {2, 5}).macs)
    assert.are.equal(4 * 25 * 27, m.conv(3, 4, {scale_w = true}):summary(1, 3, 5, 5).macs)
    assert.are.equal(4 * 25 * 27 + 6 * 3, m.modconv(3, 4, 6, {modtype = "weight"}):summary({1, 3, 5, 5}, {1, 6}).macs)
    assert.are.equal(4 * 25 * 27 + 6 * 3, m.modconv(3, 4, 6, {modtype = "weight", stride = 0.5}):summary({1, 3, 5, 5}, {1, 6}).macs)
  end)

  it("wants numbers, and without a shape is the title", function()
    assert.matches("a size is false", message_of(function() return nn.Linear(3):summary{false, 4} end))
    assert.are.equal("Linear 4 -> 3", nn.Linear(4, 3):summary())
  end)
end)

describe("pieces and slopes", function()
  it("of tensor_split are as equal as can be, or end before positions", function()
    local x = ai.arange(1, 7)
    local function sizes(list)
      local s = {}
      for i, t in ipairs(list) do s[i] = t:size(1) end
      return s
    end
    assert.are.same({3, 2, 2}, sizes(x:tensor_split(3)))
    assert.are.same({2, 0, 3, 2}, sizes(x:tensor_split {3, 3, 6}))
    assert.are.same({6, 1}, sizes(x:tensor_split {-1}))
    assert.are.same({1, 1, 1, 1, 1, 1, 1, 0}, sizes(x:tensor_split(8)))
    assert.has_error(function() x:tensor_split(0) end, "tensor_split: the number of pieces is 0, and must be whole and at least 1")
    assert.has_error(function() x:hsplit(2) end, "hsplit: size 7 along dimension 1 does not divide into 2 pieces")
    assert.has_error(function() x:vsplit(1) end, "vsplit: a tensor of 1 dimensions, where at least 2 are wanted")
  end)

  it("of gradient are exact for parabolas, of unequal steps too", function()
    local at = ai.tensor({0, 1, 3, 4, 7}, {dtype = "f64"})
    local slope = (at * at):gradient{spacing = {at}, edge_order = 2}[1]
    assert.is_true((slope - 2 * at):abs():max():item() < 1e-12)
    assert.has_error(function() at:gradient{edge_order = 3} end, "gradient: edge_order is 3, and must be 1 or 2")
    assert.has_error(function() at:gradient{dim = 2} end, "gradient: dimension 2 of 1")
    assert.has_error(function() at:gradient{dim = {1, -1}} end, "gradient: dimension 1 is named twice")
    assert.has_error(function() ai.ones(1):gradient() end, "gradient: dimension 1 has size 1, and edge_order 1 wants at least 2")
  end)

  it("put back by select_scatter and its like leave the original alone, and both have gradients", function()
    local x, src = ai.zeros(2, 3):requires_grad_(), ai.ones(3):requires_grad_()
    local y = x:select_scatter(src, 1, 2)
    assert.are.same({{0, 0, 0}, {1, 1, 1}}, y:totable())
    assert.are.same({{0, 0, 0}, {0, 0, 0}}, x:totable())
    y:sum():backward()
    assert.are.same({{1, 1, 1}, {0, 0, 0}}, x.grad:totable())
    assert.are.same({1, 1, 1}, src.grad:totable())
    assert.has_error(function() x:select_scatter(ai.ones(2), 1, 1) end, "select_scatter: (2, 3) and (2): src must have the sizes of what it replaces: (3)")
  end)
end)

describe("a derivative that is not known", function()
  it("is an error that says by which tensor", function()
    local a, x = ai.tensor{2}:requires_grad_(), ai.tensor{1.5}:requires_grad_()
    assert.has_error(function() a:igamma(x):sum():backward() end, "igamma: its derivative by the first tensor is not known; detach that one")
    a:detach():igamma(x):sum():backward()
    assert.is_true(x.grad:item() > 0)
  end)
end)
