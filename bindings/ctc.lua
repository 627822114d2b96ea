--- The loss of connectionist temporal classification (Graves and others, 2006): how unlikely a sequence of labels is under the
-- probabilities of each step, whatever steps its labels stand at. Composed of ops, so that its gradients have gradients.

local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local Tensor = require "aijit.bindings.tensor"
local construct = require "aijit.bindings.construct"
local f = op.functions

local ctc = {}

-- Stands for the logarithm of 0: of two of these logaddexp has a slope, of two infinities it has none.
local NEVER = -1e30

local KNOWN = {"blank", "reduction", "zero_infinity"}
local KNOWN_SET = {blank = true, reduction = true, zero_infinity = true}

local function lengths_of(name, v, n, most)
  if lib.is_tensor(v) then
    if v.device == "meta" then return nil end
    v = Tensor.totable(v)
  end
  if type(v) == "number" then v = {v} end
  if type(v) ~= "table" then op.helper.bad("ctc_loss", name == "input_lengths" and 3 or 4, name, "a tensor or a table of lengths", v) end
  if #v ~= n then lib.raise(("ctc_loss: %d %s for %d sequences"):format(#v, name, n)) end
  for i = 1, n do
    if type(v[i]) ~= "number" or v[i] < 0 or v[i] > most or v[i] % 1 ~= 0 then
      lib.raise(("ctc_loss: %s %d is %s, and must be from 0 to %d"):format(name, i, tostring(v[i]), most))
    end
  end
  return v
end

-- The labels of each sequence as a table; targets are (N, S), or all in one row.
local function labels_of(targets, lengths, classes, blank)
  local total = 0
  for _, n in ipairs(lengths) do total = total + n end
  local flat, rows, at = Tensor.totable(targets), {}, 0
  if Tensor.dim(targets) == 1 and total ~= #flat then
    lib.raise(("ctc_loss: the target_lengths add up to %d, and there are %d targets"):format(total, #flat))
  end
  for i, n in ipairs(lengths) do
    local row, from, shift = {}, flat, at
    if Tensor.dim(targets) == 2 then from, shift = flat[i], 0 end
    for k = 1, n do
      local label = from[shift + k]
      if label < 1 or label > classes or label % 1 ~= 0 then lib.raise(("ctc_loss: label %s of %d classes"):format(tostring(label), classes)) end
      if label == blank then lib.raise(("ctc_loss: label %d is the blank"):format(label)) end
      row[k] = label
    end
    rows[i], at = row, at + n
  end
  return rows
end

--- The loss of label sequences under log-probabilities of each step.
---@param log_probs aijit.Tensor  (T, N, C), or (T, C) of one sequence
---@param targets aijit.Tensor  labels from 1: (N, S), or those of all sequences in one row
---@param input_lengths integer[]|aijit.Tensor  of each sequence, at most T
---@param target_lengths integer[]|aijit.Tensor
---@param blank integer|table?  the label between others, 1; or a table of what follows by name
---@param reduction string?  mean (of the losses divided by their target lengths), sum or none
---@param zero_infinity boolean?  a loss of a target that is too long for its input is 0, and not infinite
---@return aijit.Tensor
function ctc.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, reduction, zero_infinity)
  if type(blank) == "table" then
    op.helper.read_options("ctc_loss", blank, KNOWN_SET, KNOWN)
    blank, reduction, zero_infinity = blank.blank, blank.reduction, blank.zero_infinity
  end
  blank, reduction = blank or 1, reduction or "mean"
  if reduction ~= "mean" and reduction ~= "sum" and reduction ~= "none" then
    lib.raise(("ctc_loss: the reduction is \"mean\", \"sum\" or \"none\", not %s"):format(lib.describe(reduction)))
  end
  if not lib.is_tensor(log_probs) then op.helper.bad("ctc_loss", 1, "log_probs", "a tensor", log_probs) end
  if not lib.is_tensor(targets) then op.helper.bad("ctc_loss", 2, "targets", "a tensor", targets) end
  local dims = Tensor.dim(log_probs)
  if dims ~= 3 and dims ~= 2 or not Tensor.is_floating_point(log_probs) then
    lib.raise(("ctc_loss: log_probs are floats of (steps, sequences, classes) or (steps, classes), not %s of %d dimensions"):format(log_probs.dtype, dims))
  end
  local single = dims == 2
  if single then log_probs = f.unsqueeze(log_probs, 2) end
  local T, N, classes = unpack(Tensor.size(log_probs))
  if type(blank) ~= "number" or blank < 1 or blank > classes then lib.raise(("ctc_loss: blank is %s of %d classes"):format(lib.describe(blank), classes)) end
  local of = Tensor.dim(targets)
  if Tensor.is_floating_point(targets) or of ~= 1 and of ~= 2 or of == 2 and Tensor.size(targets, 1) ~= N then
    lib.raise(("ctc_loss: targets are integers of (%d, labels), or of all labels in one row"):format(N))
  end
  if T == 0 then lib.raise "ctc_loss: log_probs have no steps" end
  input_lengths = lengths_of("input_lengths", input_lengths, N, T)
  target_lengths = lengths_of("target_lengths", target_lengths, N, of == 2 and Tensor.size(targets, 2) or Tensor.numel(targets))
  if log_probs.device == "meta" or targets.device == "meta" then
    local each = f.select(f.select(log_probs, 1, 1), 2, 1)
    return reduction ~= "none" and f.sum(each) or single and f.select(each, 1, 1) or each
  end
  local labels = labels_of(targets, target_lengths, classes, blank)
  local longest = 0
  for _, n in ipairs(target_lengths) do longest = math.max(longest, n) end

  -- The labels with blanks around each; from which of them a step may pass over the blank before.
  local width, around, skips, ends = 2 * longest + 1, {}, {}, {}
  for i = 1, N do
    around[i], skips[i] = {}, {}
    for s = 1, width do
      local label = s % 2 == 0 and labels[i][s / 2] or blank
      around[i][s] = label
      skips[i][s] = s > 2 and label ~= blank and label ~= around[i][s - 2]
    end
    ends[i] = {2 * target_lengths[i] + 1, math.max(1, 2 * target_lengths[i])}
  end
  local where = {device = log_probs.device}
  local function made(v, dtype) where.dtype = dtype return construct.tensor(v, where) end
  around, skips = made(around, "i64"), made(skips, "bool")
  local half = log_probs.dtype == "f16" or log_probs.dtype == "bf16"
  local steps = f.clamp_min(f.gather(half and Tensor.float(log_probs) or log_probs, 3, f.expand(f.unsqueeze(around, 1), {T, N, width})), NEVER)

  local starts = {}
  for s = 1, width do starts[s] = s <= 2 end
  local here = Tensor.where(made({starts}, "bool"), f.select(steps, 1, 1), NEVER)
  local first = here
  for t = 2, T do
    local from = f.logaddexp(here, f.constant_pad(here, {0, 1}, {0, -1}, NEVER))
    if width > 2 then from = f.logaddexp(from, Tensor.where(skips, f.constant_pad(here, {0, 2}, {0, -2}, NEVER), NEVER)) end
    local next_ = f.add(from, f.select(steps, 1, t))
    local going, all = {}, true
    for i = 1, N do going[i] = {t <= input_lengths[i]} all = all and going[i][1] end
    here = all and next_ or Tensor.where(made(going, "bool"), next_, here)
  end
  local ended = f.gather(here, 2, made(ends, "i64"))
  local last, before = f.select(ended, 2, 1), f.select(ended, 2, 2)
  local some, none = {}, {}
  for i = 1, N do some[i], none[i] = target_lengths[i] > 0, input_lengths[i] == 0 end
  local total = Tensor.where(made(some, "bool"), f.logaddexp(last, before), last)
  -- Without a step there is only the sequence without a label.
  total = Tensor.where(made(none, "bool"), Tensor.where(made(some, "bool"), f.mul(f.select(first, 2, 1), 0) + NEVER, f.mul(total, 0)), total)
  local loss = f.neg(total)
  loss = Tensor.where(f.gt(loss, -NEVER / 2), zero_infinity and 0 or math.huge, loss)
  if half then loss = Tensor.to(loss, log_probs.dtype) end
  if reduction == "sum" then return f.sum(loss) end
  if reduction == "none" then return single and f.select(loss, 1, 1) or loss end
  local per = {}
  for i, n in ipairs(target_lengths) do per[i] = math.max(1, n) end
  return f.mean(f.div(loss, made(per, loss.dtype)))
end

for name, fn in pairs(ctc) do
  Tensor[name] = op.whole_list(name, fn)
  op.faces[name] = true
end

return ctc
