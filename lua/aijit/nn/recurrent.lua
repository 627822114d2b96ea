--- RNN, GRU, LSTM, and their cells. Weights have PyTorch's names and layout: weight_ih_l0 (gates * hidden, input),
--- weight_hh_l0 (gates * hidden, hidden), bias_ih_l0, bias_hh_l0 (gates * hidden); then _l0_reverse, _l1, and so on.
--- Gates stand in PyTorch's order: i f g o for the LSTM, r z n for the GRU.

local ai = require "aijit"
local init = require "aijit.nn.initial"
local layers = require "aijit.nn.layer"
local packed = require "aijit.nn.packed"
local scan = require "aijit.nn.scan"
local op = require "aijit.bindings.op"
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local layer = layers.layer
local nn = {}

local function kind_of(self)
  local name = getmetatable(self).kind
  if name ~= "rnn" then return name end
  if self.nonlinearity ~= "tanh" and self.nonlinearity ~= "relu" then
    raise(("%s: nonlinearity is \"tanh\" or \"relu\""):format(self:title()))
  end
  return "rnn_" .. self.nonlinearity
end

local function reset_uniform(self)
  local bound = self.hidden_size > 0 and 1 / math.sqrt(self.hidden_size) or 0
  for _, slot in ipairs(self:slots("parameter")) do init.uniform_(slot.value, -bound, bound) end
end

local function shape_text(x) return "(" .. table.concat(x.shape, ", ") .. ")" end

local function wanted(self, what, x, ...)
  if not ai.is_tensor(x) then raise(("%s: the first %s is a %s, not a tensor"):format(self:title(), what, type(x))) end
  local shape, sizes = x.shape, {...}
  local same = #shape == #sizes
  for i, size in ipairs(sizes) do same = same and shape[i] == size end
  if not same then
    raise(("%s: the first %s is %s; (%s) is wanted"):format(self:title(), what, shape_text(x), table.concat(sizes, ", ")))
  end
  return x
end

-- -- Layers ------------------------------------------------------------------------------------------------------

--- What RNN, GRU and LSTM have in common.
---@class aijit.nn.Recurrent: aijit.nn.Layer
local Recurrent = ai.class("Recurrent", layers.Layer)

local options = " num_layers=1 bias=true batch_first=false dropout=0 bidirectional=false"
local returns = " return_sequences=true return_state=true"

function Recurrent:check()
  kind_of(self)
  local projected = self.proj_size or 0
  if projected < 0 or projected > 0 and projected >= self.hidden_size then
    raise(("%s: proj_size must be smaller than hidden_size, which is %d"):format(self:title(), self.hidden_size))
  end
end

function Recurrent:build_for(x)
  return layers.Layer.build_for(self, packed.is_packed(x) and x.data or x)
end

function Recurrent:sizes(x) self.input_size = x:size(-1) end
function Recurrent:sizes_from(state) self.input_size = state.weight_ih_l0:size(2) end

--- The size of h, and so of each direction's output.
local function state_size(self)
  return (self.proj_size or 0) > 0 and self.proj_size or self.hidden_size
end

--- Calls visit(suffix, layer, backwards) for each layer and direction.
local function each_direction(self, visit)
  for i = 1, self.num_layers do
    visit(("_l%d"):format(i - 1), i, false)
    if self.bidirectional then visit(("_l%d_reverse"):format(i - 1), i, true) end
  end
end

function Recurrent:build()
  local rows = scan.gates[kind_of(self)] * self.hidden_size
  local size = state_size(self)
  each_direction(self, function(suffix, i)
    self:parameter("weight_ih" .. suffix, rows, i == 1 and self.input_size or size * (self.bidirectional and 2 or 1))
    self:parameter("weight_hh" .. suffix, rows, size)
    if self.bias then
      self:parameter("bias_ih" .. suffix, rows)
      self:parameter("bias_hh" .. suffix, rows)
    end
    if size ~= self.hidden_size then self:parameter("weight_hr" .. suffix, size, self.hidden_size) end
  end)
end

Recurrent.reset = reset_uniform

local function weights(self, suffix)
  return {ih = self["weight_ih" .. suffix], hh = self["weight_hh" .. suffix], hr = self["weight_hr" .. suffix],
          b_ih = self["bias_ih" .. suffix], b_hh = self["bias_hh" .. suffix]}
end

local function reorder(x, places)
  if not x then return nil end
  return f.index_select(x, 2, ai.tensor(places, {dtype = "i64", device = x.device}))
end

--- The first states, (layers * directions, N, size): those given, or zeros.
local function first_states(self, rows, n, unbatched, state, order)
  local lstm = getmetatable(self).kind == "lstm"
  local h, c = state, nil
  if lstm and state ~= nil then
    if type(state) ~= "table" then raise(("%s: the state is a table {h, c}"):format(self:title())) end
    h, c = state[1], state[2]
  end
  local count = self.num_layers * (self.bidirectional and 2 or 1)
  local function first(given, what, size)
    if given == nil then return ai.zeros({count, n, size}, {dtype = rows.dtype, device = rows.device}) end
    if unbatched then given = f.unsqueeze(wanted(self, what, given, count, size), 2) end
    wanted(self, what, given, count, n, size)
    return order and reorder(given, order) or given
  end
  return first(h, "h", state_size(self)), lstm and first(c, "c", self.hidden_size) or nil
end

--- All layers over rows that stand one step after another.
local function run(self, rows, sizes, h0, c0)
  local kind, last_h, last_c, both, k = kind_of(self), {}, {}, {}, 0
  each_direction(self, function(suffix, i, backwards)
    k = k + 1
    local y, h, c = scan.run(kind, rows, sizes, f.select(h0, 1, k), c0 and f.select(c0, 1, k), weights(self, suffix), backwards)
    last_h[k], last_c[k] = h, c
    if self.bidirectional and not backwards then
      both[1] = y
      return
    end
    rows = self.bidirectional and f.cat({both[1], y}, 2) or y
    if self.dropout > 0 and self.training and i < self.num_layers then rows = f.dropout(rows, {p = self.dropout}) end
  end)
  return rows, f.stack(last_h, 1), c0 and f.stack(last_c, 1)
end

--- What forward returns: all, or what the arguments say.
local function result(self, y, h, c)
  if not self.return_sequences then
    y = f.select(h, 1, -1)
    if self.bidirectional then y = f.cat({f.select(h, 1, -2), y}, -1) end
  end
  if not self.return_state then return y end
  return y, c and {h, c} or h
end

--- y, state = layer(x, state). Without a state it starts from zeros; what is returned may be given again.
--- x: (T, N, input), or (N, T, input) with batch_first, or (T, input), or a PackedSequence. y: as x, with hidden_size
--- (proj_size) features, twice as many when bidirectional: the h of the last layer at every step.
--- state: h, (num_layers * directions, N, hidden_size), of the last step of each sequence; of the LSTM a table {h, c}.
--- With return_sequences = false y is the h of the last layer at the end of each sequence, (N, features): of the direction
--- backwards that is its first step. With return_state = false y comes alone.
---@param x aijit.Tensor|aijit.nn.PackedSequence
---@param state? aijit.Tensor|aijit.Tensor[]
---@return aijit.Tensor|aijit.nn.PackedSequence y
---@return aijit.Tensor|aijit.Tensor[]? state
function Recurrent:forward(x, state)
  local is_packed = packed.is_packed(x)
  local sizes, unbatched = {}, false
  local rows, n
  if is_packed then
    rows, sizes, n = x.data, x.batch_sizes, x.batch_sizes[1]
  else
    if not op.is_operand(x) then raise(("%s: the input is a %s, not a tensor or a packed sequence"):format(self:title(), type(x))) end
    unbatched = x:dim() == 2
    if unbatched then x = f.unsqueeze(x, 2) end
    if x:dim() ~= 3 then
      raise(("%s: the input is %s; (%s, input_size) is wanted"):format(self:title(), shape_text(x), self.batch_first and "N, T" or "T, N"))
    end
    if self.batch_first and not unbatched then x = f.transpose(x, 1, 2) end
    n = x:size(2)
    for t = 1, x:size(1) do sizes[t] = n end
    rows = f.flatten(x, 1, 2)
  end
  if rows:size(2) ~= self.input_size then
    raise(("%s: the input has %d features, and %d are wanted"):format(self:title(), rows:size(2), self.input_size))
  end
  if #sizes == 0 then raise(("%s: the sequence has no steps"):format(self:title())) end
  local h0, c0 = first_states(self, rows, n, unbatched, state, is_packed and x.sorted_indices)
  local y, h, c = run(self, rows, sizes, h0, c0)
  if is_packed then
    h, c = reorder(h, x.unsorted_indices), reorder(c, x.unsorted_indices)
    return result(self, x:with(y), h, c)
  end
  y = y:reshape(#sizes, n, -1)
  if unbatched then
    y, h, c = f.squeeze(y, 2), f.squeeze(h, 2), c and f.squeeze(c, 2)
  elseif self.batch_first then
    y = f.transpose(y, 1, 2)
  end
  return result(self, y, h, c)
end

--- h' = tanh(W_ih x + b_ih + W_hh h + b_hh) at each step; nonlinearity "relu" for tanh.
---@class aijit.nn.RNN: aijit.nn.Recurrent
local RNN = layer("RNN", "input_size? hidden_size" .. options .. " nonlinearity=tanh" .. returns, Recurrent)
RNN.kind = "rnn"
nn.RNN = RNN

--- Gated recurrent units (Cho and others, 2014).
---@class aijit.nn.GRU: aijit.nn.Recurrent
local GRU = layer("GRU", "input_size? hidden_size" .. options .. returns, Recurrent)
GRU.kind = "gru"
nn.GRU = GRU

--- Long short-term memory (Hochreiter and Schmidhuber, 1997); proj_size: h is W_hr times the cell's output (Sak and
--- others, 2014).
---@class aijit.nn.LSTM: aijit.nn.Recurrent
local LSTM = layer("LSTM", "input_size? hidden_size" .. options .. " proj_size=0" .. returns, Recurrent)
LSTM.kind = "lstm"
nn.LSTM = LSTM

-- -- Cells -------------------------------------------------------------------------------------------------------

--- One step of a recurrent layer.
---@class aijit.nn.RecurrentCell: aijit.nn.Layer
local Cell = ai.class("RecurrentCell", layers.Layer)

function Cell:check() kind_of(self) end
function Cell:sizes(x) self.input_size = x:size(-1) end
function Cell:sizes_from(state) self.input_size = state.weight_ih:size(2) end

function Cell:build()
  local rows = scan.gates[kind_of(self)] * self.hidden_size
  self:parameter("weight_ih", rows, self.input_size)
  self:parameter("weight_hh", rows, self.hidden_size)
  if self.bias then
    self:parameter("bias_ih", rows)
    self:parameter("bias_hh", rows)
  end
end

Cell.reset = reset_uniform

--- h = cell(x, h); of the LSTMCell h, c = cell(x, {h, c}). x: (N, input) or (input); h: (N, hidden) or (hidden); zeros
--- unless given.
---@param x aijit.Tensor
---@param state? aijit.Tensor|aijit.Tensor[]
---@return aijit.Tensor h
---@return aijit.Tensor? c
function Cell:forward(x, state)
  local lstm = getmetatable(self).kind == "lstm"
  local h, c = state, nil
  if lstm and state ~= nil then
    if type(state) ~= "table" then raise(("%s: the state is a table {h, c}"):format(self:title())) end
    h, c = state[1], state[2]
  end
  local single = x:dim() == 1
  if single then x, h, c = f.unsqueeze(x, 1), h and f.unsqueeze(h, 1), c and f.unsqueeze(c, 1) end
  local function first(given, what)
    if given == nil then return ai.zeros({x:size(1), self.hidden_size}, {dtype = x.dtype, device = x.device}) end
    return wanted(self, what, given, x:size(1), self.hidden_size)
  end
  h, c = first(h, "h"), lstm and first(c, "c") or nil
  h, c = scan.cell[kind_of(self)](f.linear(x, self.weight_ih, self.bias_ih), h, c, self.weight_hh, self.bias_hh)
  if single then h, c = f.squeeze(h, 1), c and f.squeeze(c, 1) end
  return h, c
end

--- One step of an RNN.
---@class aijit.nn.RNNCell: aijit.nn.RecurrentCell
local RNNCell = layer("RNNCell", "input_size? hidden_size bias=true nonlinearity=tanh", Cell)
RNNCell.kind = "rnn"
nn.RNNCell = RNNCell

--- One step of a GRU.
---@class aijit.nn.GRUCell: aijit.nn.RecurrentCell
local GRUCell = layer("GRUCell", "input_size? hidden_size bias=true", Cell)
GRUCell.kind = "gru"
nn.GRUCell = GRUCell

--- One step of an LSTM.
---@class aijit.nn.LSTMCell: aijit.nn.RecurrentCell
local LSTMCell = layer("LSTMCell", "input_size? hidden_size bias=true", Cell)
LSTMCell.kind = "lstm"
nn.LSTMCell = LSTMCell

return nn
