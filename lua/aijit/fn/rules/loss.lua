--- vmap's rules for losses: the errors of all examples by one call, then each example's own reduction.

local ai = require "aijit"
local Tensor = require "aijit.bindings.tensor"
local op = require "aijit.bindings.op"

---@param rules table<string, function>
---@param t aijit.fn.RuleTools
return function(rules, t)
  local new, value_of, spread, lifted = t.new, t.value_of, t.spread, t.lifted

  --- An example's errors reduced, as batched tensors.
  local function reduced(e, reduction)
    if reduction == "none" then return e.value end
    return (reduction == "sum" and e:sum() or e:mean()).value
  end

  --- Losses whose errors broadcast as those of elementwise ops: all by one call without reduction.
  local function elementwise(level, name, ...)
    local args, n, place, rank = {...}, 0, nil, 0
    for i, p in ipairs(op.named[name].params) do
      if p.name == "reduction" then place = i end
      n = math.max(n, i)
      if ai.is_tensor(args[i]) or t.is_batched(args[i]) then rank = math.max(rank, args[i]:dim()) end
    end
    for i = 1, n do
      if ai.is_tensor(args[i]) or t.is_batched(args[i]) then args[i] = lifted(args[i], level, rank) end
    end
    -- Inputs and targets have one shape.
    local shapes = {}
    for i, p in ipairs(op.named[name].params) do
      if p.type == "aj_tensor *" and not p.default and args[i] then shapes[#shapes + 1] = i end
    end
    local size = {}
    for _, i in ipairs(shapes) do
      for d, s in ipairs(args[i]:dim() > rank and args[i]:size() or {1, unpack(args[i]:size())}) do size[d] = math.max(size[d] or 1, s) end
    end
    for _, i in ipairs(shapes) do args[i] = args[i]:expand(size) end
    local reduction = args[place] or "mean"
    args[place] = "none"
    return reduced(new(Tensor[name](unpack(args, 1, n)), level), reduction)
  end
  for _, name in ipairs {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "pseudo_huber_loss", "log_cosh_loss", "bce_loss",
                         "bce_with_logits", "hinge_loss", "soft_margin_loss", "margin_ranking_loss", "hinge_embedding_loss",
                         "triplet_margin_loss", "multilabel_soft_margin_loss", "poisson_nll_loss", "gaussian_nll_loss"} do
    rules[name] = elementwise
  end

  function rules.kl_div(level, _, x, target, reduction, log_target)
    local e = log_target and target:exp() * (target - x) or ai.f.kl_error(x, target)
    if reduction == "batchmean" then return value_of(e:sum() / x:size(1), level) end
    return reduced(e, reduction)
  end

  function rules.cosine_embedding_loss(level, _, a, b, target, margin, reduction)
    local tiny = 1e-12
    local cosine = (a * b):sum(-1) / ((a:square():sum(-1) + tiny) * (b:square():sum(-1) + tiny)):sqrt()
    local nothing = cosine * 0
    local e = ai.f.where(target:eq(1), 1 - cosine, nothing) + ai.f.where(target:eq(-1), (cosine - (margin or 0)):relu(), nothing)
    return reduced(t.is_batched(e, level) and e or new(spread(e, level), level), reduction)
  end

  --- Rows of all examples together; a weight for each class that differs between examples is multiplied afterwards.
  function rules.multi_margin_loss(level, _, x, target, p, margin, weight, reduction)
    local shared = not t.is_batched(weight, level) and weight or nil
    local rows, classes = spread(x, level), spread(target, level)
    if x:dim() == 2 then rows, classes = rows:flatten(1, 2), classes:flatten(1, 2) end
    local e = ai.f.multi_margin_loss(rows, classes:reshape(-1), {p = p, margin = margin, weight = shared, reduction = "none"})
    e = new(x:dim() == 2 and e:reshape(t.size(level), -1) or e, level)
    if weight and not shared then e = e * weight:gather(1, target:reshape(-1)):reshape(e:size()) end
    return reduced(e, reduction)
  end

  function rules.multilabel_margin_rows(level, name, x, target)
    local e = Tensor[name](spread(x, level):flatten(1, 2), spread(target, level):flatten(1, 2))
    return e:reshape(t.size(level), -1)
  end
  function rules.multilabel_margin_loss(level, name, x, target, reduction)
    local rows, classes = spread(x, level), spread(target, level)
    if x:dim() == 2 then rows, classes = rows:flatten(1, 2), classes:flatten(1, 2)
    else rows, classes = rows:reshape(t.size(level), -1), classes:reshape(t.size(level), -1) end
    local e = Tensor[name](rows, classes, "none")
    return reduced(new(x:dim() == 2 and e:reshape(t.size(level), -1) or e, level), reduction)
  end

  --- -log of the probabilities at the targets, from log-probabilities whose classes lie along dim; 0 where it is ignored. And
  --- the weight of each, and what is ignored.
  local function picked(log_p, target, weight, ignore_index, dim)
    local ignored = target:eq(ignore_index)
    local at = target:masked_fill(ignored, 1)
    local scores = log_p:dim() == 1 and log_p:gather(1, at:reshape(1)):reshape({}) or log_p:gather(dim, at:unsqueeze(dim)):squeeze(dim)
    local w = weight and weight:gather(1, at:reshape(-1)):reshape(at:size()) or ai.ones({}, {dtype = log_p.dtype, device = log_p.device})
    w = (w + at:to(log_p.dtype) * 0):masked_fill(ignored, 0)
    return -scores * w, w, ignored
  end

  local function class_dim(x) return x:dim() == 1 and 1 or 2 end

  local function finish(level, e, w, reduction)
    local y
    if reduction == "none" then y = e
    elseif reduction == "sum" then y = e:sum()
    else y = e:sum() / w:sum() end
    return value_of(y, level)
  end

  function rules.nll_loss(level, _, x, target, weight, ignore_index, reduction)
    local e, w = picked(x, target, weight, ignore_index or -100, class_dim(x))
    return finish(level, e, w, reduction)
  end

  function rules.cross_entropy(level, _, x, target, weight, ignore_index, reduction, smoothing)
    local dim = class_dim(x)
    local log_p, smooth, n = x:log_softmax(dim), smoothing or 0, x:size(dim)
    local row = {n}
    for i = dim + 1, x:dim() do row[i - dim + 1] = 1 end
    local each = weight and log_p * weight:reshape(row) or log_p
    if target:is_floating_point() then
      local e = -(each * (target * (1 - smooth) + smooth / n)):sum(dim)
      if reduction == "none" or reduction == "sum" then return finish(level, e, nil, reduction) end
      return value_of(e:sum() / (x:dim() == 1 and 1 or e:numel()), level)
    end
    local e, w, ignored = picked(log_p, target, weight, ignore_index or -100, dim)
    if smooth > 0 then e = e * (1 - smooth) - each:sum(dim):masked_fill(ignored, 0) * (smooth / n) end
    return finish(level, e, w, reduction)
  end
  rules.cross_entropy_index = rules.cross_entropy
end
