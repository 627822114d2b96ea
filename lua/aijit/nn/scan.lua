--- A recurrent cell run along a sequence: one layer in one direction. Everything recurrent goes through `scan.run`.
---
--- A sequence is its rows one time step after another: rows (sum of sizes, features), sizes[t] of them at step t, where
--- sizes never grow: samples are sorted by length, longest first, as in a packed sequence.

local ai = require "aijit"

local f = ai.f
local scan = {}

--- How many gates each cell's weights hold.
scan.gates = {rnn_tanh = 1, rnn_relu = 1, gru = 3, lstm = 4}

local function gate(x, i, hidden) return f.slice(x, 2, (i - 1) * hidden + 1, i * hidden) end

--- One step: from what the input adds to the gates, (n, gates * hidden), to the new state.
--- lstm (Hochreiter and Schmidhuber, 1997): i, f, g, o; c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = sigmoid(o) tanh(c').
--- gru (Cho and others, 2014): r, z, n; n = tanh(x_n + r (W_hn h + b_hn)), h' = (1 - z) n + z h.
---@type table<string, fun(gx: aijit.Tensor, h: aijit.Tensor, c: aijit.Tensor?, w_hh: aijit.Tensor, b_hh: aijit.Tensor?): aijit.Tensor, aijit.Tensor?>
scan.cell = {}

function scan.cell.rnn_tanh(gx, h, _, w_hh, b_hh) return f.tanh(gx + f.linear(h, w_hh, b_hh)) end
function scan.cell.rnn_relu(gx, h, _, w_hh, b_hh) return f.relu(gx + f.linear(h, w_hh, b_hh)) end

function scan.cell.gru(gx, h, _, w_hh, b_hh)
  local size = h:size(2)
  local gh = f.linear(h, w_hh, b_hh)
  local rz = f.sigmoid(f.slice(gx, 2, 1, 2 * size) + f.slice(gh, 2, 1, 2 * size))
  local n = f.tanh(gate(gx, 3, size) + gate(rz, 1, size) * gate(gh, 3, size))
  return n + gate(rz, 2, size) * (h - n)
end

function scan.cell.lstm(gx, h, c, w_hh, b_hh)
  local size = c:size(2)
  local g = gx + f.linear(h, w_hh, b_hh)
  local if_ = f.sigmoid(f.slice(g, 2, 1, 2 * size))
  local new_c = gate(if_, 2, size) * c + gate(if_, 1, size) * f.tanh(gate(g, 3, size))
  return f.sigmoid(gate(g, 4, size)) * f.tanh(new_c), new_c
end

local function head(x, n) return n == x:size(1) and x or f.slice(x, 1, 1, n) end
local function tail(x, n) return f.slice(x, 1, n + 1, -1) end

--- The names of the cells for f.rnn_layer.
local modes = {rnn_tanh = "tanh", rnn_relu = "relu", gru = "gru", lstm = "lstm"}

--- Sequences of one length, all steps in one op.
local function run_fused(kind, gx, steps, n, h, c, w, backwards)
  local y, cells = f.rnn_layer(gx:reshape(steps, n, -1), h, c, w.hh, w.b_hh, {mode = modes[kind], reverse = backwards or false})
  local last = backwards and 1 or steps
  return f.flatten(y, 1, 2), f.select(y, 1, last), c and f.select(cells, 1, last)
end

--- Runs a cell along a sequence. h and c are the first state of all samples, in the order of the sequence.
---@param kind "rnn_tanh"|"rnn_relu"|"gru"|"lstm"
---@param rows aijit.Tensor (total, features)
---@param sizes integer[] samples at each step, never growing
---@param h aijit.Tensor (N, hidden); with a projection (N, projected)
---@param c aijit.Tensor? (N, hidden), of lstm
---@param w {ih: aijit.Tensor, hh: aijit.Tensor, b_ih: aijit.Tensor?, b_hh: aijit.Tensor?, hr: aijit.Tensor?}
---@param backwards? boolean from each sample's last step to its first
---@return aijit.Tensor y (total, hidden) the h of every step
---@return aijit.Tensor h (N, hidden) the last one of each sample
---@return aijit.Tensor? c
function scan.run(kind, rows, sizes, h, c, w, backwards)
  local cell, w_hh, b_hh, w_hr = scan.cell[kind], w.hh, w.b_hh, w.hr
  local gx = f.linear(rows, w.ih, w.b_ih)
  local out, steps = {}, #sizes
  if not w_hr and sizes[steps] == sizes[1] then return run_fused(kind, gx, steps, sizes[1], h, c, w, backwards) end
  local function step(t, first, n)
    h, c = cell(f.slice(gx, 1, first, first + n - 1), h, c, w_hh, b_hh)
    if w_hr then h = f.linear(h, w_hr) end
    out[t] = h
  end
  if backwards then
    local h0, c0, first = h, c, rows:size(1) + 1
    local running = sizes[steps]
    h, c = head(h0, running), c and head(c0, running)
    for t = steps, 1, -1 do
      local n = sizes[t]
      if n > running then
        h = f.cat({h, f.slice(h0, 1, running + 1, n)}, 1)
        c = c and f.cat({c, f.slice(c0, 1, running + 1, n)}, 1)
        running = n
      end
      first = first - n
      step(t, first, n)
    end
    return f.cat(out, 1), h, c
  end
  local first, ended_h, ended_c = 1, {}, {}
  for t = 1, steps do
    local n = sizes[t]
    if n < h:size(1) then
      table.insert(ended_h, 1, tail(h, n))
      h = head(h, n)
      if c then
        table.insert(ended_c, 1, tail(c, n))
        c = head(c, n)
      end
    end
    step(t, first, n)
    first = first + n
  end
  if #ended_h > 0 then
    h = f.cat({h, unpack(ended_h)}, 1)
    c = c and f.cat({c, unpack(ended_c)}, 1)
  end
  return f.cat(out, 1), h, c
end

return scan
