--- vmap's rules for ops that draw random numbers from the program's stream, as the option `randomness` says: for "different"
--- the op runs on all examples, for "same" the draws of one example serve all.

local ai = require "aijit"
local Tensor = require "aijit.bindings.tensor"
local raise = require("aijit.bindings.lib").raise

---@param rules table<string, function>
---@param t aijit.fn.RuleTools
return function(rules, t)
  local function kind_of(level, name)
    local kind = t.randomness(level)
    if kind == "error" then
      raise(("vmap: %s draws random numbers: say fn.vmap(f, {randomness = \"different\"}) for other numbers for each example, or \"same\""):format(name))
    end
    return kind
  end

  --- What drops elements does to each either nothing but a factor and a term, or puts a constant there: two runs with the same
  --- draws, of zeros and of ones, tell both.
  local function dropped(rank)
    return function(level, name, x, p, training)
      if training == false or p == 0 then return x.value end
      if kind_of(level, name) == "different" then
        if not rank then return Tensor[name](x.value, p, true) end
        local flat, lead = t.merged(x, rank)
        return t.unmerged(Tensor[name](flat, p, true), lead)
      end
      local o = {dtype = x.dtype, device = x.device}
      local state = ai.get_random_state()
      local zero = Tensor[name](ai.zeros(x.shape, o), p, true)
      ai.set_random_state(state)
      local one = Tensor[name](ai.ones(x.shape, o), p, true)
      return zero + x.value * (one - zero)
    end
  end
  rules.dropout, rules.alpha_dropout = dropped(), dropped()
  for n = 1, 3 do rules[("dropout%dd"):format(n)] = dropped(n + 1) end

  --- A mask that a seed says: that of one example, for all.
  function rules.dropout_at(_, _, x, p, seed, position)
    return x.value * ai.f.dropout_at(ai.ones(x.shape, {dtype = x.dtype, device = x.device}), p, seed, position)
  end

  function rules.bernoulli(level, name, x)
    if kind_of(level, name) == "different" then return Tensor[name](x.value) end
    return ai.rand(x.shape, {dtype = x.dtype, device = x.device}):lt(x.value):to(x.dtype)
  end

  function rules.multinomial(level, name, x, ...)
    if kind_of(level, name) == "same" then
      t.refuse(name, "draws by weights that differ between the examples, and so has no draws that are the same for all")
    end
    local flat, lead = t.merged(x, 1)
    return t.unmerged(Tensor[name](flat, ...), lead)
  end

  for _, name in ipairs {"normal_", "uniform_", "exponential_", "random_", "bernoulli_"} do
    rules[name] = function(level, _, x, ...)
      for i = 1, select("#", ...) do
        if t.is_batched((select(i, ...)), level) then t.refuse(name, "takes a batched argument besides what it fills") end
      end
      if kind_of(level, name) == "different" then return Tensor[name](x.value, ...) end
      return x.value:copy_(Tensor[name](ai.empty(x.shape, {dtype = x.dtype, device = x.device}), ...))
    end
  end

  function rules.fill_(_, _, x, value) x.value:fill_(value) end
  function rules.copy_(level, _, x, source) x.value:copy_(t.is_batched(source, level) and t.lifted(source, level, x:dim()) or source) end
end
