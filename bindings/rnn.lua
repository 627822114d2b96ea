--- Recurrent networks over sequences, of several layers and both directions: compositions of the op rnn_layer, with the
-- arguments of torch.lstm, torch.gru, torch.rnn_tanh and torch.rnn_relu.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local f = op.functions

local rnn = {}

---@class aijit.RnnOptions
---@field num_layers integer?     1; the layers are counted from the parameters when left out
---@field bidirectional boolean?  false
---@field batch_first boolean?    false: x is (steps, batch, features); true: (batch, steps, features)
---@field bias boolean?           true: of each layer and direction w_ih, w_hh, b_ih, b_hh; false: w_ih, w_hh
---@field dropout number?         0; of the outputs of each layer but the last
---@field training boolean?       true: with dropout

local KNOWN = {num_layers = true, bidirectional = true, batch_first = true, bias = true, dropout = true, training = true}
local NAMES = {"num_layers", "bidirectional", "batch_first", "bias", "dropout", "training"}

-- The state of layer and direction k, or zeros.
local function initial(name, states, k, count, x, hidden)
  if states then
    if Tensor.size(states, 1) ~= count then
      lib.raise(("%s: the state has %d entries, and must have one for each layer and direction, %d"):format(name, Tensor.size(states, 1), count))
    end
    return f.select(states, 1, k)
  end
  local zeros = lib.check(lib.C.aj_full(lib.C.aj_dtype_of(x), lib.ffi.new("aj_ints", 2, {Tensor.size(x, 2), hidden}), lib.C.aj_device_of(x), 0))
  return zeros
end

local function run(name, mode, x, states, cells, params, o)
  o = o or {}
  op.helper.read_options(name, o, KNOWN, NAMES)
  if not lib.is_tensor(x) then op.helper.bad(name, 1, "x", "a tensor", x) end
  if type(params) ~= "table" then op.helper.bad(name, 3, "params", "a table of weights", params) end
  local each, directions = o.bias == false and 2 or 4, o.bidirectional and 2 or 1
  local layers = o.num_layers or #params / (each * directions)
  if #params ~= layers * directions * each then
    lib.raise(("%s: %d weights, where %d layer(s) in %d direction(s) have %d each"):format(name, #params, math.ceil(layers), directions, each))
  end
  local rank = Tensor.dim(x)
  if rank ~= 2 and rank ~= 3 then
    lib.raise(("%s: the input has %d dimensions, and must have 3: steps, batch and features, or 2 without a batch"):format(name, rank))
  end
  local single = rank == 2
  if single then
    x = f.unsqueeze(x, 2)
    states, cells = states and f.unsqueeze(states, 2), cells and f.unsqueeze(cells, 2)
  elseif o.batch_first then x = f.transpose(x, 1, 2) end
  local T, last_h, last_c = Tensor.size(x, 1), {}, {}
  if T == 0 then lib.raise(name .. ": the sequence is empty") end
  local k = 0
  for layer = 1, layers do
    local out = {}
    for direction = 1, directions do
      k = k + 1
      local at, back = (k - 1) * each, direction == 2
      local hidden = Tensor.size(params[at + 2], 2)
      local h = initial(name, states, k, layers * directions, x, hidden)
      local c = mode == "lstm" and initial(name, cells, k, layers * directions, x, hidden) or nil
      local b, d = nil, nil
      if each == 4 then b, d = params[at + 3], params[at + 4] end
      local y, s = f.rnn_layer(f.linear(x, params[at + 1], b), h, c, params[at + 2], d, mode, back)
      local last = back and 1 or T
      last_h[k] = f.select(y, 1, last)
      if c then last_c[k] = f.select(s, 1, last) end
      out[direction] = y
    end
    x = directions == 2 and f.cat(out, 3) or out[1]
    if layer < layers and (o.dropout or 0) > 0 and o.training ~= false then x = f.dropout(x, o.dropout) end
  end
  local h_n, c_n = f.stack(last_h, 1), mode == "lstm" and f.stack(last_c, 1) or nil
  if single then x, h_n, c_n = f.squeeze(x, 2), f.squeeze(h_n, 2), c_n and f.squeeze(c_n, 2)
  elseif o.batch_first then x = f.transpose(x, 1, 2) end
  return x, h_n, c_n
end

--- An LSTM over sequences x.
---@param x aijit.Tensor            (steps, batch, features), or (steps, features)
---@param state {[1]: aijit.Tensor, [2]: aijit.Tensor}?  h and c, each (layers * directions, batch, hidden); nil: zeros
---@param params aijit.Tensor[]     for each layer, and of it each direction: w_ih, w_hh, b_ih, b_hh
---@param o aijit.RnnOptions?
---@return aijit.Tensor output      (steps, batch, directions * hidden)
---@return aijit.Tensor h_n         the last states, in the shape of h
---@return aijit.Tensor c_n
function rnn.lstm(x, state, params, o)
  local h, c
  if state ~= nil then
    if type(state) ~= "table" or not lib.is_tensor(state[1]) or not lib.is_tensor(state[2]) then
      op.helper.bad("lstm", 2, "state", "{h, c}", state)
    end
    h, c = state[1], state[2]
  end
  return run("lstm", "lstm", x, h, c, params, o)
end

--- A GRU over sequences x; state is (layers * directions, batch, hidden), nil for zeros.
---@param x aijit.Tensor
---@param state aijit.Tensor?
---@param params aijit.Tensor[]
---@param o aijit.RnnOptions?
---@return aijit.Tensor output
---@return aijit.Tensor h_n
function rnn.gru(x, state, params, o)
  local y, h = run("gru", "gru", x, state, nil, params, o)
  return y, h
end
--- As gru, of plain recurrent cells with tanh.
---@param x aijit.Tensor
---@param state aijit.Tensor?
---@param params aijit.Tensor[]
---@param o aijit.RnnOptions?
---@return aijit.Tensor output
---@return aijit.Tensor h_n
function rnn.rnn_tanh(x, state, params, o)
  local y, h = run("rnn_tanh", "tanh", x, state, nil, params, o)
  return y, h
end
--- As gru, of plain recurrent cells with relu.
---@param x aijit.Tensor
---@param state aijit.Tensor?
---@param params aijit.Tensor[]
---@param o aijit.RnnOptions?
---@return aijit.Tensor output
---@return aijit.Tensor h_n
function rnn.rnn_relu(x, state, params, o)
  local y, h = run("rnn_relu", "relu", x, state, nil, params, o)
  return y, h
end

return rnn
