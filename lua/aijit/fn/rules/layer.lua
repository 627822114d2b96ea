--- vmap's rules for convolutions, pools, norms, resampling and recurrent layers: the examples join the batch that these ops
--- have anyway, or, where each example has a weight of its own, its channels.

local ai = require "aijit"
local Tensor = require "aijit.bindings.tensor"
local op = require "aijit.bindings.op"

---@param rules table<string, function>
---@param t aijit.fn.RuleTools
return function(rules, t)
  local new, spread, is_batched, merged, unmerged, refuse = t.new, t.spread, t.is_batched, t.merged, t.unmerged, t.refuse

  local function as_batched(x, level) return is_batched(x, level) and x or new(spread(x, level), level) end

  --- y plus or times a value for each channel, dimension `from` of the example; both as batched tensors.
  local function per_channel(v, rank, from)
    local shape = {v:size(1)}
    for i = 2, rank - from + 1 do shape[i] = 1 end
    return v:reshape(shape)
  end

  --- (B, N, C, *) -> (N, B C, *): examples among the channels, and back.
  local function to_channels(value)
    local size = value:size()
    return value:transpose(1, 2):reshape{size[2], size[1] * size[3], unpack(size, 4)}
  end
  local function from_channels(y, b)
    local size = y:size()
    return y:reshape{size[1], b, size[2] / b, unpack(size, 3)}:transpose(1, 2)
  end

  -- -- Convolutions and pools ---------------------------------------------------------------------------------------------

  local function place_of(name, parameter)
    for i, p in ipairs(op.named[name].params) do if p.name == parameter then return i end end
  end

  for n = 1, 3 do
    for _, name in ipairs {("conv%dd"):format(n), ("conv_transpose%dd"):format(n)} do
      local groups_at, last = place_of(name, "groups"), #op.named[name].params
      rules[name] = function(level, _, x, weight, bias, ...)
        x = as_batched(x, level)
        local args, y = {x, weight, nil, ...}
        if not is_batched(weight, level) then
          local flat, lead = merged(x, n + 1)
          args[1], args[3] = flat, not is_batched(bias, level) and bias or nil
          y = unmerged(Tensor[name](unpack(args, 1, last)), lead)
          if args[3] or not bias then return y end
        else
          -- A group of channels for each example.
          local single, b = x:dim() == n + 1, t.size(level)
          local value = single and x.value:unsqueeze(2) or x.value
          local w = weight.value:size()
          args[1], args[2] = to_channels(value), weight.value:reshape{b * w[2], unpack(w, 3)}
          args[groups_at] = (args[groups_at] or 1) * b
          y = from_channels(Tensor[name](unpack(args, 1, last)), b)
          if single then y = y:squeeze(2) end
          if not bias then return y end
        end
        y = new(y, level)
        return (y + per_channel(bias, n + 1, 1)).value
      end
    end
    for _, name in ipairs {"max_pool%dd", "avg_pool%dd", "adaptive_max_pool%dd", "adaptive_avg_pool%dd", "max_pool%dd_with_indices",
                           "adaptive_max_pool%dd_with_indices"} do
      name = name:format(n)
      rules[name] = function(_, _, x, ...)
        local flat, lead = merged(x, n + 1)
        local y, index = Tensor[name](flat, ...)
        return unmerged(y, lead), index and unmerged(index, lead)
      end
    end
    local unpool = ("max_unpool%dd"):format(n)
    rules[unpool] = function(level, _, x, indices, kernel_size, stride, padding, output_size)
      local flat, lead = merged(as_batched(x, level), n + 1)
      if output_size then output_size = {unpack(output_size, #output_size - n + 1)} end
      return unmerged(Tensor[unpool](flat, (merged(as_batched(indices, level), n + 1)), kernel_size, stride, padding, output_size), lead)
    end
  end

  function rules.max_pool_pick(level, _, x, index, nd)
    local xs, is = as_batched(x, level), as_batched(index, level)
    local flat, lead = merged(xs, nd)
    return unmerged(ai.f.max_pool_pick(flat, (merged(is, nd)), nd), lead)
  end

  -- -- Norms ------------------------------------------------------------------------------------------------------------------

  --- Norms of channels: of all examples at once, as so many channels. Running means of each example's own are updated; those
  --- that all share can only be read.
  local function of_channels(level, name, x, running_mean, running_var, weight, bias, training, ...)
    local b = t.size(level)
    local updates = training and (running_mean or running_var)
    local function channels(v)
      if not v then return nil end
      return spread(v, level):reshape(-1)
    end
    if updates and not is_batched(running_mean, level) then
      refuse(name, "would update running means that all examples share; map over them too, or evaluate")
    end
    local mean, var = channels(running_mean), channels(running_var)
    local y = Tensor[name](to_channels(spread(x, level)), mean, var, channels(weight), channels(bias), training, ...)
    if updates then
      ai.no_grad(function()
        running_mean.value:copy_(mean:reshape(running_mean.value:size()))
        running_var.value:copy_(var:reshape(running_var.value:size()))
      end)
    end
    return from_channels(y, b)
  end
  function rules.batch_norm(level, name, x, mean, var, weight, bias, training, ...)
    return of_channels(level, name, x, mean, var, weight, bias, training or false, ...)
  end
  function rules.instance_norm(level, name, x, mean, var, weight, bias, training, ...)
    return of_channels(level, name, x, mean, var, weight, bias, training ~= false, ...)
  end

  function rules.group_norm(level, name, x, groups, weight, bias, ...)
    x = as_batched(x, level)
    local flat, lead = merged(x, x:dim() - 1)
    local own = is_batched(weight, level) or is_batched(bias, level)
    local y = unmerged(Tensor[name](flat, groups, not own and weight or nil, not own and bias or nil, ...), lead)
    if not own then return y end
    y = new(y, level)
    if weight then y = y * per_channel(weight, x:dim(), 2) end
    if bias then y = y + per_channel(bias, x:dim(), 2) end
    return y.value
  end

  -- -- Resampling and windows --------------------------------------------------------------------------------------------------

  --- The example's own batch, its first dimension, is taken together with this one.
  local function of_batches(_, name, x, ...)
    local flat, lead = merged(x, #x.shape - 1)
    return unmerged(Tensor[name](flat, ...), lead)
  end
  for _, name in ipairs {"interpolate", "upsample_nearest", "upsample_linear", "upsample_cubic", "local_response_norm", "channel_shuffle", "channels_last"} do
    rules[name] = of_batches
  end

  --- The op takes its own dimensions with or without a batch before them.
  local function before(rank)
    return function(level, name, x, ...)
      if not is_batched(x, level) then refuse(name, "takes a batched argument besides its input") end
      local flat, lead = merged(x, rank)
      return unmerged(Tensor[name](flat, ...), lead)
    end
  end
  rules.im2col, rules.col2im = before(3), before(2)
  rules.stft, rules.istft = before(1), before(3)          -- with one window; rules/written.lua has the others

  --- Eight-bit products: one quantized weight for all examples.
  function rules.quantize(_, name, x, ...) return Tensor[name](x.value, ...) end
  for name, rank in pairs {quantized_linear = 1, quantized_conv2d = 3} do
    rules[name] = function(level, _, x, weight, scale, bias, ...)
      if not is_batched(x, level) or is_batched(weight, level) or is_batched(scale, level) or is_batched(bias, level) then
        refuse(name, "takes one weight, scale and bias for all examples")
      end
      local flat, lead = merged(x, rank)
      return unmerged(Tensor[name](flat, weight, scale, bias, ...), lead)
    end
  end

  function rules.affine_grid(level, _, theta, size, ...)
    local sizes = {unpack(size)}
    sizes[1] = sizes[1] * t.size(level)
    local flat, lead = merged(theta, 2)
    return unmerged(ai.f.affine_grid(flat, sizes, ...), lead)
  end

  function rules.grid_sample(level, _, x, grid, ...)
    local flat, lead = merged(as_batched(x, level), x:dim() - 1)
    return unmerged(Tensor.grid_sample(flat, (merged(as_batched(grid, level), grid:dim() - 1)), ...), lead)
  end

  function rules.embedding(level, name, weight, index, padding_idx, max_norm, norm_type, scale_grad_by_freq)
    if scale_grad_by_freq then refuse(name, "counts how often a row occurs in one example, not in a batch of them") end
    if not is_batched(weight, level) then return ai.f.embedding(weight, index.value, padding_idx, max_norm, norm_type) end
    if max_norm then refuse(name, "renormalises the rows of one table for all examples") end
    local function rows(table)
      local sizes = index:size()
      sizes[#sizes + 1] = table:size(2)
      return ai.f.index_select(table, 1, index:reshape(-1)):reshape(sizes)
    end
    local y = rows(weight)
    if padding_idx then y = ai.f.where(index:eq(padding_idx):unsqueeze(-1), rows(new(weight.value:detach(), level)), y) end
    return y.value
  end

  --- Bags of all examples in one row, into one table: of tables that differ, one below the other.
  function rules.embedding_bag(level, name, weight, index, offsets, max_norm, norm_type, scale_grad_by_freq, mode, weights, last, padding_idx)
    if scale_grad_by_freq then refuse(name, "counts how often a row occurs in one example, not in a batch of them") end
    if last then refuse(name, "with include_last_offset has no rule for a batch") end
    local b, is = t.size(level), spread(index, level)
    local function from(step)                            -- step, 2 step, ... for the second example, the third, ...
      return (ai.arange(b, {dtype = "i64", device = is.device}) - 1):reshape(b, 1) * step
    end
    local table = weight
    if is_batched(weight, level) then
      if max_norm or padding_idx then refuse(name, "with max_norm or padding_idx takes one table for all examples") end
      table = weight.value:flatten(1, 2)
      is = is + (index:dim() == 2 and from(weight:size(1)):unsqueeze(3) or from(weight:size(1)))
    end
    local starts = offsets and (spread(offsets, level) + from(index:size(1))):flatten(1, 2)
    local y = ai.f.embedding_bag(table, is:flatten(1, 2), {
      offsets = starts, max_norm = max_norm, norm_type = norm_type, mode = mode, padding_idx = padding_idx,
      per_sample_weights = weights and spread(weights, level):flatten(1, 2),
    })
    return y:reshape(b, -1, y:size(2))
  end

  rules["embedding_renorm_"] = function(_, _, weight, index, max_norm, norm_type)
    local length = weight:norm(norm_type or 2, 2)
    local seen = (length * 0):scatter(1, index:reshape(-1), 1):gt(0)
    local factor = ai.f.where(seen:logical_and(length:gt(max_norm)), max_norm / (length + 1e-7), 1)
    ai.no_grad(function() weight.value:copy_(spread(weight * factor:unsqueeze(2), weight.level)) end)
  end

  -- -- Recurrent --------------------------------------------------------------------------------------------------------------------

  local function gates(x, w, b) return ai.f.linear(x, w, b) end

  local function lstm_step(g, c)
    local i, forget, new_c, out = unpack(g:chunk(4, -1))
    c = forget:sigmoid() * c + i:sigmoid() * new_c:tanh()
    return out:sigmoid() * c:tanh(), c
  end
  local function gru_step(gx, gh, h)
    local xr, xz, xn = unpack(gx:chunk(3, -1))
    local hr, hz, hn = unpack(gh:chunk(3, -1))
    local z, n = (xz + hz):sigmoid(), (xn + (xr + hr):sigmoid() * hn):tanh()
    return n + z * (h - n)
  end

  function rules.lstm_cell(level, _, x, h, c, w_ih, w_hh, b_ih, b_hh)
    local y, cell = lstm_step(gates(x, w_ih, b_ih) + gates(h, w_hh, b_hh), c)
    return spread(y, level), spread(cell, level)
  end
  function rules.gru_cell(level, _, x, h, w_ih, w_hh, b_ih, b_hh)
    return spread(gru_step(gates(x, w_ih, b_ih), gates(h, w_hh, b_hh), h), level)
  end
  for name, actv in pairs {rnn_tanh_cell = "tanh", rnn_relu_cell = "relu"} do
    rules[name] = function(level, _, x, h, w_ih, w_hh, b_ih, b_hh)
      return spread(ai.f[actv](gates(x, w_ih, b_ih) + gates(h, w_hh, b_hh)), level)
    end
  end

  --- With one weight for all, sequences of all examples side by side; else step by step in time.
  function rules.rnn_layer(level, name, x, h, c, w_hh, b_hh, mode, reverse)
    mode = mode or "lstm"
    local b, steps = t.size(level), x:size(1)
    if not is_batched(w_hh, level) and not is_batched(b_hh, level) then
      local n = x:size(2)
      local function flat(v) return v and spread(v, level):flatten(1, 2) end
      local xs = spread(x, level):transpose(1, 2):reshape(steps, b * n, -1)
      local y, cells = Tensor[name](xs, flat(h), flat(c), w_hh, b_hh, mode, reverse)
      local function back(v) return v and v:dim() == 3 and v:reshape(v:size(1), b, n, v:size(3)):transpose(1, 2) or v end
      return back(y), back(cells)
    end
    local ys, cells = {}, {}
    for i = 1, steps do
      local at = reverse and steps + 1 - i or i
      local xt, gh = x:select(1, at), gates(h, w_hh, b_hh)
      if mode == "lstm" then h, c = lstm_step(xt + gh, c)
      elseif mode == "gru" then h = gru_step(xt, gh, h)
      else h = ai.f[mode == "relu" and "relu" or "tanh"](xt + gh) end
      ys[at], cells[at] = h, c
    end
    local y = ai.stack(ys, 1)
    local cell = mode == "lstm" and ai.stack(cells, 1) or nil
    return spread(y, level), cell and spread(cell, level)
  end
end
